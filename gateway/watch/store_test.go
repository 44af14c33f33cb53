package watch

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
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
}

// logged is an entry of a shard's log.
type logged struct {
	after, revision kv.Revision // what it covers
	numbers         []numbered
}

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
		s.parts[id] = &piece{world: newWorld(t), id: id, first: byte('a' + 9*i), last: 1}
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
	p := s.parts[id]
	entry := logged{after: p.last}
	for _, changes := range revisions {
		s.now++
		entry.numbers = append(entry.numbers, numbered{revision: s.now, changes: changes})
	}
	entry.revision = s.now
	p.last = s.now
	p.log = append(p.log, entry)
	return s.now
}

// lose takes the last entry out of a shard's log.
func (s *store) lose(id kv.ShardID) {
	p := s.parts[id]
	p.last = p.log[len(p.log)-1].after
	p.log = p.log[:len(p.log)-1]
}

// issueTogether puts one revision into the logs of two shards.
func (s *store) issueTogether(one, other kv.ShardID, first, then, again []change) {
	s.now++
	a, b := s.parts[one], s.parts[other]
	middle := uint32(len(first))
	a.log = append(a.log, logged{after: a.last, revision: s.now, numbers: []numbered{{s.now, 0, first}, {s.now, middle + uint32(len(then)), again}}})
	b.log = append(b.log, logged{after: b.last, revision: s.now, numbers: []numbered{{s.now, middle, then}}})
	a.last, b.last = s.now, s.now
}

// apply applies the next entry of the shard's log, and tells the hub unless a snapshot is to have brought it.
func (s *store) apply(id kv.ShardID, silent bool) {
	p := s.parts[id]
	entry := p.log[0]
	p.log = p.log[1:]
	applied := p.applyNumbered(entry)
	if !silent {
		s.hub.Shard(id).Applied(applied)
	}
}

func (s *store) jump(id kv.ShardID) {
	s.hub.Shard(id).Applied(&shard.Applied{Revision: s.parts[id].Revision(), Jump: true})
}

func (w *piece) applyNumbered(entry logged) *shard.Applied {
	w.mu.Lock()
	defer w.mu.Unlock()
	applied := &shard.Applied{Revision: entry.revision, After: w.store.Revision()}
	for _, n := range entry.numbers {
		for i, c := range n.changes {
			if _, exists := w.live[c.key]; !exists && c.value == nil {
				c.value = []byte("again")
			}
			effect, _ := w.effect(n.revision, n.sub+uint32(i), c)
			applied.Effects = append(applied.Effects, effect)
		}
	}
	b := w.engine.NewBatch()
	w.store.Apply(b, applied.Effects, applied.Revision)
	w.apply(b)
	return applied
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
	for _, id := range s.ids() {
		p := s.parts[id]
		for i, event := range p.history {
			if event.KV.ModRevision >= from && event.KV.ModRevision <= to && wants(request, event) {
				all = append(all, placed{event, p.subs[i]})
			}
		}
	}
	slices.SortFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.KV.ModRevision, b.KV.ModRevision), cmp.Compare(a.sub, b.sub))
	})
	for _, p := range all {
		events = append(events, p.Event)
	}
	return events
}
