package leadership

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// The language of testdata. There is one replica, on node 1; replica i lives on node i. It has a real core of
// package liveness. All times are milliseconds on its clock; it begins at 500; promises last 300, the election timeout is 500, and
// silent nodes are taken for dead after 10,000.
//
//	replica nodes=3 [group=1] [voters=(1,2,3)] [learners=(4)] [at=ms] [read-quorum]
//	start at=ms                                  it takes part from now on
//	beat node=2 process=7 at=ms [until=ms]       a heartbeat comes; or one each 100 ms, the last one at the end
//	dead node=2 at=ms                            the node's port refuses connections
//	ended node=2 at=ms                           the node's replica says that it does nothing any more
//	advance at=ms                                let time pass
//	tick at=ms                                   may the consensus core, which follows whom it last said, have a tick?
//	role is=follower term=2 [leader=2 [process=7]] at=ms   the consensus core says so
//	candidate node=2 [process=7] term=3 at=ms    may the request reach the consensus core?
//	vouch to=2 term=2                            does a message say that this replica follows?
//	members voters=(1,3) [learners=(2)]          it has applied a membership
//	proposed voters=(1,3) [learners=(2)]         the consensus core knows one that is newer
//	lead [need=2] [outgoing=(1,2,3)] at=ms       the barrier is applied; or the voters have changed
//	promise node=2 generation=1 until=ms         another node promised this
//	acknowledge from=2 generation=1              a replica vouched under that promise
//	lease at=ms                                  does it hold, and can the consensus core do without ticks?
//	transfer to=2 at=ms                          leadership is to be handed over; refused: the consensus core does not do it
//	successor 2/90 3/100[/silent][/snapshot]     who should lead next, with what is known of them
//	forbid                                       a message leaves that may make somebody else the leader
type script struct {
	core     *Core
	live     *liveness.Core
	now      time.Duration
	beats    uint64
	config   consensus.Config // applied
	newest   consensus.Config
	outgoing []consensus.ReplicaID
	need     int
	promised promises
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s *script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "replica" {
				s = newScript(t, d)
			}
			out := s.pass(milliseconds(t, d, "at")) + s.run(t, d) + s.carryOut()
			if err := s.core.Check(); err != nil {
				d.Fatalf(t, "%v", err)
			}
			if out == "" {
				out = "ok\n"
			}
			return out
		})
	})
}

func newScript(t *testing.T, d *datadriven.TestData) *script {
	s := &script{now: max(milliseconds(t, d, "at"), 500*time.Millisecond)}
	s.config = consensus.Config{Voters: replicas(t, d, "voters"), Learners: replicas(t, d, "learners")}
	nodes := int(number(t, d, "nodes"))
	if len(s.config.Voters) == 0 {
		s.config = voters(nodes)
	}
	o := options(nodes)
	o.Group = max(1, consensus.GroupID(number(t, d, "group")))
	o.ReadQuorum = d.HasArg("read-quorum")
	var err error
	s.live, err = liveness.New(liveness.Options{Self: 1, Peers: o.Nodes[1:], Instance: 1, HeartbeatInterval: heartbeat, PromiseDuration: promiseDuration,
		SuspectAfter: 10 * time.Second}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	if s.core, err = New(o, s.live); err != nil {
		t.Fatal(err)
	}
	s.core.Configure(1, s.config)
	s.newest = s.config
	s.promised = make(promises, nodes)
	return s
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "replica":
	case "start":
		s.core.Start(s.now)
	case "beat":
		return s.beat(t, kv.NodeID(number(t, d, "node")), number(t, d, "process"), milliseconds(t, d, "until"))
	case "dead":
		s.live.PeerDown(s.now, kv.NodeID(number(t, d, "node")))
	case "ended":
		s.core.ReplicaEnded(s.now, kv.NodeID(number(t, d, "node")))
	case "advance":
	case "tick":
		if s.core.Tick(s.now, s.core.Role().Leader) {
			return "it may\n"
		}
		return "it may not\n"
	case "role":
		s.role(t, d)
	case "candidate":
		from := Process{Node: kv.NodeID(number(t, d, "node")), Instance: number(t, d, "process")}
		if s.core.HearCandidate(s.now, from, consensus.Term(number(t, d, "term")), s.core.Role().Term) {
			return "heard\n"
		}
		return "not heard\n"
	case "vouch":
		to, role := number(t, d, "to"), s.core.Role()
		view := View{Term: role.Term, Leader: role.Leader}
		if s.core.Vouch(Member{consensus.ReplicaID(to), kv.NodeID(to)}, consensus.Term(number(t, d, "term")), view) {
			return "it does\n"
		}
		return "it does not\n"
	case "members":
		s.config = consensus.Config{Voters: replicas(t, d, "voters"), Learners: replicas(t, d, "learners")}
		s.core.Configure(1, s.config)
		s.newest = s.config
	case "proposed":
		s.newest = consensus.Config{Voters: replicas(t, d, "voters"), Learners: replicas(t, d, "learners")}
	default:
		return s.lead(t, d)
	}
	return ""
}

// lead runs the commands about leaders.
func (s *script) lead(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "lead":
		s.need, s.outgoing = int(number(t, d, "need")), replicas(t, d, "outgoing")
		s.core.Lead(s.electorate())
	case "promise":
		s.promised[number(t, d, "node")-1] = promise{number(t, d, "generation"), milliseconds(t, d, "until")}
	case "acknowledge":
		if s.core.Acknowledge(consensus.ReplicaID(number(t, d, "from")), number(t, d, "generation")) {
			s.core.Reckon(s.electorate())
		}
	case "lease":
		text := "none"
		if l := s.core.Lease(); l != nil {
			text = fmt.Sprint(l.Valid(s.promised, s.now))
		}
		return fmt.Sprintf("holds: %s, without ticks: %v\n", text, s.core.Idle(s.now, s.promised))
	case "forbid":
		s.core.ForbidLease()
	case "transfer":
		to := number(t, d, "to")
		if err := s.core.Transfer(s.now, Member{consensus.ReplicaID(to), kv.NodeID(to)}, s.newest); err != nil {
			return err.Error() + "\n"
		}
	case "refused":
		s.core.TransferRefused(consensus.ErrConfigPending)
	case "successor":
		to, ok := s.core.Successor(s.newest, prospects(t, d))
		return fmt.Sprintf("%d %v\n", to.Replica, ok)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func prospects(t *testing.T, d *datadriven.TestData) (all []Prospect) {
	for _, arg := range d.CmdArgs {
		parts := strings.Split(arg.Key, "/")
		p := Prospect{Replication: consensus.Replication{Active: !slices.Contains(parts, "silent"), Snapshotting: slices.Contains(parts, "snapshot")}}
		if _, err := fmt.Sscan(parts[0], &p.Replica); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(parts[1], &p.Match); err != nil {
			t.Fatal(err)
		}
		p.Node = kv.NodeID(p.Replica)
		all = append(all, p)
	}
	return all
}

func (s *script) electorate() Electorate {
	e := Electorate{Need: s.need}
	for _, id := range s.config.Voters {
		e.Voters = append(e.Voters, Member{id, kv.NodeID(id)})
	}
	for _, id := range s.outgoing {
		e.Outgoing = append(e.Outgoing, Member{id, kv.NodeID(id)})
	}
	return e
}

func (s *script) role(t *testing.T, d *datadriven.TestData) {
	change := consensus.RoleChange{Term: consensus.Term(number(t, d, "term")), Leader: consensus.ReplicaID(number(t, d, "leader"))}
	var name string
	d.ScanArgs(t, "is", &name)
	for role := consensus.RoleFollower; role <= consensus.RoleLearner; role++ {
		if name == role.String() {
			change.Role = role
		}
	}
	if change.Role == consensus.RoleLeader {
		change.Leader = 1
	}
	s.core.RoleChanged(s.now, change, Process{Node: kv.NodeID(change.Leader), Instance: number(t, d, "process")})
}

// beat lets heartbeats of a process come.
func (s *script) beat(t *testing.T, node kv.NodeID, process uint64, until time.Duration) (out string) {
	for {
		s.beats++
		if err := s.live.Receive(s.now, node, liveness.Message{Kind: liveness.KindHeartbeat, Instance: process, Seq: s.beats}); err != nil {
			t.Fatal(err)
		}
		if s.now >= until {
			return out
		}
		out += s.pass(min(s.now+heartbeat, until))
	}
}

// pass lets the time pass, in steps as a driver's rounds do.
func (s *script) pass(until time.Duration) string {
	var b strings.Builder
	for s.now < until {
		s.now = min(s.now+heartbeat/2, until)
		s.live.Advance(s.now)
		ready := s.live.Ready()
		for _, node := range ready.Lapsed {
			fmt.Fprintf(&b, "%d: node %v is lost\n", s.now.Milliseconds(), node)
			s.core.NodeLost(s.now, node, false)
		}
		for _, node := range ready.Restarted {
			fmt.Fprintf(&b, "%d: another process runs at node %v, and what was promised to the one before has ended\n", s.now.Milliseconds(), node)
			s.core.NodeLost(s.now, node, true)
		}
		s.core.Advance(s.now)
		b.WriteString(s.carryOut())
	}
	return b.String()
}

// carryOut prints what the driver would do.
func (s *script) carryOut() string {
	var b strings.Builder
	ready := s.core.Ready()
	if ready.LeaderLost {
		fmt.Fprintf(&b, "%d: leader lost\n", s.now.Milliseconds())
		role := s.core.Role()
		s.core.RoleChanged(s.now, consensus.RoleChange{Role: role.Role, Term: role.Term}, Process{})
	}
	if ready.Campaign {
		fmt.Fprintf(&b, "%d: campaign\n", s.now.Milliseconds())
	}
	if ready.Transfer != 0 {
		fmt.Fprintf(&b, "%d: hand over to replica %d\n", s.now.Milliseconds(), ready.Transfer)
	}
	if done := ready.Transferred; done != nil {
		fmt.Fprintf(&b, "%d: the hand-over to replica %d is over: %v\n", s.now.Milliseconds(), done.To.Replica, done.Err)
	}
	if ready.LeaderLost || ready.Campaign {
		if due := s.core.Due(); due != 0 {
			fmt.Fprintf(&b, "next campaign at %d\n", due.Milliseconds())
		}
		if f := s.core.following.leader; f.Node != 0 {
			fmt.Fprintf(&b, "still follows node %v\n", f.Node)
		}
	}
	return b.String()
}

func number(t *testing.T, d *datadriven.TestData, key string) (n uint64) {
	d.MaybeScanArgs(t, key, &n)
	return n
}

func milliseconds(t *testing.T, d *datadriven.TestData, key string) time.Duration {
	return time.Duration(number(t, d, key)) * time.Millisecond
}

func replicas(t *testing.T, d *datadriven.TestData, key string) (ids []consensus.ReplicaID) {
	for _, arg := range d.CmdArgs {
		if arg.Key != key {
			continue
		}
		for i := range arg.Vals {
			var id uint64
			arg.Scan(t, i, &id)
			ids = append(ids, consensus.ReplicaID(id))
		}
	}
	return ids
}
