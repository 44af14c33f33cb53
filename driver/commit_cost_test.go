package driver

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/txn"
)

// twoShards are shards 1 and 2 of three nodes, with transactions over both, which the leader of shard 1 coordinates. It is the shell of package gateway
// without what is not about cost.
type twoShards struct {
	*cluster
	numbers     *steadyNumbers
	coordinator *txn.Coordinator
	silent      bool // the coordinator is not told of locks that are not in the log
}

func newTwoShards(t *testing.T, apart bool) *twoShards {
	s := &twoShards{cluster: newCluster(t, 3, false)}
	s.numbers = &steadyNumbers{c: s.cluster, last: 1}
	for _, n := range s.nodes {
		n.start(func(o *Options) {
			o.Groups, o.Numbers, o.RetainLogEntries = []consensus.GroupID{1, 2}, steadyNode{s.numbers, n}, 8*costPuts
			o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
				_, config := s.config()
				return OpenMachine(n.memory, shard.Options{Shard: kv.ShardID(group), Rand: o.Rand, LogEnd: logEnd, Sequenced: true}, Founding{Members: config})
			}
		})
	}
	s.latency = 100 * time.Microsecond
	leads := func(group consensus.GroupID) *clusterNode {
		for _, n := range s.nodes {
			if r := n.driver.Replica(group); r.IsLeader() && r.LeaseValid() {
				return n
			}
		}
		return nil
	}
	s.await("leaders", func() bool { return leads(1) != nil && leads(2) != nil })
	first, wanted := leads(1), leads(1)
	if apart {
		wanted = s.nodes[(first.index+1)%3]
	}
	if second := leads(2); second != wanted {
		second.driver.Replica(2).Transfer(wanted.id, func(error) {})
	}
	s.await("leaders in place", func() bool { return leads(1) == first && leads(2) == wanted })
	s.numbers.sequencer = first
	table, err := partition.New(partition.Scheme{Kind: partition.Range, Shards: 2, SplitKeys: [][]byte{[]byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	options := txn.Options{Protocol: txn.TwoPhase, Anchor: 1, Term: uint64(first.driver.driven(1).role.Term), Table: table}
	if s.coordinator, err = txn.NewCoordinator(options.WithDefaults()); err != nil {
		t.Fatal(err)
	}
	s.coordinator.OlderFinished(nil, nil)
	s.run(time.Second, nil)
	return s
}

// leader of a shard.
func (s *twoShards) leader(of kv.ShardID) *clusterNode {
	for _, n := range s.nodes {
		if n.driver.Replica(consensus.GroupID(of)).IsLeader() {
			return n
		}
	}
	s.tb.Fatalf("shard %d has no leader", of)
	return nil
}

// pump does what the coordinator wants, and returns the answers to requests.
func (s *twoShards) pump(done func(txn.Done)) {
	ready := s.coordinator.Ready()
	for _, a := range ready.Asks {
		s.ask(a, done)
	}
	for _, n := range ready.Numbers { // the sequencer is beside the coordinator
		revision, _, _ := steadyNode{s.numbers, s.numbers.sequencer}.Take(0, 1)
		s.coordinator.Numbered(n.ID, revision, nil)
		s.pump(done)
	}
	for _, d := range ready.Done {
		done(d)
	}
}

func (s *twoShards) ask(a txn.Ask, done func(txn.Done)) {
	there := s.leader(a.Shard)
	far := time.Duration(0)
	if there != s.leader(1) {
		far = s.latency
	} else if a.Shard == 1 && a.Request.Kind == kv.KindTxnPrepare && !s.silent {
		a.Request.Commit.Granted = func() {
			s.coordinator.Granted(a)
			s.pump(done)
		}
	}
	travel := func(event func()) {
		if far == 0 {
			event()
		} else {
			s.at(far, event)
		}
	}
	travel(func() {
		there.driver.Replica(consensus.GroupID(a.Shard)).Propose(a.Request, nil, func(resp *kv.Response, _ uint64, err error) {
			travel(func() {
				var answer *kv.CommitResponse
				if err == nil {
					answer = resp.Commit
				}
				s.coordinator.Answered(a, answer, err)
				s.pump(done)
			})
		})
	})
}

// commitCost is what a transaction takes.
type commitCost struct {
	latency time.Duration
	entries int // of both shards
	syncs   int // of all nodes
	waits   int // syncs of the leader of shard 1 before the answer
}

// measure does the same again and again, one after the other, and returns what it takes each time. It must be a whole number.
func (s *twoShards) measure(what string, act func(number int, answered func(error))) (c commitCost) {
	const count = 20
	leader := s.leader(1)
	total := func() (entries, syncs int) {
		for _, n := range s.nodes {
			syncs += int(n.driver.metrics.syncs.Load())
		}
		for _, group := range []kv.ShardID{1, 2} {
			entries += int(s.leader(group).driver.driven(consensus.GroupID(group)).log.Last())
		}
		return entries, syncs
	}
	entries, syncs := total()
	for number := range count {
		s.run(20*time.Millisecond, nil)
		began, before, answered := s.now, leader.driver.metrics.syncs.Load(), false
		act(number, func(err error) {
			if answered = true; err != nil {
				s.tb.Errorf("%s: %v", what, err)
			}
			c.waits += int(leader.driver.metrics.syncs.Load() - before)
		})
		for limit := s.now + time.Second; !answered && s.now < limit; {
			s.step(50 * time.Microsecond)
		}
		if !answered {
			s.tb.Fatalf("%s: no answer", what)
		}
		c.latency += s.now - began
	}
	s.run(20*time.Millisecond, nil)
	allEntries, allSyncs := total()
	c.entries, c.syncs = allEntries-entries, allSyncs-syncs
	if c.entries%count+c.syncs%count+c.waits%count != 0 {
		s.tb.Errorf("%s: not the same each time: %+v", what, c)
	}
	return commitCost{latency: c.latency / count, entries: c.entries / count, syncs: c.syncs / count, waits: c.waits / count}
}

func (s *twoShards) put() commitCost {
	return s.measure("a put", func(number int, answered func(error)) {
		put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Append([]byte("a"), number)}}
		s.leader(1).driver.Replica(1).Propose(put, nil, func(_ *kv.Response, _ uint64, err error) { answered(err) })
	})
}

func (s *twoShards) transaction() commitCost {
	return s.measure("a transaction", func(number int, answered func(error)) {
		var ops []kv.Op
		for _, key := range []string{"a", "b"} {
			ops = append(ops, kv.Op{Put: &kv.PutRequest{Key: fmt.Append([]byte(key), number)}})
		}
		req := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: ops}}
		if _, err := s.coordinator.Begin(nil, req, 0); err != nil {
			answered(err)
		}
		s.pump(func(d txn.Done) { answered(d.Err) })
	})
}

// TestCostOfATransaction holds what a transaction over two shards takes without contention: four entries, of which the answer waits for three, two of them side
// by side in one write if both shards are led by one node. So it takes as long as two puts, and the way to the other leader and back.
func TestCostOfATransaction(t *testing.T) {
	for _, c := range []struct {
		name          string
		apart, silent bool
		puts          time.Duration // how many of them take as long
		there         time.Duration // and what is on top, at most
		syncs         int           // of all nodes
		waits         int           // syncs of the coordinator's node before the answer
	}{
		{"led by one node", false, false, 2, 0, 9, 2},
		{"led by one node, locks are told of when they are in the log", false, true, 3, 0, 12, 3}, // what Granted is for
		{"led apart", true, false, 2, 200 * time.Microsecond, 11, 3},                              // one of the three is for the other's log
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTwoShards(t, c.apart)
			s.silent = c.silent
			put, transaction := s.put(), s.transaction()
			t.Logf("a put: %+v", put)
			t.Logf("a transaction: %+v", transaction)
			if transaction.entries != 4 || put.entries != 1 {
				t.Errorf("a transaction takes %v entries, a put %v", transaction.entries, put.entries)
			}
			if least := c.puts * put.latency; transaction.latency < least || transaction.latency > least+c.there {
				t.Errorf("a transaction takes %v, want %v, and %v more at most", transaction.latency, least, c.there)
			}
			if transaction.waits != c.waits || transaction.syncs != c.syncs || put.syncs != 3 {
				t.Errorf("a transaction takes %+v, want %d syncs, of which %d of the coordinator's node come before the answer; a put %+v", transaction, c.syncs, c.waits, put)
			}
		})
	}
}
