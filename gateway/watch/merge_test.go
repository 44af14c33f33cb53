package watch

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// randomRecords are those of several shards. Some revisions are in several of them.
func randomRecords(random *rand.Rand, shards int) (all [][]*record, last kv.Revision) {
	all = make([][]*record, shards)
	covered := make([]kv.Revision, shards)
	pending := make([][]mvcc.Effect, shards)
	for last = 1; last < 60; last++ {
		change := func(at int, sub uint32, key int) {
			pending[at] = append(pending[at], mvcc.Effect{Key: fmt.Appendf(nil, "%d", key), Value: make([]byte, random.IntN(500)),
				At: mvcc.Locator{Rev: last, Sub: sub}})
		}
		if only := random.IntN(shards); random.IntN(2) == 0 { // keys in any order
			for sub := range random.IntN(4) {
				change(only, uint32(sub), 10+random.IntN(10))
			}
		} else {
			for place := range random.IntN(4) {
				counts := make([]uint32, shards)
				for key := 10; key < 20; key++ {
					if random.IntN(5) == 0 {
						at := (key*7 + int(last)) % shards
						change(at, uint32(place)<<mvcc.PlaceBits|counts[at], key)
						counts[at]++
					}
				}
			}
		}
		for at := range shards {
			if random.IntN(3) > 0 {
				continue
			}
			rec := &record{first: covered[at] + 1, last: last}
			for effects := pending[at]; len(effects) > 0; { // as a bulk has several parts
				n := 1 + random.IntN(len(effects))
				rec.parts = append(rec.parts, part{effects: effects[:n:n]})
				effects = effects[n:]
			}
			all[at] = append(all[at], rec)
			covered[at], pending[at] = last, nil
		}
	}
	return all, slices.Min(covered)
}

// sorted are the changes of several shards in their order: within a revision that several have by place and key, otherwise as the shard has them.
func sorted(shards [][]mvcc.Effect) []mvcc.Effect {
	in := map[kv.Revision]map[int]bool{}
	var all []mvcc.Effect
	for i, effects := range shards {
		for _, e := range effects {
			if in[e.At.Rev] == nil {
				in[e.At.Rev] = map[int]bool{}
			}
			in[e.At.Rev][i] = true
		}
		all = append(all, effects...)
	}
	slices.SortStableFunc(all, func(a, b mvcc.Effect) int {
		order := cmp.Compare(a.At.Rev, b.At.Rev)
		if order == 0 && len(in[a.At.Rev]) > 1 {
			order = cmp.Or(cmp.Compare(a.At.Sub>>22, b.At.Sub>>22), bytes.Compare(a.Key, b.Key))
		}
		return cmp.Or(order, cmp.Compare(a.At.Sub, b.At.Sub))
	})
	return all
}

// TestMergeAgainstSort compares merged records with sorting all changes.
func TestMergeAgainstSort(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 21))
		all, end := randomRecords(random, 1+random.IntN(4))
		after := kv.Revision(random.IntN(int(end) + 1))
		upTo := after + kv.Revision(random.IntN(int(end-after)+1))
		var cursors []*cursor
		shards := make([][]mvcc.Effect, len(all))
		for i, records := range all {
			c := &cursor{}
			c.open(records)
			cursors = append(cursors, c)
			for _, rec := range records {
				for _, p := range rec.parts {
					shards[i] = append(shards[i], p.effects...)
				}
			}
		}
		want := slices.DeleteFunc(sorted(shards), func(e mvcc.Effect) bool { return e.At.Rev <= after || e.At.Rev > upTo })
		next := after + 1
		merge(cursors, after, upTo, func(rec *record) {
			if rec.first != next || rec.changed() > rec.last {
				t.Fatalf("seed %d: a record covers %d to %d with a change at %d, after %d", seed, rec.first, rec.last, rec.changed(), next-1)
			}
			size := 0
			for i := range rec.parts {
				p := &rec.parts[i]
				size += p.sizeBytes()
				for j, effect := range p.effects {
					if effect.At.Rev < next || len(want) == 0 || effect.At != want[0].At || string(effect.Key) != string(want[0].Key) || p.event(j).effect != &p.of.effects[p.from+j] {
						t.Fatalf("seed %d: %v in a record from %d on, wanted is %v", seed, effect.At, next, want[:min(1, len(want))])
					}
					want = want[1:]
				}
			}
			if size != rec.sizeBytes {
				t.Fatalf("seed %d: %d bytes, counted %d", seed, size, rec.sizeBytes)
			}
			next = rec.last + 1
		})
		if len(want) > 0 || next != upTo+1 {
			t.Fatalf("seed %d: %d changes are missing; merged up to %d of %d", seed, len(want), next-1, upTo)
		}
	}
}

// listView is a history in a slice.
type listView struct {
	effects  []mvcc.Effect
	revision kv.Revision
	held     *int64 // bytes handed out, and not passed on
}

func (v listView) Closed() kv.Revision    { return v.revision }
func (v listView) Compacted() kv.Revision { return 0 }
func (v listView) Close() error           { return nil }

func (v listView) History(kv.Revision, kv.Revision, int64, func(*mvcc.Effect) error) (kv.Revision, error) {
	return 0, errors.New("what is to be merged is read by place")
}

func (v listView) Changes(from mvcc.Locator, to kv.Revision, want func(mvcc.Locator, []byte, int64) bool, fn func(*mvcc.Effect) error) error {
	if to > v.revision {
		return fmt.Errorf("the history has no revision %d", to)
	}
	for i := range v.effects {
		e := &v.effects[i]
		if e.At.Less(from) || e.At.Rev > to {
			continue
		}
		key := bytes.Clone(e.Key)
		wanted := want(e.At, key, rowBytes(e))
		if clear(key); !wanted { // it is valid only during the call
			break
		}
		*v.held += rowBytes(e)
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// rowBytes is what a change counts in a history.
func rowBytes(e *mvcc.Effect) int64 { return int64(len(e.Key) + len(e.Value)) }

// TestMergedHistoryAgainstSort compares the history of several shards, read in steps, with sorting all changes. What is read before its turn
// has come stays below the bound, whatever the size of changes and the number of shards.
func TestMergedHistoryAgainstSort(t *testing.T) {
	enough := errors.New("enough")
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 22))
		all, end := randomRecords(random, 1+random.IntN(4))
		limit, ahead, held := int64(1+random.IntN(3000)), int64(random.IntN(5000)), int64(0)
		var views []View
		var shards [][]mvcc.Effect
		for _, records := range all {
			v := listView{held: &held}
			for _, rec := range records {
				for _, p := range rec.parts {
					v.effects = append(v.effects, p.effects...)
				}
				v.revision = rec.last
			}
			if random.IntN(2) == 0 { // it is closed further than it has come
				v.revision = 0
				if n := len(v.effects); n > 0 {
					v.revision = v.effects[n-1].At.Rev
				}
			}
			views = append(views, v)
			shards = append(shards, v.effects)
		}
		var got, want []string
		name := func(e *mvcc.Effect) string { return fmt.Sprintf("%08d.%d %s", e.At.Rev, e.At.Sub, e.Key) }
		for _, e := range sorted(shards) {
			if e.At.Rev <= end {
				want = append(want, name(&e))
			}
		}
		for next := kv.Revision(1); next <= end; {
			size, stop := int64(0), random.IntN(10)
			held = 0
			after, err := mergedHistory(views, next, end, limit, ahead, func(e *mvcc.Effect) error {
				if e.At.Rev < next {
					t.Fatalf("seed %d: %v in the history from %d on", seed, e.At, next)
				}
				if held -= rowBytes(e); held > ahead {
					t.Fatalf("seed %d: %d bytes are held whose turn has not come, want no more than %d", seed, held, ahead)
				}
				if size += rowBytes(e); stop == 0 && random.IntN(5) == 0 {
					return enough
				}
				got = append(got, name(e))
				return nil
			})
			switch {
			case errors.Is(err, enough): // the reader begins again with what it has
				for len(got) > 0 && got[len(got)-1] >= fmt.Sprintf("%08d", next) {
					got = got[:len(got)-1]
				}
				continue
			case err != nil || after <= next:
				t.Fatalf("seed %d: after %d comes %d, %v", seed, next, after, err)
			case after <= end && size < limit:
				t.Fatalf("seed %d: a step ended after %d bytes of %d", seed, size, limit)
			}
			next = after
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

// TestRingsShareTheirPool: a ring may hold what others do not, and together they stay below twice the bound.
func TestRingsShareTheirPool(t *testing.T) {
	const limit, rings = 10_000, 8
	p := pool{limitBytes: limit}
	all := make([]ring, rings)
	for i := range all {
		all[i] = newRing(&p, 0)
	}
	push := func(r *ring, bytes int) {
		r.push(&record{first: r.last + 1, last: r.last + 1, sizeBytes: bytes, parts: []part{{effects: []mvcc.Effect{{At: mvcc.Locator{Rev: r.last + 1}}}}}})
	}
	for range 1000 {
		push(&all[0], 100)
	}
	if all[0].sizeBytes != limit {
		t.Errorf("one of %d rings holds %d bytes of %d", rings, all[0].sizeBytes, limit)
	}
	random := rand.New(rand.NewPCG(1, 23))
	for range 20_000 {
		r := &all[random.IntN(rings)]
		switch n := random.IntN(20); {
		case n == 0:
			r.close(r.last + 3)
		case n == 1 && random.IntN(50) == 0:
			r.reset(r.last + 5)
		default:
			push(r, 1+random.IntN(200))
		}
		sum := 0
		for i := range all {
			sum += all[i].sizeBytes
		}
		if sum != p.usedBytes || sum > 2*limit {
			t.Fatalf("%d bytes are held, counted %d, and the bound is %d", sum, p.usedBytes, limit)
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10_000 { // what says only that there is nothing takes no room
		all[1].close(all[1].last + 1)
	}
	if n := len(all[1].records); n > 2000 {
		t.Errorf("%d records, of which most are empty", n)
	}
}

// TestStoreSideBySide has shards, questions and streams go on side by side, with the hub's own goroutine.
func TestStoreSideBySide(t *testing.T) {
	s := newStore(t, 3, Options{})
	s.atOnce = true
	var mu sync.Mutex // of the store
	locked := func(fn func()) {
		mu.Lock()
		defer mu.Unlock()
		fn()
	}
	options := s.hub.options
	options.Clock, options.RingBytes, options.ChunkBytes, options.StreamBytes = nil, 20_000, 500, 5000
	options.Known = func() (known kv.Revision) {
		locked(func() { known = s.known })
		return known
	}
	var asking sync.WaitGroup
	options.Learn = func(shards []kv.ShardID, got func(kv.Present, error)) {
		asking.Go(func() {
			p := kv.Present{}
			locked(func() {
				p.Revision = s.now
				for _, id := range shards {
					p.Shards = append(p.Shards, kv.ShardProgress{Last: s.parts[id].last, Clean: true})
				}
				s.known = max(s.known, p.Revision)
			})
			got(p, nil)
		})
	}
	hub, err := NewHub(options)
	if err != nil {
		t.Fatal(err)
	}
	s.hub = hub
	stop := tickAlways(hub)
	var writing, reading sync.WaitGroup
	written := make(chan struct{})
	for _, id := range s.ids() {
		writing.Go(func() {
			for i := range 400 {
				key := string(rune(s.parts[id].first + byte(i%3)))
				var entry logged
				locked(func() {
					s.issue(id, []change{{key, fmt.Append(nil, i)}})
					entry = s.parts[id].log[0]
					s.parts[id].log = s.parts[id].log[:0]
				})
				hub.Shard(id).Applied(s.parts[id].applyNumbered(entry))
			}
		})
	}
	spans := []kv.Span{kv.Everything(), {Start: []byte("a"), End: []byte("k")}, {Start: []byte("s"), End: []byte("z")}, {Start: []byte("j"), End: []byte("zz")}}
	got := make([][]kv.Event, len(spans))
	for i, span := range spans {
		reading.Go(func() {
			stream, err := hub.NewStream(nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			if _, err := stream.Create(t.Context(), CreateRequest{Span: span, StartRevision: 2}); err != nil {
				t.Error(err)
				return
			}
			reading.Go(func() {
				<-written
				if err := stream.RequestProgress(t.Context()); err != nil {
					t.Error(err)
				}
			})
			for {
				batch, err := stream.Next(t.Context())
				switch {
				case err != nil:
					t.Error(err)
					return
				case batch.Kind == KindProgress:
					return
				}
				for _, e := range batch.Events {
					got[i] = append(got[i], e.Event(false))
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
	stop()
	hub.Close()
	asking.Wait()
	if err := hub.Check(); err != nil {
		t.Error(err)
	}
	for i, span := range spans {
		want := s.expect(CreateRequest{Span: span}, 2, s.now)
		if !slices.EqualFunc(got[i], want, sameEvent) {
			t.Errorf("watch of %q got %d events, want %d", span, len(got[i]), len(want))
		}
	}
}
