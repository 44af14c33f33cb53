package driver

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
)

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
		return leader != nil && leader.replica.LeaseValid() && !leader.replica.membership.WantsRepair() && len(leader.machine().Placements()) == 3
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
					who := membership.Sender{}
					if insider {
						who = as.driver.node.Sender()
					}
					payload := appendGroupMessage(appendFrameHeader(nil, 0, who, marked), &outMessage{group: 1, message: m})
					channel := ChannelConsensus
					if marked {
						channel = ChannelMarked
					}
					to.driver.Receive(as.id, channel, payload)
				}
			}
			// It has lost its data, says the message, and is on a disk that is not its own.
			to.driver.Receive(as.id, ChannelIdentity, lostQuestion(from, 99))
			// What the receiver's disk is to have seen, by nobody, or by this very process.
			strange := membership.Mark{Disk: 99, Position: 1 << 40, Processes: []membership.Process{{Began: 5, Instance: 6}}}
			if own := to.driver.node.Sender(); insider {
				// The processes of a new disk: this one only.
				strange = membership.Mark{Disk: own.Disk, Position: own.Position + 1000, Processes: []membership.Process{{Began: 1, Instance: own.Instance}}}
			}
			to.driver.Receive(as.id, ChannelMarks, membership.AppendMarks(nil, []membership.NodeMark{{Node: to.id, Mark: strange}}))
			to.driver.ReceiveDone()
		}
		before := to.driver.Metrics().MessagesRefused
		to.guard(func() { to.driver.Round() })
		if refused := to.driver.Metrics().MessagesRefused - before; refused < 2*8 {
			t.Errorf("node %d refused %d messages", to.id, refused)
		}
	}
	w.run(3*time.Second, nil)
	for _, n := range w.nodes {
		if n.driver.Err() != nil {
			t.Errorf("node %d: %v", n.id, n.driver.Err())
		}
		for i, node := range n.driver.opts.Nodes {
			if newest := n.replica.membership.Newest(node); newest != consensus.ReplicaID(i+1) {
				t.Errorf("node %d takes replica %d for the one of node %d", n.id, newest, node)
			}
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

// lostQuestion asks who a node is whose replica, it says, is lost. Standing 3 is that on the wire.
func lostQuestion(replica consensus.ReplicaID, disk uint64) []byte {
	return membership.AppendMessage(nil, &membership.Message{Kind: membership.KindQuestion, Standing: 3, Group: 1, Site: shard.Site{Disk: disk}, Replica: replica})
}

func (n *simNode) machine() Machine { return n.replica.machine }
