package watch

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// world is a store over the in-memory engine, and beside it the whole history in a slice: the stupid
// twin that says what every watcher must see.
type world struct {
	t      testing.TB
	mu     sync.RWMutex
	engine *storage.Memory
	store  *mvcc.Store
	hub    *Hub

	live    map[string]kv.KeyValue
	locator map[string]mvcc.Locator
	history []kv.Event // with previous versions
	subs    []uint32   // and their places in the transaction

	rows atomic.Int64 // looked up so far

	// holes, if set, says how many revisions others get before the next one, as other shards of a store do.
	holes func() kv.Revision

	news  *sync.Cond // something was applied, or quiet: nothing will be any more
	quiet bool
}

// change is a put, or with a nil value a deletion.
type change struct {
	key   string
	value []byte
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, engine: storage.NewMemory(storage.MemoryOptions{}),
		live: map[string]kv.KeyValue{}, locator: map[string]mvcc.Locator{},
		news: sync.NewCond(new(sync.Mutex)),
	}
	store, err := mvcc.Open(w.engine, mvcc.Options{MaxDirtyKeys: 50})
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	return w
}

func encodeText(dst []byte, event *kv.Event, withPrev bool) []byte {
	return append(dst, eventText(*event)...)
}

func eventText(e kv.Event) string {
	text := fmt.Sprintf("%d put %s=%s (create %d, version %d)", e.KV.ModRevision, e.KV.Key, e.KV.Value, e.KV.CreateRevision, e.KV.Version)
	if e.Type == kv.EventDelete {
		text = fmt.Sprintf("%d delete %s", e.KV.ModRevision, e.KV.Key)
	}
	if e.Prev != nil {
		text += fmt.Sprintf(" prev %s@%d", e.Prev.Value, e.Prev.ModRevision)
	}
	return text
}

func (w *world) Revision() kv.Revision {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.store.Closed()
}

func (w *world) Compacted() kv.Revision {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.store.Compacted()
}

func (w *world) View() (View, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.store.View(), nil
}

func (w *world) Replaced(at mvcc.Locator) (kv.KeyValue, bool, error) {
	w.rows.Add(1)
	row, _, found, err := w.store.Replaced(at, nil)
	return row, found, err
}

// commit applies an entry of several revisions, each with changes; deletions of what does not exist
// are left out. It does not tell the hub.
func (w *world) commit(revisions ...[]change) *shard.Applied {
	w.mu.Lock()
	defer w.mu.Unlock()
	applied := &shard.Applied{Revision: w.store.Revision(), Closed: w.store.Revision(), After: w.store.Revision()}
	for _, changes := range revisions {
		next := applied.Revision + 1
		if w.holes != nil {
			next += w.holes()
		}
		var effects []mvcc.Effect
		for _, c := range changes {
			if effect, ok := w.effect(next, uint32(len(effects)), c); ok {
				effects = append(effects, effect)
			}
		}
		if len(effects) > 0 {
			applied.Revision, applied.Closed = next, next
			applied.Effects = append(applied.Effects, effects...)
		}
	}
	if w.holes != nil && len(applied.Effects) == 0 {
		applied.Revision += w.holes() // the shard hears that it has none of these
		applied.Closed = applied.Revision
		w.store.Advance(applied.Revision)
		return applied
	}
	b := w.engine.NewBatch()
	w.store.Apply(b, applied.Effects, applied.Revision)
	w.apply(b)
	return applied
}

func (w *world) effect(revision kv.Revision, sub uint32, c change) (mvcc.Effect, bool) {
	before, exists := w.live[c.key]
	if c.value == nil && !exists {
		return mvcc.Effect{}, false
	}
	effect := mvcc.Effect{
		Key: []byte(c.key), Value: c.value, At: mvcc.Locator{Rev: revision, Sub: sub},
		Prev: w.locator[c.key], PrevLive: exists,
	}
	event := kv.Event{KV: kv.KeyValue{Key: effect.Key, ModRevision: revision}}
	if exists {
		copied := before
		event.Prev = &copied
	}
	if c.value == nil {
		event.Type = kv.EventDelete
		delete(w.live, c.key)
	} else {
		effect.Create, effect.Version = revision, 1
		if exists {
			effect.Create, effect.Version = before.CreateRevision, before.Version+1
		}
		event.KV.Value, event.KV.CreateRevision, event.KV.Version = c.value, effect.Create, effect.Version
		w.live[c.key] = event.KV
	}
	w.locator[c.key] = effect.At
	w.history, w.subs = append(w.history, event), append(w.subs, sub)
	return effect, true
}

func (w *world) apply(b storage.Batch) {
	if err := w.engine.Apply(b); err != nil {
		w.t.Fatal(err)
	}
	b.Close()
}

// compact forgets history below the revision, in memory and on "disk".
func (w *world) compact(revision kv.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.engine.NewBatch()
	w.store.SetCompacted(b, revision)
	w.apply(b)
	if w.store.Freeze() {
		for done := false; !done; {
			b := w.engine.NewBatch()
			var err error
			if done, err = w.store.FlushChunk(b, 100); err != nil {
				w.t.Fatal(err)
			}
			w.apply(b)
		}
		w.store.FlushDone()
	}
	for more := true; more; {
		b := w.engine.NewBatch()
		var err error
		if more, err = w.store.CompactStep(b, 100); err != nil {
			w.t.Fatal(err)
		}
		w.apply(b)
	}
}

// expect is what a watcher with the request must get, in order: text without previous
// versions, and the previous versions apart.
func (w *world) expect(request CreateRequest, from, to kv.Revision) (events []kv.Event) {
	for _, event := range w.history {
		if event.KV.ModRevision >= from && event.KV.ModRevision <= to && wants(request, event) {
			events = append(events, event)
		}
	}
	return events
}

// wants tells whether the request is about the event, whatever its revision.
func wants(request CreateRequest, event kv.Event) bool {
	unwanted := FilterNoPut
	if event.Type == kv.EventDelete {
		unwanted = FilterNoDelete
	}
	return request.Filters&unwanted == 0 && request.Span.Contains(event.KV.Key)
}

// sameEvent compares all but previous versions.
func sameEvent(a, b kv.Event) bool {
	return a.Type == b.Type && bytes.Equal(a.KV.Key, b.KV.Key) && bytes.Equal(a.KV.Value, b.KV.Value) &&
		a.KV.ModRevision == b.KV.ModRevision && a.KV.CreateRevision == b.KV.CreateRevision && a.KV.Version == b.KV.Version
}
