package driver

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// steadyNumbers is one counter of all nodes, with a sequencer on one of them that never loses its lease.
type steadyNumbers struct {
	c         *cluster
	sequencer *clusterNode
	last      kv.Revision
	asked     int
}

type steadyNode struct {
	*steadyNumbers
	node *clusterNode
}

func (n steadyNode) Hold() (kv.Present, bool) {
	return kv.Present{Revision: n.last}, n.node == n.sequencer
}

func (n steadyNode) Take(_ consensus.GroupID, count int) (first, compacted kv.Revision, issued bool) {
	first = n.last + 1
	n.last += kv.Revision(count)
	return first, 0, true
}

func (steadyNode) Alarms() uint64 { return 0 }
func (steadyNode) SendAsked()     {}

func (n steadyNode) Ask(group consensus.GroupID, _ consensus.Term, count int, _ kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	n.asked++
	n.c.at(n.c.latency, func() { // there
		first, compacted, _ := n.Take(group, count)
		n.c.at(n.c.latency, func() { got(first, compacted, true) }) // and back
	})
}

// numberedCost is writeCost in one of 16 shards, with the sequencer beside its leader or elsewhere.
func numberedCost(t *testing.T, paxos, beside bool) (c cost, asked int) {
	w := newCluster(t, 3, paxos)
	numbers := &steadyNumbers{c: w, last: 1}
	var groups []consensus.GroupID
	for group := range consensus.GroupID(16) {
		groups = append(groups, group+1)
	}
	for _, n := range w.nodes {
		n.start(func(o *Options) {
			o.Groups, o.Numbers, o.RetainLogEntries, o.MaxInflight = groups, steadyNode{numbers, n}, 2*costPuts, 1
			o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
				_, config := w.config()
				return OpenMachine(n.memory, shard.Options{Shard: kv.ShardID(group), Rand: o.Rand, LogEnd: logEnd, Sequenced: true}, Founding{Members: config})
			}
		})
	}
	var leader *driven
	w.await("a leader", func() bool {
		for i, n := range w.nodes {
			if r := n.driver.driven(groups[7]); r.LeaseValid() {
				if leader, numbers.sequencer = r, n; !beside {
					numbers.sequencer = w.nodes[(i+1)%len(w.nodes)]
				}
			}
		}
		return leader != nil
	})
	w.run(time.Second, nil)
	before := numbers.asked
	c = costOfWrites(w, leader)
	return c, numbers.asked - before
}

// TestCostOfANumberedPut: with 16 shards a put takes the same entry, messages, syncs and allocations as with one, if the sequencer is beside its leader. If it
// is elsewhere, it is one question more, of at most 7 allocations here, two of them of the fixture.
func TestCostOfANumberedPut(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		one := writeCost(t, 3, paxos)
		for _, c := range []struct {
			beside         bool
			asked, mallocs int
			latency        time.Duration
		}{
			{true, 0, 0, 0},
			{false, costPuts, 7, 200 * time.Microsecond}, // there and back
		} {
			t.Run(fmt.Sprintf("paxos %v, sequencer beside %v", paxos, c.beside), func(t *testing.T) {
				got, asked := numberedCost(t, paxos, c.beside)
				if got.entries != one.entries || got.entryBytes != one.entryBytes || got.sentBytes != one.sentBytes || got.Syncs != one.Syncs || got.Frames != one.Frames {
					t.Errorf("%+v; with one shard %+v", got, one)
				}
				if !maps.Equal(got.messages, one.messages) {
					t.Errorf("messages by kind: %v; with one shard %v", got.messages, one.messages)
				}
				if asked != c.asked || got.Latency != one.Latency+c.latency {
					t.Errorf("asked %d times for %d puts, which took %v; with one shard %v", asked, costPuts, got.Latency, one.Latency)
				}
				if most := one.mallocs + float64(c.mallocs) + 0.75; got.mallocs > most {
					t.Errorf("%.2f allocations a put, and %.2f with one shard", got.mallocs, one.mallocs)
				}
			})
		}
	}
}
