package gateway

import (
	"sync"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// counter is the one count of revisions of a store of several shards. The test says which node issues, who is told what, and when; beside it one goroutine may
// wait for something, and goes on while the test is at what it waited for.
type counter struct {
	mu        sync.Mutex // of what such a goroutine looks at: last, issued, asked, hearing.known
	last      kv.Revision
	issued    map[kv.ShardID]kv.Revision // last ones
	unclean   map[kv.ShardID]bool
	compacted kv.Revision
	issuer    kv.NodeID // whose Now is certain; 0: nobody's
	hold      bool      // questions and batches wait until the test answers
	questions []*question
	asked     int
	onAsk     func() // called once, with a question, whose answer is what was true before
	holdMulti bool   // so do revisions for transactions
	multis    []func()
}

type question struct {
	shards  []kv.ShardID
	got     func(kv.Present, error)
	at      kv.Present // when it was asked
	counter *counter
}

// hearing is what one node hears of the counter.
type hearing struct {
	*counter
	node  kv.NodeID
	known kv.Revision
}

func (c *counter) present(shards []kv.ShardID) kv.Present {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := kv.Present{Revision: c.last, Compacted: c.compacted}
	for _, s := range shards {
		p.Shards = append(p.Shards, kv.ShardProgress{Last: c.issued[s], Clean: !c.unclean[s]})
	}
	return p
}

func (t *hearing) Now() (kv.Present, bool) { return t.present(nil), t.node == t.issuer }

func (t *hearing) Learn(shards []kv.ShardID, got func(kv.Present, error)) {
	t.mu.Lock()
	t.asked++
	t.mu.Unlock()
	q := &question{shards: shards, at: t.present(shards), counter: t.counter, got: func(p kv.Present, err error) {
		t.Hear(p.Revision)
		got(p, err)
	}}
	if onAsk := t.onAsk; onAsk != nil {
		t.onAsk = nil
		onAsk()
		q.got(q.at, nil)
		return
	}
	if t.hold {
		t.questions = append(t.questions, q)
		return
	}
	q.answer()
}

func (t *hearing) Multi(writers []kv.ShardID, got func(kv.Revision, error)) {
	if t.holdMulti {
		t.multis = append(t.multis, func() { t.Multi(writers, got) })
		return
	}
	t.mu.Lock()
	t.last++
	revision := t.last
	for _, id := range writers {
		t.issued[id] = revision
	}
	t.mu.Unlock()
	t.Hear(revision)
	got(revision, nil)
}

func (t *hearing) Known() kv.Revision {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.node == t.issuer {
		t.known = max(t.known, t.last)
	}
	return t.known
}

func (t *hearing) Hear(r kv.Revision) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = max(t.known, r)
}

// answer tells what is true now.
func (q *question) answer() { q.got(q.counter.present(q.shards), nil) }

// issue gives n revisions in a row to a shard.
func (c *counter) issue(to kv.ShardID, n int) (first kv.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = c.last + 1
	if n > 0 {
		c.last += kv.Revision(n)
		c.issued[to] = c.last
	}
	return first
}

// answerAll answers the questions that wait, and says how many there were.
func (c *counter) answerAll() (count int) {
	for len(c.questions) > 0 {
		q := c.questions[0]
		c.questions = c.questions[1:]
		q.answer()
		count++
	}
	return count
}

// batch is one write that waits for its revision. A leader evaluates one at a time.
type batch struct {
	req       *kv.Request
	by        kv.Asker
	done      func(*kv.Response, uint64, error)
	evaluated bool
	outcome   shard.Outcome
	first     kv.Revision // issued, and on its way
}

// proposeNumbered evaluates a write as soon as those before it have their revisions.
func (n *node) proposeNumbered(req *kv.Request, by kv.Asker, done func(*kv.Response, uint64, error)) (queued bool) {
	n.mu.Lock()
	if n.serving == 0 {
		n.mu.Unlock()
		done(nil, 0, kv.ErrNotLeader)
		return false
	}
	n.batches = append(n.batches, &batch{req: req, by: by, done: done})
	n.mu.Unlock()
	n.evaluate()
	for !n.cluster.counter.hold && n.number() {
	}
	return true
}

// evaluate evaluates the first of the writes that wait.
func (n *node) evaluate() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.batches) == 0 || n.batches[0].evaluated {
		return
	}
	b := n.batches[0]
	// What this node has heard of, which may be long ago.
	if err := n.machine.Begin(kv.Present{Revision: n.cluster.counter.issued[n.cluster.shard]}, false); err != nil {
		panic(err)
	}
	b.evaluated, b.outcome = true, n.machine.Evaluate(b.req)
	if b.outcome.Fatal != nil {
		panic(b.outcome.Fatal)
	}
}

// issue issues the revision of the write that is evaluated; it is on its way then.
func (n *node) issue() (issued bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.batches) == 0 || n.batches[0].first != 0 {
		return false
	}
	n.batches[0].first = n.cluster.counter.issue(n.cluster.shard, n.machine.Unnumbered())
	return true
}

// number has the revision arrive, and the write proposed.
func (n *node) number() (numbered bool) {
	n.issue()
	n.mu.Lock()
	if len(n.batches) == 0 {
		n.mu.Unlock()
		return false
	}
	b := n.batches[0]
	n.batches = n.batches[1:]
	if err := n.machine.Number(b.first, 0); err != nil {
		panic(err)
	}
	out := b.outcome
	if out.Blocked {
		n.blocked = append(n.blocked, &batch{req: b.req, by: b.by, done: b.done})
		n.mu.Unlock()
		n.evaluate()
		return true
	}
	if !out.Effects {
		n.mu.Unlock()
		b.done(out.Response, uint64(n.machine.AppliedIndex()), out.Err)
		n.evaluate()
		return true
	}
	data, seq := n.machine.TakeProposal(0)
	n.pending = append(n.pending, pending{term: n.serving, seq: seq, resp: out.Response, err: out.Err, done: b.done})
	n.cluster.mu.Lock()
	n.cluster.log = append(n.cluster.log, consensus.Entry{
		Index: consensus.Index(len(n.cluster.log) + 1), Term: n.serving, Kind: consensus.EntryCommand, Data: data,
	})
	n.cluster.mu.Unlock()
	n.mu.Unlock()
	n.evaluate()
	return true
}

// joined is the stupid Gatherer: one state after the other.
type joined struct{ gather.Gatherer }

func (joined) Gather(req *kv.Request, _ []kv.ShardID, states []*mvcc.View, at kv.Present) (*kv.Response, error) {
	resp := &kv.Response{Kind: kv.KindRange, Revision: at.Revision, Range: &kv.RangeResponse{}}
	for _, s := range states {
		part, err := shard.RangeAsOf(req.Range, at.Revision, s.Revision(), max(s.Compacted(), at.Compacted))
		if err != nil {
			return nil, err
		}
		one, err := s.Range(part, nil)
		if err != nil {
			return nil, err
		}
		resp.Range.KVs = append(resp.Range.KVs, one.KVs...)
		resp.Range.Count += one.Count
	}
	return resp, nil
}

// newStore returns two shards with one count of revisions; the first one has the gateways and the frames. Keys begin with the number of their shard.
func newStore(t testing.TB, options Options) (first, second *cluster, c *counter) {
	return storeOf(t, options, shard.Options{})
}

// storeOf is newStore of machines with options.
func storeOf(t testing.TB, options Options, machine shard.Options) (first, second *cluster, c *counter) {
	c = &counter{last: 1, issued: map[kv.ShardID]kv.Revision{1: 1, 2: 1}, unclean: map[kv.ShardID]bool{}}
	machine.Sequenced = true
	first = newReplicasOf(t, machine)
	machine.Shard = 2
	second = newReplicasOf(t, machine)
	first.counter, second.counter, first.shard, second.shard = c, c, 1, 2
	if options.Router == nil {
		options.Router, options.Gather = firstByte{}, joined{}
	}
	first.open(func(kv.NodeID) Options { return options }, map[kv.ShardID]*cluster{2: second})
	speakNewest(first)
	return first, second, c
}
