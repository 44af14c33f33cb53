package driver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// counter issues revisions to the groups of a cluster. One node at most may hold it still; the others ask.
type counter struct {
	c      *cluster
	random *rand.Rand
	last   kv.Revision
	holder kv.NodeID
	issued int // to nodes that held it
	failed int // takes that came too late
	asked  int
	beyond int    // of those, how often the bounds did not hold
	alarms uint64 // that are raised
	flips  int    // how often that changed
}

// nodeNumbers is a node's end of it.
type nodeNumbers struct {
	*counter
	node kv.NodeID
	held bool
	seen kv.Revision // of what was issued
	// told are the alarms that came with what was issued last, when they had changed toldFlips times.
	told      uint64
	toldFlips int
}

func (n *nodeNumbers) Hold() (present kv.Present, exact bool) {
	if n.held {
		n.c.tb.Fatal("held twice")
	}
	if n.node != n.holder {
		return kv.Present{Revision: n.seen, Compacted: n.compactedAt(n.node)}, false
	}
	n.held = true
	return kv.Present{Revision: n.last, Compacted: n.compacted()}, true
}

func (n *nodeNumbers) Take(_ consensus.GroupID, count int) (first, compacted kv.Revision, issued bool) {
	if !n.held {
		n.c.tb.Fatal("taken without being held")
	}
	n.held = false
	if n.random.IntN(3) == 0 { // its lease has ended
		n.failed++
		n.seen = n.last
		return 0, 0, false
	}
	n.issued++
	return n.issue(count), n.compacted(), true
}

func (n *nodeNumbers) issue(count int) (first kv.Revision) {
	first = n.last + 1
	n.last += kv.Revision(count)
	n.seen = n.last
	return first
}

func (n *nodeNumbers) Ask(_ consensus.GroupID, _ consensus.Term, count int, bounds kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	n.asked++
	n.c.at(n.delay(), func() {
		issued := bounds.Hold(n.last+1, n.compacted())
		if !issued {
			count = 0
			n.beyond++
		}
		first, compacted, alarms, flips := n.issue(count), n.compacted(), n.alarms, n.flips
		n.c.at(n.delay(), func() {
			if flips >= n.toldFlips {
				n.told, n.toldFlips = alarms, flips
			}
			got(first, compacted, issued)
		})
	})
}

func (n *nodeNumbers) SendAsked() {}

func (n *nodeNumbers) Alarms() uint64 {
	if n.held {
		return n.alarms
	}
	return n.told
}

// compactedAt is up to where a node knows the store to be compacted, and compacted what anybody knows.
func (c *counter) compactedAt(node kv.NodeID) (compacted kv.Revision) {
	if n := c.c.nodes[node-1]; n.up {
		compacted, _ = n.driver.SystemNotice()
	}
	return compacted
}

func (c *counter) compacted() (compacted kv.Revision) {
	for _, n := range c.c.nodes {
		compacted = max(compacted, c.compactedAt(n.id))
	}
	return compacted
}

// delay is short, or long enough for a leader to lose its place and to have it back.
func (n *nodeNumbers) delay() time.Duration {
	longest := []int{1, 4, 80}[n.random.IntN(3)]
	return time.Duration(n.random.IntN(longest)) * time.Millisecond
}

// numbered is a cluster of several groups with one counter.
type numbered struct {
	*cluster
	counter
	groups   []consensus.GroupID
	answered kv.Revision // highest of all answers
	keys     map[string]kv.Revision
	given    map[kv.Revision]string
	open     int
	changed  int // answers kv.ErrLeaderChanged
	refused  int // answers kv.ErrNoSpace
	unknown  map[string]bool
}

func newNumbered(t *testing.T, seed uint64, paxos bool) *numbered {
	w := &numbered{cluster: newCluster(t, 3, paxos), keys: map[string]kv.Revision{}, given: map[kv.Revision]string{}, unknown: map[string]bool{}}
	w.counter = counter{c: w.cluster, random: rand.New(rand.NewPCG(seed, 0)), last: 1}
	w.groups = []consensus.GroupID{1, 2, 3}
	w.latency = 10 * time.Millisecond
	for _, n := range w.nodes {
		w.start(n)
	}
	return w
}

func (w *numbered) start(n *clusterNode) {
	w.startWith(n, func(o *Options) { o.Numbers = &nodeNumbers{counter: &w.counter, node: n.id, seen: 1} })
}

func (w *numbered) startWith(n *clusterNode, change func(*Options)) {
	n.start(func(o *Options) {
		o.Groups = w.groups
		change(o)
		o.Listener.GroupFailed = func(_ consensus.GroupID, err error) { w.tb.Errorf("node %d: %v", n.id, err) }
		o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			_, config := w.config()
			options := shard.Options{Shard: kv.ShardID(group), Rand: w.random, LogEnd: logEnd, Sequenced: true}
			return OpenMachine(n.memory, options, Founding{Members: config})
		}
	})
}

// ask has a random request decided, by whoever leads its group.
func (w *numbered) ask(number int) {
	group := w.groups[w.random.IntN(len(w.groups))]
	at := slices.IndexFunc(w.nodes, func(n *clusterNode) bool { return n.driver.Replica(group).IsLeader() })
	if at < 0 {
		return
	}
	key := fmt.Sprintf("%d/%d", group, number)
	req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}
	switch w.random.IntN(5) {
	case 0: // without an effect
		req = &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: kv.Span{Start: []byte("x")}, Target: kv.CompareVersion, Result: kv.CompareGreater}}}}
	case 1, 2: // decided by a revision that may be one of the same batch
		previous := fmt.Sprintf("%d/%d", group, number-1-w.random.IntN(2))
		compare := kv.Compare{Span: kv.Span{Start: []byte(previous)}, Target: kv.CompareMod, Result: kv.CompareLess, Integer: int64(w.last) + w.random.Int64N(4)}
		put := []kv.Op{{Put: &kv.PutRequest{Key: []byte(key)}}}
		req = &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{compare}, Success: put, Failure: put}}
	}
	before, alarmed, flips := w.answered, w.alarms != 0 && group != 1, w.flips
	w.open++
	w.nodes[at].driver.Replica(group).Propose(req, nil, func(resp *kv.Response, _ uint64, err error) {
		w.open--
		effect := req.Kind == kv.KindPut || len(req.Txn.Success) > 0
		switch {
		case errors.Is(err, kv.ErrNoSpace):
			w.refused++
			if group == 1 || !effect || !alarmed && w.flips == flips {
				w.tb.Errorf("%s is refused without an alarm", key)
			}
		case err == nil && effect && alarmed && w.flips == flips:
			w.tb.Errorf("%s takes effect in spite of an alarm", key)
		case errors.Is(err, kv.ErrLeaderChanged), errors.Is(err, kv.ErrNotLeader):
			w.changed++
		case errors.Is(err, kv.ErrOutcomeUnknown):
			w.unknown[key] = true
		case err != nil:
			w.tb.Errorf("%s: %v", key, err)
		case resp.Revision < before || effect && resp.Revision == before:
			w.tb.Errorf("%s is answered at revision %d, and %d was answered before it was asked for", key, resp.Revision, before)
		case effect:
			if other, twice := w.given[resp.Revision]; twice {
				w.tb.Errorf("revision %d is given to %s and to %s", resp.Revision, other, key)
			}
			w.given[resp.Revision], w.keys[key] = key, resp.Revision
			fallthrough
		default:
			w.answered = max(w.answered, resp.Revision)
		}
	})
}

// awaitLeases waits until all groups have leaders.
func (w *numbered) awaitLeases() {
	w.await("leaders", func() bool {
		return !slices.ContainsFunc(w.groups, func(group consensus.GroupID) bool {
			return !slices.ContainsFunc(w.nodes, func(n *clusterNode) bool { return n.driver.Replica(group).LeaseValid() })
		})
	})
}

// moveAbout moves the counter, or a leader, now and then.
func (w *numbered) moveAbout() {
	if w.random.IntN(40) == 0 {
		w.holder = kv.NodeID(w.random.IntN(4))
	}
	if w.random.IntN(50) == 0 {
		w.alarms ^= 1 << kv.AlarmNoSpace
		w.flips++
	}
	if w.random.IntN(30) == 0 {
		group, to := w.groups[w.random.IntN(3)], kv.NodeID(1+w.random.IntN(3))
		for _, n := range w.nodes {
			if r := n.driver.Replica(group); r.IsLeader() && n.id != to {
				r.Transfer(to, func(error) {})
			}
		}
	}
}

// compare holds what was answered against what all nodes have.
func (w *numbered) compare() {
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	for _, n := range w.nodes {
		found := 0
		for _, group := range w.groups {
			resp, err := n.driver.Replica(group).Read(everything)
			if err != nil {
				w.tb.Fatal(err)
			}
			for _, e := range resp.Range.KVs {
				if rev, ok := w.keys[string(e.Key)]; ok && rev == e.ModRevision {
					found++
				} else if !w.unknown[string(e.Key)] {
					w.tb.Errorf("node %d has %s of revision %d, which was answered with %d", n.id, e.Key, e.ModRevision, rev)
				}
			}
		}
		if found != len(w.keys) {
			w.tb.Errorf("node %d has %d keys of %d", n.id, found, len(w.keys))
		}
	}
}

// TestNumbers: three groups get their revisions from one counter, which moves between nodes and may end a batch that it was held still for. Leaders move, too.
// Alarms are raised and cleared: a write that begins after that goes by it, wherever its group is led.
func TestNumbers(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(map[bool]string{false: "raft", true: "paxos"}[paxos], func(t *testing.T) {
			issued, failed, asked, anew, refused := 0, 0, 0, 0, 0
			for seed := range uint64(6) {
				w := newNumbered(t, seed, paxos)
				w.awaitLeases()
				for number := range 1500 {
					w.moveAbout()
					for range w.random.IntN(4) {
						w.ask(number)
						number++
					}
					w.run(time.Millisecond, nil)
					for _, n := range w.nodes {
						for _, group := range w.groups {
							if n.driver.driven(group).numbering.anew {
								anew++
							}
						}
					}
				}
				w.await("all answers", func() bool { return w.open == 0 })
				w.run(time.Second, nil)
				w.compare()
				issued, failed, asked, refused = issued+w.issued, failed+w.failed, asked+w.asked, refused+w.refused
			}
			t.Logf("batches numbered here %d, failed %d, asked elsewhere %d, rounds in which a leadership waits to begin anew %d", issued, failed, asked, anew)
			if issued == 0 || failed == 0 || asked == 0 || anew == 0 || refused == 0 {
				t.Error("something never happened")
			}
		})
	}
}

// TestFutureRevision: a transaction that reads at a revision which nobody has got yet is refused, also by a leader that does not know how far the store is: it
// asks.
func TestFutureRevision(t *testing.T) {
	for _, holder := range []kv.NodeID{0, 1, 2, 3} {
		w := newNumbered(t, 1, false)
		w.holder = holder
		w.awaitLeases()
		put := []kv.Op{{Put: &kv.PutRequest{Key: []byte("k")}}}
		for i, c := range []struct {
			at   kv.Revision
			want error
		}{{0, nil}, {2, nil}, {1000, kv.ErrFutureRevision}, {1001, kv.ErrFutureRevision}, {3, nil}} {
			read := kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("a"), End: []byte("z")}, Revision: c.at}}
			answered := false
			at := slices.IndexFunc(w.nodes, func(n *clusterNode) bool { return n.driver.Replica(2).IsLeader() })
			w.nodes[at].driver.Replica(2).Propose(&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: append([]kv.Op{read}, put...)}}, nil,
				func(_ *kv.Response, _ uint64, err error) {
					if answered = true; !errors.Is(err, c.want) {
						t.Errorf("holder %d, transaction %d: %v, want %v", holder, i, err, c.want)
					}
				})
			w.await("an answer", func() bool { return answered })
		}
	}
}
