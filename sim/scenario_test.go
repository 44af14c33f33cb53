package sim

import (
	cryptorand "crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// TestScenarios runs the stories in testdata: clusters whose time and faults are told step by step, and whose drivers are asked directly, without
// clients and gateways in between. Commands, where NODE is a number, "leader", or "old" (which was cut off or went down last):
//
//	cluster nodes=N [retain=N] [seed=N] [paxos=1] [started=N]   a new cluster; waits until somebody leads
//	run 500ms                             lets the time pass
//	put NODE key value                    asks, does not wait; "value*" writes forty keys
//	get NODE key                          a linearizable read
//	answers                               what was answered since the last time
//	crash | restart | cut | heal | pause NODE [from=NODE]
//	delay NODE 150ms                      what it sends from now on takes so long
//	slow NODE 500ms                       how long its disk takes for a sync from now on
//	wipe | lose NODE                      crashes and has empty disks from now on; lose: and knows that it had something
//	cut-log NODE N                        takes the last entries from the log of a node that is down
//	lose-log NODE                         empties the log of a node that is down, and leaves its state
//	transfer NODE                         the leader hands over to it; "answers" says how that ended
//	hand-over NODE                        it is about to stop, and hands over what it leads
//	image NODE                            remembers its disks as they are; put-back NODE: crashes and has them so from now on
//	members                               the membership as the leader knows it; disk 1.2 is the second one of node 1
//	standing                              what every node says of its own part
//	witnesses                             whose disk is confirmed by others
//	stops                                 waits, and tells who stopped, and why
//	await                                 until all nodes are up to date and everybody is answered
//	status                                who leads, by whom it is known, where the logs begin
//
// Whatever happens is held against the truth, as in every run, and the answers against the oracle in the end.
func TestScenarios(t *testing.T) {
	before := cryptorand.Reader // see election
	defer func() { cryptorand.Reader = before }()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{t: t}
		datadriven.RunTest(t, path, s.run)
		s.finish()
	})
}

type scenario struct {
	t       *testing.T
	w       *world
	old     *node
	images  map[*node]*memoryDisks
	answers []string
	stops   []string
	open    map[int]history.Operation // asked and not answered, by number
	asked   int
}

// begin makes a cluster, of which some nodes are started.
func (s *scenario) begin(p Plan, started int) {
	s.finish()
	s.old, s.images, s.answers, s.stops, s.open, s.asked = nil, map[*node]*memoryDisks{}, nil, nil, map[int]history.Operation{}, 0
	s.w = commanded(p, func(n *node, err error) { s.stops = append(s.stops, fmt.Sprintf("node %d: %v\n", n.id, err)) })
	for _, n := range s.w.nodes[:min(started, len(s.w.nodes))] {
		n.start()
	}
	s.w.runUntil(6*time.Second, 5*time.Millisecond, func() bool {
		leader := s.w.groups[0].leader()
		return leader != nil && leader.replica.LeaseValid() && (started < len(s.w.nodes) || s.w.groups[0].whole())
	})
	s.old = s.w.leads()
}

// commanded is a world in which nodes start only when they are told to. It tells of those that stop by themselves.
func commanded(p Plan, stopped func(*node, error)) *world {
	w := newWorld(p, RunOptions{})
	cryptorand.Reader = chance{w.source(sourceElection, 0)}
	w.stopped = func(n *node, err error) {
		w.takeDown(n)
		stopped(n, err)
	}
	return w
}

// leads is the node that leads the first shard; nil: there is none.
func (w *world) leads() *node {
	if leader := w.groups[0].leader(); leader != nil {
		return leader.node
	}
	return nil
}

// scenarioPlan has small limits and no clients.
func scenarioPlan() Plan {
	return Plan{Seed: 1, Protocol: Raft, Engine: Memory, Nodes: 3, Duration: time.Second, Limits: Limits{
		RetainLogEntries: 30, FlushLogBytes: 4 << 10, FlushChunkRows: 4, MaxInflight: 1, MaxDirtyKeys: 12, MaxMessageBytes: 1 << 10, MaxUncommittedBytes: 256 << 20,
		WatchRingRecords: 1000, Heartbeat: 100 * time.Millisecond,
	}}
}

// finish holds the answers of the cluster before, if there was one, against the oracle.
func (s *scenario) finish() {
	if s.w == nil {
		return
	}
	for _, o := range s.open {
		s.note(o, nil, workload.ErrConnection)
	}
	if s.w.verdict == "" {
		s.w.groups[0].complete()
		for _, problem := range oracle.Check(s.w.groups[0].history) {
			s.t.Error(problem)
		}
	}
	s.w.finish()
}

func (s *scenario) node(name string) *node {
	switch name {
	case "leader":
		return s.w.leads()
	case "old":
		return s.old
	}
	n := s.number(name)
	if n < 1 || n > len(s.w.nodes) {
		s.t.Fatalf("no node %q", name)
	}
	return s.w.nodes[n-1]
}

// number is that of a node, which need not exist.
func (s *scenario) number(name string) (n int) {
	if _, err := fmt.Sscan(name, &n); err != nil {
		s.t.Fatalf("no node %q", name)
	}
	return n
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	if d.Cmd == "cluster" {
		s.cluster(d)
		return s.check("")
	}
	var args []string
	for _, a := range d.CmdArgs {
		args = append(args, a.Key)
	}
	text := ""
	switch d.Cmd {
	case "run":
		s.w.runUntil(s.w.now+s.duration(args[0]), time.Second, nil)
	case "answers":
		text, s.answers = strings.Join(s.answers, "\n")+"\n", nil
	case "put", "get", "hand-over":
		s.ask(d.Cmd, args)
	case "transfer":
		s.transfer(args[0])
	case "members", "standing", "witnesses", "stops", "status":
		text = s.tell(d.Cmd)
	case "await":
		s.w.heal()
		s.w.compare()
	default:
		text = s.command(d.Cmd, s.node(args[0]), args[1:])
	}
	return s.check(text)
}

// check ends every command: the truth must be content.
func (s *scenario) check(text string) string {
	if s.w.verdict != "" {
		text += "WRONG: " + s.w.problem + "\n"
	}
	var names []string
	for _, n := range s.w.nodes {
		for disk := range n.diskCount {
			id, name := uint64(n.id)<<32|(disk+1), fmt.Sprintf("%d.%d", n.id, disk+1)
			names = append(names, fmt.Sprint(id), name, fmt.Sprintf("%x", id), name)
		}
	}
	return strings.NewReplacer(names...).Replace(text)
}

func (s *scenario) cluster(d *datadriven.TestData) {
	p, started := scenarioPlan(), maxNodes
	for _, a := range d.CmdArgs {
		var v int
		a.Scan(s.t, 0, &v)
		switch a.Key {
		case "nodes":
			p.Nodes = v
		case "retain":
			p.Limits.RetainLogEntries = uint64(v)
		case "seed":
			p.Seed = uint64(v)
		case "paxos":
			p.Protocol = Paxos
		case "started":
			started = v
		default:
			s.t.Fatalf("a cluster has no %q", a.Key)
		}
	}
	s.begin(p, started)
}

// command does something to a node.
func (s *scenario) command(command string, n *node, args []string) string {
	switch command {
	case "restart":
		s.stops = nil
		n.start()
		return strings.Join(s.stops, "")
	case "heal":
		s.eachOther(n, s.w.net.unblock)
		return ""
	case "delay":
		for _, other := range s.w.others(n, 0) {
			s.w.net.link(n, other).delay = s.duration(args[0])
		}
		return ""
	case "slow":
		n.slow.least = s.duration(args[0])
		return ""
	}
	s.old = n
	switch command {
	case "crash":
		s.w.takeDown(n)
	case "cut":
		s.eachOther(n, s.w.net.block)
	case "pause":
		n.frozenUntil = s.w.now + s.duration(args[0])
	default:
		s.changeDisks(command, n, args)
	}
	return ""
}

func (s *scenario) eachOther(n *node, do func(from, to *node)) {
	for _, other := range s.w.others(n, 0) {
		do(n, other)
		do(other, n)
	}
}

// tell describes the cluster.
func (s *scenario) tell(what string) (text string) {
	switch what {
	case "members":
		m := s.w.groups[0].leader().machine
		text = m.Config().String() + "\n"
		for _, p := range m.Placements() {
			text += fmt.Sprintf("replica %d on disk %d of node %v\n", p.Replica, p.Disk, p.Node)
		}
		return text
	case "stops":
		s.w.runUntil(s.w.now+5*time.Second, time.Second, nil)
		slices.Sort(s.stops)
		text = strings.Join(s.stops, "")
		s.stops = nil
		return text
	}
	for _, n := range s.w.nodes {
		text += fmt.Sprintf("node %d: ", n.id)
		if !n.up {
			text += "down\n"
			continue
		}
		switch what {
		case "standing":
			text += n.parts[0].replica.Standing() + "\n"
		case "witnesses":
			if missing := n.store.Unwitnessed(); len(missing) > 0 {
				text += fmt.Sprintf("not confirmed, %v might know better\n", missing)
			} else {
				text += "confirmed\n"
			}
		case "status":
			leader, _ := n.parts[0].replica.Leader()
			text += fmt.Sprintf("leader %d, serves %v, lease %v, applied %d\n", uint64(leader), n.parts[0].replica.IsLeader(), n.parts[0].replica.LeaseValid(), n.parts[0].replica.Applied())
		}
	}
	return text
}
