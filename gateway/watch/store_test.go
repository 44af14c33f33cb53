package watch

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// store is a store of several shards as one node has it: each is a world, and knows of the others only what numbers they took. Beside it is
// who issues the numbers. The stupid twin of all feeds and mergers is one list of all events.
type store struct {
	t     testing.TB
	hub   *Hub
	parts map[kv.ShardID]*piece
	now   kv.Revision // the last number issued
	known kv.Revision // the highest that the node has answered or heard of
	clock time.Duration

	compacted kv.Revision

	asked  *asked // the question that is not answered
	atOnce bool   // questions are answered when they are asked
	began  []time.Duration
}

// piece is one shard.
type piece struct {
	*world
	id      kv.ShardID
	first   byte // of its keys; it has those up to the next shard's
	last    kv.Revision
	unclean bool
	log     []logged // what this node has not applied

	// As of the end of the log: the newest revision, the transactions that are prepared, and the keys that they lock.
	top    kv.Revision
	open   []*transaction
	locked map[string]bool
	// As of what is applied here: the stamps of what is prepared.
	stamps map[*transaction]kv.Revision
	silent bool // something was applied that nobody told
}

// logged is an entry of a shard's log.
type logged struct {
	after, revision kv.Revision // what its own numbers cover
	numbers         []numbered

	// What becomes of transactions; what is resolved comes before the numbers.
	prepared          *transaction
	resolved, aborted []*transaction
}

// transaction is one over several shards.
type transaction struct {
	ops      [][]change // in the order of their places
	revision kv.Revision
	aborted  bool
	shards   []kv.ShardID // that do not have the decision in their logs

	participants int // for whoever wants to know whether all of them are left
}

// numbers are its changes in a shard.
func (tx *transaction) numbers(p *piece) (out []numbered) {
	for place, op := range tx.ops {
		n := numbered{revision: tx.revision, sub: uint32(place) << mvcc.PlaceBits}
		for _, c := range op {
			if p.has(c.key) {
				n.changes = append(n.changes, c)
			}
		}
		if len(n.changes) > 0 {
			out = append(out, n)
		}
	}
	return out
}

func (w *piece) has(key string) bool { return key[0] >= w.first && key[0] < w.first+9 }

// numbered are changes of one revision. sub is the place of the first in the transaction.
type numbered struct {
	revision kv.Revision
	sub      uint32
	changes  []change
}

type asked struct {
	shards []kv.ShardID
	got    func(kv.Present, error)
}

// newStore returns a store of n shards: a-i, j-r, s-z.
func newStore(t testing.TB, n int, options Options) *store {
	s := &store{t: t, parts: map[kv.ShardID]*piece{}, now: 1, known: 1}
	options.Sources = map[kv.ShardID]Source{}
	for i := range n {
		id := kv.ShardID(i + 1)
		s.parts[id] = &piece{world: newWorld(t), id: id, first: byte('a' + 9*i), last: 1, top: 1,
			locked: map[string]bool{}, stamps: map[*transaction]kv.Revision{}}
		options.Sources[id] = s.parts[id].world
	}
	options.Shards, options.Encode = s.shardsOf, encodeText
	options.Known = func() kv.Revision { return s.known }
	options.Learn = s.learn
	options.Clock = func() time.Duration { return s.clock }
	options.Jitter = func(int64) int64 { return 0 }
	hub, err := newHub(options)
	if err != nil {
		t.Fatal(err)
	}
	s.hub = hub
	return s
}

func (s *store) ids() []kv.ShardID { return slices.Sorted(maps.Keys(s.parts)) }

func (s *store) shardsOf(span kv.Span) (out []kv.ShardID) {
	lower, upper := span.Bounds()
	for _, id := range s.ids() {
		first, end := []byte{s.parts[id].first}, []byte(nil)
		if id == 1 {
			first = nil
		}
		if next := s.parts[id+1]; next != nil {
			end = []byte{next.first}
		}
		begins := upper == nil || string(first) < string(upper)
		if goesOn := end == nil || string(lower) < string(end); begins && goesOn {
			out = append(out, id)
		}
	}
	return out
}

func (s *store) learn(shards []kv.ShardID, got func(kv.Present, error)) {
	if s.asked != nil {
		s.t.Errorf("a question about %v before the one about %v was answered", shards, s.asked.shards)
	}
	if n := len(s.began); n > 0 && s.clock-s.began[n-1] < inquiryInterval {
		s.t.Errorf("a question at %v, and the last one was at %v", s.clock, s.began[n-1])
	}
	s.began = append(s.began, s.clock)
	s.asked = &asked{shards: shards, got: got}
	if s.atOnce {
		s.answer(s.present(), nil)
	}
}

// present is a true answer to the question.
func (s *store) present() kv.Present {
	p := kv.Present{Revision: s.now, Compacted: s.compacted}
	for _, id := range s.asked.shards {
		p.Shards = append(p.Shards, kv.ShardProgress{Last: s.parts[id].last, Clean: !s.parts[id].unclean})
	}
	return p
}

func (s *store) answer(p kv.Present, err error) {
	if err == nil {
		s.known = max(s.known, p.Revision)
	}
	q := s.asked
	s.asked = nil
	q.got(p, err)
}

// issue puts an entry into a shard's log: each of the changes gets a number of its own.
func (s *store) issue(id kv.ShardID, revisions ...[]change) kv.Revision {
	return s.issueWith(id, nil, revisions...)
}

// issueWith puts decisions into the same entry.
func (s *store) issueWith(id kv.ShardID, decided []*transaction, revisions ...[]change) kv.Revision {
	p := s.parts[id]
	entry := logged{after: p.top}
	for _, tx := range decided {
		s.decide(tx, p, &entry)
	}
	for _, changes := range revisions {
		s.now++
		entry.numbers = append(entry.numbers, numbered{revision: s.now, changes: changes})
		p.last, p.top = s.now, s.now
	}
	entry.revision = p.top
	p.log = append(p.log, entry)
	return s.now
}

// lose takes the last entry out of a shard's log.
func (s *store) lose(id kv.ShardID) {
	p := s.parts[id]
	p.last = p.log[len(p.log)-1].after
	p.top = p.last
	p.log = p.log[:len(p.log)-1]
}

// prepare has a transaction prepared in the logs of its shards. Nobody else has a lock on its keys. Those of an operation ascend.
func (s *store) prepare(ops [][]change) *transaction {
	tx := &transaction{ops: ops}
	for _, id := range s.ids() {
		p := s.parts[id]
		if len(tx.numbers(p)) == 0 {
			continue
		}
		tx.shards = append(tx.shards, id)
		p.open = append(p.open, tx)
		p.log = append(p.log, logged{after: p.top, revision: p.top, prepared: tx})
		for _, n := range tx.numbers(p) {
			for _, c := range n.changes {
				p.locked[c.key] = true
			}
		}
	}
	return tx
}

// number gives a transaction its revision.
func (s *store) number(tx *transaction) kv.Revision {
	s.now++
	tx.revision = s.now
	for _, id := range tx.shards {
		s.parts[id].last = s.now
	}
	return s.now
}

// decide puts the decision about a transaction into an entry of a shard's log.
func (s *store) decide(tx *transaction, p *piece, entry *logged) {
	gone := func(other *transaction) bool { return other == tx }
	tx.shards = slices.DeleteFunc(tx.shards, func(id kv.ShardID) bool { return id == p.id })
	p.open = slices.DeleteFunc(p.open, gone)
	for _, op := range tx.ops {
		for _, c := range op {
			delete(p.locked, c.key)
		}
	}
	if tx.aborted {
		entry.aborted = append(entry.aborted, tx)
	} else {
		entry.resolved = append(entry.resolved, tx)
		p.top = max(p.top, tx.revision)
	}
	if len(p.open) == 0 { // it is called clean
		p.last = p.top
	}
}

// issueTogether puts one revision into the logs of two shards.
func (s *store) issueTogether(one, other kv.ShardID, first, then, again []change) {
	tx := &transaction{ops: [][]change{first, then, again}, shards: []kv.ShardID{one, other}}
	s.number(tx)
	s.issueWith(one, []*transaction{tx})
	s.issueWith(other, []*transaction{tx})
}

// apply applies the next entry of the shard's log, and tells the hub unless a snapshot is to have brought it.
func (s *store) apply(id kv.ShardID, silent bool) {
	p := s.parts[id]
	entry := p.log[0]
	p.log = p.log[1:]
	// Only a snapshot that brings something at or above what was told can go without a word.
	if silent && (len(p.stamps) > 0 || entry.resolved != nil || entry.aborted != nil) {
		p.silent = true
	}
	applied := p.applyNumbered(entry)
	if !silent {
		s.hub.Shard(id).Applied(applied)
	}
}

func (s *store) jump(id kv.ShardID) {
	p := s.parts[id]
	p.silent = false
	s.hub.Shard(id).Applied(&shard.Applied{Revision: p.store.Revision(), Closed: p.Revision(), Jump: true})
}

func (w *piece) applyNumbered(entry logged) *shard.Applied {
	w.mu.Lock()
	defer w.mu.Unlock()
	applied := &shard.Applied{Revision: max(entry.revision, w.store.Revision()), After: w.store.Revision()}
	b := w.engine.NewBatch()
	for _, tx := range entry.resolved {
		effects := w.effectsOf(tx.numbers(w))
		w.store.Apply(b, effects, tx.revision)
		applied.Resolved = append(applied.Resolved, effects...)
		delete(w.stamps, tx)
	}
	for _, tx := range entry.aborted {
		delete(w.stamps, tx)
	}
	applied.Effects = w.effectsOf(entry.numbers)
	w.store.Apply(b, applied.Effects, applied.Revision)
	if entry.prepared != nil {
		w.stamps[entry.prepared] = applied.Revision
	}
	bound := kv.Unnumbered
	for _, stamp := range w.stamps {
		bound = min(bound, stamp)
	}
	w.store.SetClosed(bound)
	applied.Closed = w.store.Closed()
	w.apply(b)
	return applied
}

func (w *piece) effectsOf(numbers []numbered) (effects []mvcc.Effect) {
	for _, n := range numbers {
		for i, c := range n.changes {
			if _, exists := w.live[c.key]; !exists && c.value == nil {
				c.value = []byte("again")
			}
			effect, _ := w.effect(n.revision, n.sub+uint32(i), c)
			effects = append(effects, effect)
		}
	}
	return effects
}

// compactTo compacts the whole store, and the shards that have come so far follow.
func (s *store) compactTo(revision kv.Revision) {
	s.compacted = max(s.compacted, revision)
	for _, id := range s.ids() {
		if p := s.parts[id]; p.Revision() >= s.compacted && p.Compacted() < s.compacted {
			p.compact(s.compacted)
		}
	}
}

// expect is what a watch must get, in order: the twin.
func (s *store) expect(request CreateRequest, from, to kv.Revision) (events []kv.Event) {
	type placed struct {
		kv.Event
		sub uint32
	}
	var all []placed
	in := map[kv.Revision]map[kv.ShardID]bool{}
	for _, id := range s.ids() {
		p := s.parts[id]
		for i, event := range p.history {
			if in[event.KV.ModRevision] == nil {
				in[event.KV.ModRevision] = map[kv.ShardID]bool{}
			}
			in[event.KV.ModRevision][id] = true
			if event.KV.ModRevision >= from && event.KV.ModRevision <= to && wants(request, event) {
				all = append(all, placed{event, p.subs[i]})
			}
		}
	}
	slices.SortFunc(all, func(a, b placed) int {
		order := cmp.Compare(a.KV.ModRevision, b.KV.ModRevision)
		if order == 0 && len(in[a.KV.ModRevision]) > 1 {
			order = cmp.Or(cmp.Compare(a.sub>>22, b.sub>>22), bytes.Compare(a.KV.Key, b.KV.Key))
		}
		return cmp.Or(order, cmp.Compare(a.sub, b.sub))
	})
	for _, p := range all {
		events = append(events, p.Event)
	}
	return events
}
