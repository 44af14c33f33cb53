package driver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// cleanStore is a cluster of groups whose leaders call them clean.
type cleanStore struct {
	*numbered
	nodes []*cleanNode
	// words are what leaders have said of each group.
	words map[consensus.GroupID][]cleanWord
	tight int // words that were begun while numbers were on their way to the leader
}

// cleanWord: of what was issued to the group nothing above top and at or below asOf takes effect, ever.
type cleanWord struct{ top, asOf kv.Revision }

// cleanNode is a node's end of the counter, and of what asks for Cleans. Revisions are issued when they arrive, at the latest when a Clean begins: then the
// driver has not heard of them yet.
type cleanNode struct {
	*nodeNumbers
	store    *cleanStore
	node     *clusterNode
	term     consensus.Term // of the system shard, if that is led here
	arriving map[consensus.GroupID][]func()
	asOf     map[consensus.GroupID]kv.Revision
}

func newCleanStore(t *testing.T, seed uint64, paxos bool, change ...func(*Options)) *cleanStore {
	s := &cleanStore{words: map[consensus.GroupID][]cleanWord{}}
	s.numbered = &numbered{cluster: newCluster(t, 3, paxos), keys: map[string]kv.Revision{}, given: map[kv.Revision]string{}, unknown: map[string]bool{}}
	s.counter = counter{c: s.cluster, random: rand.New(rand.NewPCG(seed, 0)), last: 1}
	s.groups, s.latency = []consensus.GroupID{1, 2, 3}, 10*time.Millisecond
	for _, node := range s.cluster.nodes {
		n := &cleanNode{
			nodeNumbers: &nodeNumbers{counter: &s.counter, node: node.id, seen: 1}, store: s, node: node,
			arriving: map[consensus.GroupID][]func(){}, asOf: map[consensus.GroupID]kv.Revision{},
		}
		s.nodes = append(s.nodes, n)
		s.startWith(node, func(o *Options) {
			o.Numbers, o.Sequencing = n, n
			for _, fn := range change {
				fn(o)
			}
		})
	}
	return s
}

func (n *cleanNode) Ask(group consensus.GroupID, _ consensus.Term, count int, _ kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	n.asked++
	arrived := false
	arrive := func() {
		if !arrived {
			arrived = true
			got(n.issue(count), n.compacted(), true)
		}
	}
	n.arriving[group] = append(n.arriving[group], arrive)
	n.c.at(n.delay(), arrive)
}

func (n *cleanNode) BeginClean(group consensus.GroupID) bool {
	if n.random.IntN(2) == 0 {
		if n.node.driver.driven(group).numbering.waiting {
			n.store.tight++
		}
		for _, arrive := range n.arriving[group] {
			arrive()
		}
		n.arriving[group] = nil
	}
	n.asOf[group] = n.last
	return true
}

func (n *cleanNode) EndClean(group consensus.GroupID, top kv.Revision) {
	n.store.words[group] = append(n.store.words[group], cleanWord{top: top, asOf: n.asOf[group]})
}

func (n *cleanNode) Lead(group consensus.GroupID, term consensus.Term, _, _ kv.Revision) {
	if group == 1 {
		n.term = term
	}
}

func (n *cleanNode) HandOver() {
	n.c.at(time.Millisecond, func() { n.node.driver.MayHandOver(n.term) })
}

func (n *cleanNode) StepDown(consensus.GroupID)               {}
func (n *cleanNode) Target(kv.NodeID, consensus.Term)         {}
func (n *cleanNode) Applied(consensus.GroupID, kv.Revision)   {}
func (n *cleanNode) LimitApplied(consensus.Term, kv.Revision) {}
func (n *cleanNode) HandOverFailed()                          {}
func (n *cleanNode) Voided(consensus.GroupID, kv.Revision)    {}

// TestCleanIsTrue: whatever leaders are busy with when they call their groups clean, what they say of what was issued comes true.
func TestCleanIsTrue(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(map[bool]string{false: "raft", true: "paxos"}[paxos], func(t *testing.T) {
			words, wide, tight := 0, 0, 0
			for seed := range uint64(6) {
				s := newCleanStore(t, seed, paxos)
				s.awaitLeases()
				for number := 0; number < 1500; number++ {
					if s.random.IntN(40) == 0 {
						s.holder = kv.NodeID(s.random.IntN(4))
					}
					group := s.groups[s.random.IntN(3)]
					for _, n := range s.nodes {
						switch r := n.node.driver.Replica(group); {
						case !r.IsLeader():
						case s.random.IntN(60) == 0:
							r.Transfer(kv.NodeID(1+s.random.IntN(3)), func(error) {})
						default:
							n.node.driver.CallClean(kv.ShardID(group), 0)
						}
					}
					for range s.random.IntN(4) {
						s.ask(number)
						number++
					}
					s.run(time.Millisecond, nil)
				}
				s.await("all answers", func() bool { return s.open == 0 })
				s.run(time.Second, nil)
				s.compare()
				for group, said := range s.words {
					for _, word := range said {
						if words++; word.asOf > word.top {
							wide++
						}
					}
					s.judge(seed, group, said)
				}
				tight += s.tight
			}
			t.Logf("%d words, %d of them about more than what has taken effect, %d while revisions were on their way", words, wide, tight)
			if wide == 0 || tight == 0 {
				t.Error("something never happened")
			}
		})
	}
}

// judge holds what was said of a group against what took effect.
func (s *cleanStore) judge(seed uint64, group consensus.GroupID, said []cleanWord) {
	resp, err := s.nodes[0].node.driver.Replica(group).Read(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}})
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, e := range resp.Range.KVs {
		for _, word := range said {
			if word.top < e.ModRevision && e.ModRevision <= word.asOf {
				s.tb.Errorf("seed %d, group %d: nothing from %d to %d was to take effect, and %s does at %d", seed, group, word.top+1, word.asOf, e.Key, e.ModRevision)
				return
			}
		}
	}
}

// TestCleanUnderLoad: a group in which something is in flight at every moment is called clean all the same.
func TestCleanUnderLoad(t *testing.T) {
	for _, holder := range []kv.NodeID{0, 1, 2, 3} { // beside the leader or not
		s := newCleanStore(t, 1, false)
		s.holder = holder
		s.awaitLeases()
		at := slices.IndexFunc(s.nodes, func(n *cleanNode) bool { return n.node.driver.Replica(2).IsLeader() })
		driver := s.nodes[at].node.driver
		leader := driver.driven(2)
		for number := 0; len(s.words[2]) == 0; number++ {
			if number == 50 {
				driver.CallClean(2, 0)
			}
			for i := range 5 {
				put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Append(nil, number, i)}}
				leader.Propose(put, nil, func(_ *kv.Response, _ uint64, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			}
			s.run(time.Millisecond, nil)
			if number == 500 || number > 50 && leader.open() == 0 {
				t.Fatalf("after %d ms, with %d in flight, the group is not called clean", number, leader.open())
			}
		}
	}
}
