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
	for _, paxos := range []bool{false, true} {
		for _, insider := range []bool{false, true} {
			t.Run(fmt.Sprintf("paxos=%v/insider=%v", paxos, insider), func(t *testing.T) { forgeEverything(t, paxos, insider) })
		}
	}
}

// forgeEverything: an insider knows the sender's disk and process.
func forgeEverything(t *testing.T, isPaxos, insider bool) {
	c := servingCluster(t, 3, isPaxos, time.Millisecond, nil)
	settled := func() bool {
		leader := c.leader()
		return leader != nil && leader.replica.LeaseValid() && !leader.replica.membership.WantsRepair() && len(leader.replica.machine.Placements()) == 3
	}
	c.await("that it is known on which disks they are", settled)
	c.run(2*time.Second, nil)
	if !settled() {
		t.Fatal("the cluster does not settle")
	}
	heartbeat, election, snapshot := raft.KindHeartbeat, raft.KindVote, raft.KindSnapshot
	if isPaxos {
		heartbeat, election, snapshot = paxos.KindHeartbeat, paxos.KindPrepare, paxos.KindSnapshot
	}
	leader := c.leader()
	term := leader.replica.core.Status().Term
	for _, to := range c.nodes {
		for _, as := range c.nodes {
			if as == to {
				continue
			}
			from := consensus.ReplicaID(as.index + 1)
			absurd := term + 1<<61
			if isPaxos {
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
			if !isPaxos && insider {
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
		to.driver.Round()
		if refused := to.driver.Metrics().MessagesRefused - before; refused < 2*8 {
			t.Errorf("node %d refused %d messages", to.id, refused)
		}
	}
	c.run(3*time.Second, nil)
	for _, n := range c.nodes {
		if n.driver.Err() != nil {
			t.Errorf("node %d: %v", n.id, n.driver.Err())
		}
		for i, node := range n.driver.opts.Nodes {
			if newest := n.replica.membership.Newest(node); newest != consensus.ReplicaID(i+1) {
				t.Errorf("node %d takes replica %d for the one of node %d", n.id, newest, node)
			}
		}
	}
	leader = c.leader()
	if leader == nil {
		t.Fatal("nobody leads")
	}
	if now := leader.replica.core.Status().Term; now > term+1<<20 {
		t.Errorf("term %d, it was %d", now, term)
	}
	for i, p := range leader.replica.machine.Placements() {
		if p.Replica != consensus.ReplicaID(i+1) {
			t.Errorf("%+v", p)
		}
	}
	done := false
	leader.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, nil, func(_ *kv.Response, _ uint64, err error) { done = err == nil })
	c.run(3*time.Second, func() bool { return done })
	if !done {
		t.Error("a write is not answered")
	}
}

// lostQuestion asks who a node is whose replica, it says, is lost. Standing 3 is that on the wire.
func lostQuestion(replica consensus.ReplicaID, disk uint64) []byte {
	return membership.AppendMessage(nil, &membership.Message{Kind: membership.KindQuestion, Standing: 3, Group: 1, Site: shard.Site{Disk: disk}, Replica: replica})
}
