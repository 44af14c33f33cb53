package driver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// oneWay is how long a frame takes in the tests of hand-overs: so long that nothing else counts.
const oneWay = 10 * time.Millisecond

// write is a put by a client of a node. The node asks whom it takes for the leader. If that one does not lead, it asks whom that one takes for it, or waits
// until it hears of another, as gateways do.
func write(c *cluster, home *clusterNode, key string, done func(took time.Duration, err error)) {
	began := c.now
	req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(key)}}
	var attempt func(hint, refused kv.NodeID, in uint64)
	attempt = func(hint, refused kv.NodeID, in uint64) {
		leader, term := home.replica.Leader()
		switch {
		case hint != 0 && hint != refused && hint != home.id:
			leader = hint
		case leader == 0 || leader == refused && term <= in, leader == home.id && !home.replica.IsLeader():
			c.at(500*time.Microsecond, func() { attempt(0, refused, in) })
			return
		}
		way := oneWay
		if leader == home.id {
			way = 0
		}
		c.at(way, func() {
			c.nodes[leader-1].replica.Propose(req, nil, func(_ *kv.Response, _ uint64, err error) {
				hint, _ := c.nodes[leader-1].replica.Leader()
				c.at(way, func() {
					if errors.Is(err, kv.ErrNotLeader) {
						attempt(hint, leader, term)
						return
					}
					done(c.now-began, err)
				})
			})
		})
	}
	attempt(0, 0, 0)
}

// TestHandOverDelaysWrites: a node that stops in order hands over first. A write that goes to a leader elsewhere usually takes 4 ways of a frame. How many
// more the longest one takes depends on where its client is.
//
// With three nodes the word to the successor takes 1, and the vote of who led comes with it, so that it leads. Its first entry is decided after 2 more, and
// then it serves. A client of the node that stops has its write there by then: 1 + 2, and 3 until it has the answer, are 6. That of a third node has sent its
// write 1 before the word left. With five nodes another vote is needed, which takes 2.
func TestHandOverDelaysWrites(t *testing.T) {
	for _, of := range []struct {
		nodes                   int
		stopping, heir, another int
	}{{3, 2, 2, 3}, {5, 4, 4, 5}} {
		for name, paxos := range map[string]bool{"raft": false, "paxos": true} {
			t.Run(fmt.Sprint(name, of.nodes), func(t *testing.T) {
				c := servingCluster(t, of.nodes, paxos, oneWay, func(o *Options) { o.MaxInflight = 64 })
				leader := c.leader()
				usual, longest := delaysOfWrites(t, c, leader)
				heir := c.leader()
				for _, n := range c.nodes {
					more := of.another
					switch n {
					case leader:
						more = of.stopping
					case heir:
						more = of.heir
					}
					t.Logf("node %d: a write takes %v at most, and %v at most when leadership is handed over from node %d to node %d", n.id, usual[n.index], longest[n.index], leader.id, heir.id)
					if allowed := time.Duration(4+more)*oneWay + 4*time.Millisecond; longest[n.index] > allowed {
						t.Errorf("a write of a client of node %d took %v, more than %v", n.id, longest[n.index], allowed)
					}
				}
			})
		}
	}
}

// delaysOfWrites lets a client of every node write all the time while the leader hands over, and tells for each the longest that a write took, long before
// that and in all.
func delaysOfWrites(t *testing.T, c *cluster, leader *clusterNode) (usual, longest []time.Duration) {
	usual, longest = make([]time.Duration, len(c.nodes)), make([]time.Duration, len(c.nodes))
	over, open := false, 0
	for i := range 400 {
		if i == 200 {
			leader.driver.HandOver(func(err error) {
				if over = true; err != nil {
					t.Errorf("the hand-over: %v", err)
				}
				if n := leader.replica.rounds.len(); n > 0 {
					t.Errorf("the hand-over is over, and the fates of %d proposals are not known", n)
				}
			})
		}
		for at, home := range c.nodes {
			open++
			write(c, home, fmt.Sprint(home.id, i), func(took time.Duration, err error) {
				if open--; err != nil {
					t.Errorf("write %d of a client of node %d: %v", i, home.id, err)
				}
				if longest[at] = max(longest[at], took); i < 100 {
					usual[at] = longest[at]
				}
			})
		}
		for range 4 {
			c.step(500 * time.Microsecond)
		}
	}
	c.await("answers", func() bool { return open == 0 })
	if !over || leader.replica.IsLeader() || c.leader() == nil {
		t.Fatal("the leader did not hand over")
	}
	return usual, longest
}

// TestHandOverWaitsForFates: the disk of a leader that stops stands still. The others lead at once, but what the leader proposed is applied there only when it
// is durable there, too, and until then its clients cannot be told what became of it. The hand-over is over when they can.
func TestHandOverWaitsForFates(t *testing.T) {
	for name, paxos := range map[string]bool{"raft": false, "paxos": true} {
		t.Run(name, func(t *testing.T) {
			var stands kv.NodeID // whose disk stands still
			var held []func()
			c := servingCluster(t, 3, paxos, oneWay, func(o *Options) {
				self, spawn := o.Self, o.Spawn
				o.Spawn = func(work func()) {
					if stands == self {
						held = append(held, work)
						return
					}
					spawn(work)
				}
			})
			leader := c.leader()
			stands, leader.driver.slowUntil = leader.id, time.Hour
			var fates []error
			for i := range 3 {
				leader.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Append(nil, i)}}, nil, func(_ *kv.Response, _ uint64, err error) { fates = append(fates, err) })
			}
			c.step(500 * time.Microsecond) // they are proposed
			over := false
			leader.driver.HandOver(func(err error) {
				if over = true; err != nil || len(fates) != 3 {
					t.Errorf("the hand-over is over with %v, and %d fates are known", err, len(fates))
				}
			})
			c.await("another leader", func() bool { next := c.leader(); return next != nil && next != leader && !leader.replica.IsLeader() })
			c.run(50*time.Millisecond, nil)
			t.Logf("%d fates are known while the disk stands still", len(fates))
			stands = 0
			leader.jobs = append(leader.jobs, held...)
			c.await("the end of the hand-over", func() bool { return over })
			for _, err := range fates {
				if err != nil {
					t.Errorf("a write ended with %v", err)
				}
			}
		})
	}
}

// TestHandOverOfTheElected: a node is stopped that was elected a moment ago, and cannot serve yet. It hands over when it can, and the others need not miss it.
func TestHandOverOfTheElected(t *testing.T) {
	for name, paxos := range map[string]bool{"raft": false, "paxos": true} {
		t.Run(name, func(t *testing.T) {
			c := servingCluster(t, 3, paxos, oneWay, nil)
			first := c.leader()
			second := c.nodes[(first.index+1)%3]
			elect := func(from, to *clusterNode) {
				from.replica.Transfer(to.id, func(error) {})
				for end := c.now + time.Second; to.replica.role.Role != consensus.RoleLeader && c.now < end; {
					c.step(100 * time.Microsecond)
				}
				if to.replica.role.Role != consensus.RoleLeader || to.replica.IsLeader() {
					t.Fatalf("the role is %v, and it serves: %v", to.replica.role.Role, to.replica.IsLeader())
				}
			}
			elect(first, second)
			over := false
			second.driver.HandOver(func(err error) {
				if over = true; err != nil || second.replica.role.Role == consensus.RoleLeader {
					t.Errorf("the hand-over is over with %v, and the role is %v", err, second.replica.role.Role)
				}
			})
			c.await("the end of the hand-over", func() bool { return over })
			// The same with nobody to hand over to: the others are gone before it can serve.
			c.await("a leader", func() bool { return c.leader() != nil })
			last := c.leader()
			next := c.nodes[(last.index+1)%3]
			elect(last, next)
			for _, n := range c.nodes {
				n.up = n == next
			}
			over = false
			next.driver.HandOver(func(err error) { over = true })
			c.await("the end of a hand-over that is in vain", func() bool { return over })
		})
	}
}

// TestElectedLetsWritesWait: who was elected lets writes wait until it serves, and refuses them if that does not come to pass.
func TestElectedLetsWritesWait(t *testing.T) {
	for name, paxos := range map[string]bool{"raft": false, "paxos": true} {
		t.Run(name, func(t *testing.T) {
			c := servingCluster(t, 3, paxos, oneWay, nil)
			first := c.leader()
			second := c.nodes[(first.index+1)%3]
			elect := func(from, to *clusterNode) (answered *bool, fate *error) {
				from.replica.Transfer(to.id, func(error) {})
				for end := c.now + time.Second; to.replica.role.Role != consensus.RoleLeader && c.now < end; {
					c.step(100 * time.Microsecond)
				}
				answered, fate = new(bool), new(error)
				queued := to.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}}, nil, func(_ *kv.Response, _ uint64, err error) {
					*answered, *fate = true, err
				})
				if to.replica.IsLeader() || !queued || *answered {
					t.Fatalf("serves: %v; queued: %v; answered: %v", to.replica.IsLeader(), queued, *answered)
				}
				return answered, fate
			}
			answered, fate := elect(first, second)
			c.await("the answer", func() bool { return *answered })
			if *fate != nil || !second.replica.IsLeader() {
				t.Fatalf("the write ended with %v, it serves: %v", *fate, second.replica.IsLeader())
			}
			next := c.nodes[(second.index+1)%3]
			answered, fate = elect(second, next)
			next.cut = true
			c.await("a refusal", func() bool { return *answered })
			if !errors.Is(*fate, kv.ErrNotLeader) {
				t.Fatalf("the write ended with %v", *fate)
			}
		})
	}
}

// TestTransferIsRefused: what the core of consensus refuses is told, and nothing is left of it.
func TestTransferIsRefused(t *testing.T) {
	c := servingCluster(t, 3, false, oneWay, nil)
	leader := c.leader()
	follower := c.nodes[(leader.index+1)%3]
	var got []error
	ask := func(at *clusterNode, to kv.NodeID) {
		at.replica.Transfer(to, func(err error) { got = append(got, err) })
	}
	ask(follower, leader.id)
	c.run(50*time.Millisecond, nil)
	core := leader.replica.core
	leader.replica.core = refusing{core, consensus.ErrConfigPending}
	ask(leader, follower.id)
	c.run(50*time.Millisecond, nil)
	leader.replica.core = refusing{core, consensus.ErrNotLeader}
	ask(leader, follower.id)
	c.run(50*time.Millisecond, nil)
	leader.replica.core = core
	want := []error{kv.ErrNotLeader, kv.ErrBadTransferee, kv.ErrNotLeader}
	for i := range want {
		if len(got) <= i || !errors.Is(got[i], want[i]) {
			t.Fatalf("answers %v, want %v", got, want)
		}
	}
	// Two that ask for the same get the same answer; who asks for another meanwhile is refused.
	got = nil
	third := c.nodes[(leader.index+2)%3]
	ask(leader, follower.id)
	ask(leader, follower.id)
	ask(leader, third.id)
	c.run(500*time.Millisecond, nil)
	if len(got) != 3 || !errors.Is(got[0], kv.ErrTooManyRequests) || got[1] != nil || got[2] != nil || !follower.replica.IsLeader() {
		t.Fatalf("answers %v, node %d leads: %v", got, follower.id, follower.replica.IsLeader())
	}
	// Whoever waits when the driver stops is answered.
	got = nil
	ask(follower, third.id)
	follower.driver.Round()
	if follower.driver.Close(); len(got) != 1 || !errors.Is(got[0], kv.ErrStopped) {
		t.Fatalf("answers at the stop: %v", got)
	}
}

// TestTransferUnlessBehind: leadership goes to a replica only if that one has nearly everything, and answers.
func TestTransferUnlessBehind(t *testing.T) {
	c := servingCluster(t, 3, false, time.Millisecond, nil)
	leader := c.leader()
	follower, third := c.nodes[(leader.index+1)%3], c.nodes[(leader.index+2)%3]
	transfer := func(at *clusterNode, to kv.NodeID) (err error) {
		ended := false
		at.replica.TransferUnlessBehind(to, 5, func(e error) { ended, err = true, e })
		c.await("an answer", func() bool { return ended })
		return err
	}
	if err := transfer(follower, leader.id); !errors.Is(err, kv.ErrNotLeader) {
		t.Errorf("by a follower: %v", err)
	}
	if err := transfer(leader, 99); !errors.Is(err, kv.ErrBadTransferee) {
		t.Errorf("to nobody: %v", err)
	}
	third.cut = true
	written := 0
	for i := range 20 {
		write(c, leader, fmt.Sprint(i), func(_ time.Duration, err error) {
			if written++; err != nil {
				t.Error(err)
			}
		})
		c.step(5 * time.Millisecond)
	}
	c.await("the writes", func() bool { return written == 20 })
	third.cut = false // it has yet to get what it lacks
	if err := transfer(leader, third.id); !errors.Is(err, kv.ErrBadTransferee) {
		t.Errorf("to a replica that lags: %v", err)
	}
	if !leader.replica.IsLeader() {
		t.Fatal("the leader is gone")
	}
	if err := transfer(leader, follower.id); err != nil {
		t.Errorf("to a replica that has everything: %v", err)
	}
	c.await("the new leader", follower.replica.IsLeader)
	if keys, err := follower.replica.Keys(); err != nil || keys != 20 || follower.replica.Effects() != 20 || follower.replica.Shard() != 1 {
		t.Errorf("%d keys, %d effects of shard %d, %v", keys, follower.replica.Effects(), follower.replica.Shard(), err)
	}
	before := follower.replica.Reads()
	if _, err := follower.replica.Read(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("1")}, Serializable: true}}); err != nil {
		t.Error(err)
	}
	follower.replica.View().Close()
	if _, err := follower.replica.Keys(); err != nil {
		t.Error(err)
	}
	if read := follower.replica.Reads() - before; read != 2 {
		t.Errorf("a read and a view count as %d", read)
	}
}

// refusing is a core that hands over to nobody.
type refusing struct {
	consensus.Core
	err error
}

func (r refusing) TransferLeader(consensus.ReplicaID) error { return r.err }
func (r refusing) HandOver(consensus.ReplicaID) error       { return r.err }
