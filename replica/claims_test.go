package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

func TestJudgeSender(t *testing.T) {
	for _, c := range []struct {
		sender  sender
		version uint16
		good    bool
	}{
		{sender{}, 0, false},
		{sender{}, 2, false},
		{sender{}, 3, false},
		{sender{instance: 7, position: 5}, 3, false},
		{sender{disk: 9}, 0, false}, // it may be a node of version 2, or not; once it is connected to, that is known
		{sender{disk: 9}, 2, true},
		{sender{disk: 9}, 3, false},
		{sender{instance: 7, disk: 9, position: 5}, 0, true}, // witness judges the rest
		{sender{instance: 7, disk: 9, position: 5}, 2, true}, // it was downgraded, and this is late; or it was upgraded
		{sender{instance: 7, disk: 9, position: 5}, 3, true},
	} {
		if err := judgeSender(c.sender, c.version); (err == nil) != c.good {
			t.Errorf("%+v of version %d: %v", c.sender, c.version, err)
		}
	}
}

// A leader that has reason to say that entries are lost here says so again and again; one message is no proof, nor are two far apart.
func TestLossClaim(t *testing.T) {
	const patience = time.Second
	for _, c := range []struct {
		what   string
		every  time.Duration
		change bool // the leader or its term
		want   bool
	}{
		{"once", time.Hour, false, false},
		{"with each heartbeat", 100 * time.Millisecond, false, true},
		{"now and then", 600 * time.Millisecond, false, false},
		{"by others", 100 * time.Millisecond, true, false},
	} {
		var claim lossClaim
		if claim.pending(0, patience) {
			t.Error("pending before anybody said so")
		}
		confirmed := false
		for i := range consensus.Term(40) {
			term := consensus.Term(2)
			if c.change {
				term += i
			}
			now := time.Duration(i+1) * c.every
			confirmed = claim.repeated(1, term, now, patience) || confirmed
			if !claim.pending(now, patience) || claim.pending(now+patience, patience) {
				t.Errorf("%s: it is pending for another time", c.what)
			}
		}
		if confirmed != c.want {
			t.Errorf("%s: confirmed: %v", c.what, confirmed)
		}
	}
}

func TestMayBeNewer(t *testing.T) {
	for _, c := range []struct {
		id   consensus.ReplicaID
		disk uint64
		want bool
	}{
		{3, 9, false}, {4, 9, true}, {4, 5, false}, {shard.MaxReplicaID, 9, true}, {shard.MaxReplicaID + 1, 9, false},
	} {
		if got := mayBeNewer(c.id, 3, shard.Placement{Node: 1, Replica: 1, Disk: 5}, c.disk); got != c.want {
			t.Errorf("replica %d on disk %d: %v", c.id, c.disk, got)
		}
	}
}

// TestForgedMessages: what a stranger on the port could say, one message of each kind to each node in the name of each other. All are refused and
// counted, nobody stops, nobody is replaced, and the cluster goes on.
func TestForgedMessages(t *testing.T) {
	for _, protocol := range []*paxosQuorums{nil, {}} {
		for _, insider := range []bool{false, true} {
			t.Run(fmt.Sprintf("paxos=%v/insider=%v", protocol != nil, insider), func(t *testing.T) { forgeEverything(t, protocol, insider) })
		}
	}
}

// forgeEverything: an insider knows the sender's disk and process.
func forgeEverything(t *testing.T, protocol *paxosQuorums, insider bool) {
	w := newWorld(t, worldOptions{seed: 1, nodes: 3, paxos: protocol})
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() bool {
		leader := w.leader()
		return leader != nil && leader.replica.LeaseValid() && !leader.replica.unsettled && len(leader.machine().Placements()) == 3
	}
	w.run(5*time.Second, settled)
	w.run(2*time.Second, nil)
	if !settled() {
		t.Fatal("the cluster does not settle")
	}
	heartbeat, election, snapshot := raft.KindHeartbeat, raft.KindVote, raft.KindSnapshot
	if protocol != nil {
		heartbeat, election, snapshot = paxos.KindHeartbeat, paxos.KindPrepare, paxos.KindSnapshot
	}
	leader := w.leader()
	term := leader.replica.core.Status().Term
	for _, to := range w.nodes {
		for _, as := range w.nodes {
			if as == to {
				continue
			}
			from := consensus.ReplicaID(as.index + 1)
			absurd := term + 1<<61
			if protocol != nil {
				absurd = absurd&^0xffff | consensus.Term(from)
			}
			messages := []consensus.Message{
				{Kind: heartbeat, Term: 1, Commit: 1 << 40},
				{Kind: heartbeat, Term: absurd},
				{Kind: election, Class: consensus.ClassElection, Term: absurd},
				{From: 4, Kind: heartbeat, Term: term}, // a newer replica of the node
				{From: 65535, Kind: heartbeat, Term: term},
				{Kind: snapshot, Class: consensus.ClassSnapshot, Term: term, Snapshot: &consensus.SnapshotMeta{Index: 1 << 50, Term: term, Config: consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}}},
			}
			if protocol == nil && insider {
				messages = append(messages, consensus.Message{Kind: heartbeat, Term: term, Commit: 1 << 40})
			}
			for _, m := range messages {
				if m.From == 0 {
					m.From = from
				}
				m.To = consensus.ReplicaID(to.index + 1)
				for _, marked := range []bool{false, true} {
					who := sender{}
					if insider {
						who = sender{instance: as.store.opts.Instance, disk: as.store.opts.Disk, position: as.store.marks.own.position}
					}
					payload := appendGroupMessage(appendFrameHeader(nil, 0, who, marked), &outMessage{group: 1, message: m})
					channel := ChannelConsensus
					if marked {
						channel = ChannelMarked
					}
					to.store.Receive(as.id, channel, payload)
				}
			}
			// It has lost its data, says the message, and is on a disk that is not its own.
			to.store.Receive(as.id, ChannelIdentity, appendIdentity(nil, &identityMessage{kind: identityQuestion, standing: standingLost, group: 1, disk: 99, replica: from}))
			// What the receiver's disk is to have seen, by nobody, or by this very process.
			own := to.store.marks.own
			strange := mark{disk: 99, position: 1 << 40, processes: []process{{5, 6}}}
			if insider {
				strange = mark{disk: own.disk, position: own.position + 1000, processes: own.processes}
			}
			to.store.Receive(as.id, ChannelMarks, appendMark(nil, to.id, &strange))
			to.store.ReceiveDone()
		}
		before := to.store.Metrics().MessagesRefused
		to.guard(func() { to.store.Round() })
		if refused := to.store.Metrics().MessagesRefused - before; refused < 2*8 {
			t.Errorf("node %d refused %d messages", to.id, refused)
		}
	}
	w.run(3*time.Second, nil)
	for _, n := range w.nodes {
		if n.store.Err() != nil || len(n.replica.learned) > 0 {
			t.Errorf("node %d: %v; it takes %v for newer", n.id, n.store.Err(), n.replica.learned)
		}
	}
	leader = w.leader()
	if leader == nil {
		t.Fatal("nobody leads")
	}
	if now := leader.replica.core.Status().Term; now > term+1<<20 {
		t.Errorf("term %d, it was %d", now, term)
	}
	for i, p := range leader.machine().Placements() {
		if p.Replica != consensus.ReplicaID(i+1) {
			t.Errorf("%+v", p)
		}
	}
	done := false
	leader.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, nil, func(_ *kv.Response, _ uint64, err error) { done = err == nil })
	w.run(3*time.Second, func() bool { return done })
	if !done {
		t.Error("a write is not answered")
	}
}

func (n *simNode) machine() Machine { return n.replica.machine }
