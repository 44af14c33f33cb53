package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/storage"
)

// EngineWorld is an engine and the machine it runs on.
type EngineWorld struct {
	Engine storage.Engine
	// Dir is a directory that exists, for exported files.
	Dir string
	// Crash cuts the power and opens the engine again. The old engine is not used any more.
	Crash func(t *testing.T, random *rand.Rand) EngineWorld
	// Other opens another, empty engine on the same machine.
	Other func(t *testing.T) EngineWorld
}

// RunEngine runs the suite. open returns an empty engine each time.
func RunEngine(t *testing.T, open func(t *testing.T) EngineWorld) {
	t.Run("random trace", func(t *testing.T) { engineRandomTrace(t, open) })
	t.Run("iterator", func(t *testing.T) { engineIterator(t, open(t)) })
	t.Run("batch order", func(t *testing.T) { engineBatchOrder(t, open(t)) })
	t.Run("flush order", func(t *testing.T) { engineFlushOrder(t, open(t)) })
	t.Run("crash", func(t *testing.T) { engineCrash(t, open) })
	t.Run("export and ingest", func(t *testing.T) { engineExportIngest(t, open) })
	t.Run("ingest is durable", func(t *testing.T) { engineIngestDurable(t, open(t)) })
	t.Run("ingest refuses", func(t *testing.T) { engineIngestRefuses(t, open(t)) })
	t.Run("closed", func(t *testing.T) { engineClosed(t, open(t)) })
}

// EngineModel is the stupid twin of an engine.
type EngineModel map[string]string

// RandomKey is one of few keys, so that they collide.
func RandomKey(random *rand.Rand) []byte { return fmt.Appendf(nil, "k%02d", random.IntN(60)) }

// RandomChange puts one change into the batch and the model.
func RandomChange(random *rand.Rand, b storage.Batch, m EngineModel) {
	key := RandomKey(random)
	switch n := random.IntN(10); {
	case n < 7:
		value := make([]byte, random.IntN(300))
		for i := range value {
			value[i] = byte(random.IntN(4))
		}
		b.Set(key, value)
		m[string(key)] = string(value)
	case n < 9:
		b.Delete(key)
		delete(m, string(key))
	default:
		upper := RandomKey(random)
		b.DeleteRange(key, upper)
		m.deleteRange(key, upper)
	}
}

func (m EngineModel) deleteRange(lower, upper []byte) {
	for k := range m {
		if k >= string(lower) && k < string(upper) {
			delete(m, k)
		}
	}
}

// keys returns the keys within the bounds; nil is unbounded.
func (m EngineModel) keys(lower, upper []byte) []string {
	keys := slices.Sorted(maps.Keys(m))
	return slices.DeleteFunc(keys, func(k string) bool {
		return lower != nil && k < string(lower) || upper != nil && k >= string(upper)
	})
}

// CheckReader compares everything that the reader shows with the model.
func CheckReader(t *testing.T, r storage.Reader, m EngineModel) {
	t.Helper()
	if err := DiffReader(r, m); err != nil {
		t.Fatal(err)
	}
}

// DiffReader returns the first difference.
func DiffReader(r storage.Reader, m EngineModel) error {
	it := r.NewIterator(nil, nil)
	defer it.Close()
	keys := m.keys(nil, nil)
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		if i >= len(keys) || string(it.Key()) != keys[i] || string(it.Value()) != m[keys[i]] {
			return fmt.Errorf("item %d is %q, the model has %d keys: %q", i, it.Key(), len(keys), keys)
		}
		i++
	}
	if err := it.Error(); err != nil {
		return err
	}
	if i != len(keys) {
		return fmt.Errorf("there are %d items, the model has %d", i, len(keys))
	}
	return nil
}

func engineRandomTrace(t *testing.T, open func(t *testing.T) EngineWorld) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			world := open(t)
			defer closeEngine(t, world.Engine)
			trace := engineTrace{t: t, random: rand.New(rand.NewPCG(seed, 1)), engine: world.Engine, model: EngineModel{}}
			for range 400 {
				trace.step()
			}
			trace.closeSnapshots()
		})
	}
}

type engineTrace struct {
	t         *testing.T
	random    *rand.Rand
	engine    storage.Engine
	model     EngineModel
	snapshots []frozen
}

type frozen struct {
	snapshot storage.Snapshot
	model    EngineModel
}

func (e *engineTrace) step() {
	switch n := e.random.IntN(20); {
	case n < 10:
		e.apply()
	case n < 13:
		checkGet(e.t, e.engine, e.model, RandomKey(e.random))
	case n < 16:
		lower, upper := e.bounds()
		walk(e.t, e.random, e.engine, e.model, lower, upper)
	case n < 17:
		e.snapshots = append(e.snapshots, frozen{e.engine.NewSnapshot(), maps.Clone(e.model)})
	case n < 18 && len(e.snapshots) > 0:
		i := e.random.IntN(len(e.snapshots))
		CheckReader(e.t, e.snapshots[i].snapshot, e.snapshots[i].model)
		checkGet(e.t, e.snapshots[i].snapshot, e.snapshots[i].model, RandomKey(e.random))
		must(e.t, e.snapshots[i].snapshot.Close())
		e.snapshots = slices.Delete(e.snapshots, i, i+1)
	case n < 19:
		must(e.t, Flush(e.engine))
	default:
		e.engine.Reclaim(func(error) {})
	}
}

func (e *engineTrace) apply() {
	b := e.engine.NewBatch()
	defer b.Close()
	for range e.random.IntN(12) {
		RandomChange(e.random, b, e.model)
	}
	must(e.t, e.engine.Apply(b))
}

func (e *engineTrace) bounds() (lower, upper []byte) {
	if e.random.IntN(2) == 0 {
		lower = RandomKey(e.random)
	}
	if e.random.IntN(2) == 0 {
		upper = RandomKey(e.random)
	}
	if lower != nil && upper != nil && bytes.Compare(lower, upper) > 0 {
		lower, upper = upper, lower
	}
	return lower, upper
}

func (e *engineTrace) closeSnapshots() {
	for _, s := range e.snapshots {
		CheckReader(e.t, s.snapshot, s.model)
		must(e.t, s.snapshot.Close())
	}
}

func checkGet(t *testing.T, r storage.Reader, m EngineModel, key []byte) {
	t.Helper()
	value, found, err := r.Get(key, []byte("before"))
	must(t, err)
	want, exists := m[string(key)]
	if found != exists || string(value) != "before"+want {
		t.Fatalf("Get(%q) = %q, %v; want %q, %v", key, value, found, "before"+want, exists)
	}
}

// walk makes random moves on an iterator and on a list.
func walk(t *testing.T, random *rand.Rand, r storage.Reader, m EngineModel, lower, upper []byte) {
	t.Helper()
	it := r.NewIterator(lower, upper)
	defer func() { must(t, it.Close()) }()
	keys, at := m.keys(lower, upper), -1
	for range 30 {
		var moved bool
		var move string
		key := RandomKey(random)
		switch random.IntN(6) {
		case 0:
			move, moved, at = "First", it.First(), 0
		case 1:
			move, moved, at = "Last", it.Last(), len(keys)-1
		case 2:
			move, moved = fmt.Sprintf("SeekGE(%s)", key), it.SeekGE(key)
			at, _ = slices.BinarySearch(keys, string(key))
		case 3:
			move, moved = fmt.Sprintf("SeekLT(%s)", key), it.SeekLT(key)
			at, _ = slices.BinarySearch(keys, string(key))
			at--
		case 4:
			move, moved = "Next", it.Next()
			if at >= 0 {
				at++
			}
		default:
			move, moved = "Prev", it.Prev()
			if at >= 0 {
				at--
			}
		}
		if at >= len(keys) {
			at = -1
		}
		if moved != (at >= 0) || it.Valid() != moved {
			t.Fatalf("%s in [%s, %s) returned %v, valid %v; want %v", move, lower, upper, moved, it.Valid(), at >= 0)
		}
		if moved && (string(it.Key()) != keys[at] || string(it.Value()) != m[keys[at]]) {
			t.Fatalf("%s in [%s, %s) arrived at %q; want %q", move, lower, upper, it.Key(), keys[at])
		}
		must(t, it.Error())
	}
}

func engineIterator(t *testing.T, w EngineWorld) {
	defer closeEngine(t, w.Engine)
	set(t, w.Engine, "a", "1")
	it := w.Engine.NewIterator(nil, nil)
	if it.Valid() || it.Next() || it.Prev() || it.Valid() {
		t.Error("an iterator must start unpositioned and stay so until it is placed")
	}
	set(t, w.Engine, "b", "2")
	if !it.First() || it.Next() {
		t.Error("an iterator must not see what was written after it was made")
	}
	if it.Valid() || it.Prev() {
		t.Error("a relative move from beyond the end must go nowhere")
	}
	must(t, it.Close())
}

func engineBatchOrder(t *testing.T, w EngineWorld) {
	defer closeEngine(t, w.Engine)
	b := w.Engine.NewBatch()
	defer b.Close()
	b.Set([]byte("a"), []byte("1"))
	b.Set([]byte("b"), []byte("1"))
	b.DeleteRange([]byte("a"), []byte("c"))
	b.Set([]byte("b"), []byte("2"))
	b.Delete([]byte("missing"))
	if b.Count() != 5 || b.SizeBytes() == 0 {
		t.Errorf("Count %d, SizeBytes %d; want 5 and more than 0", b.Count(), b.SizeBytes())
	}
	must(t, w.Engine.Apply(b))
	CheckReader(t, w.Engine, EngineModel{"b": "2"})
	b.Reset()
	if b.Count() != 0 {
		t.Errorf("Count after Reset is %d", b.Count())
	}
	must(t, w.Engine.Apply(b))
	CheckReader(t, w.Engine, EngineModel{"b": "2"})
}

func engineFlushOrder(t *testing.T, w EngineWorld) {
	defer closeEngine(t, w.Engine)
	const flushes = 20
	order := make(chan int, flushes)
	for i := range flushes {
		if i%3 != 0 {
			set(t, w.Engine, fmt.Sprint(i), "x")
		}
		w.Engine.Flush(func(err error) {
			if err != nil {
				t.Errorf("flush %d: %v", i, err)
			}
			order <- i
		})
	}
	for i := range flushes {
		select {
		case got := <-order:
			if got != i {
				t.Fatalf("flush %d completed as number %d", got, i)
			}
		case <-time.After(time.Minute):
			t.Fatalf("flush %d did not complete", i)
		}
	}
}

// engineCrash: what is found after a crash is the content after some batch, and not before the last flush.
func engineCrash(t *testing.T, open func(t *testing.T) EngineWorld) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			world := open(t)
			history := NewEngineHistory(random)
			for range 3 { // crashes
				for range random.IntN(40) {
					history.Step(t, world.Engine)
				}
				durable, applied := history.Durable, history.Applied()
				world = world.Crash(t, random)
				history.Recover(t, world.Engine, durable, applied)
			}
			closeEngine(t, world.Engine)
		})
	}
}

// EngineHistory applies numbered batches and remembers the content after each.
type EngineHistory struct {
	random  *rand.Rand
	states  []EngineModel // states[n] is the content after n batches
	Durable int           // batches that a completed flush covers
}

// counterKey holds the number of the last batch.
const counterKey = "counter"

// NewEngineHistory returns the history of an empty engine.
func NewEngineHistory(random *rand.Rand) *EngineHistory {
	return &EngineHistory{random: random, states: []EngineModel{{}}}
}

// Applied is the number of batches applied, or about to be.
func (h *EngineHistory) Applied() int { return len(h.states) - 1 }

// State is the content after n batches.
func (h *EngineHistory) State(n int) EngineModel { return h.states[n] }

// Prepare makes the next batch.
func (h *EngineHistory) Prepare(e storage.Engine) storage.Batch {
	next := maps.Clone(h.states[len(h.states)-1])
	b := e.NewBatch()
	for range 1 + h.random.IntN(8) {
		RandomChange(h.random, b, next)
	}
	next[counterKey] = fmt.Sprint(len(h.states))
	b.Set([]byte(counterKey), []byte(next[counterKey]))
	h.states = append(h.states, next)
	return b
}

// Step applies a batch or flushes.
func (h *EngineHistory) Step(t *testing.T, e storage.Engine) {
	t.Helper()
	if h.random.IntN(6) == 0 {
		must(t, Flush(e))
		h.Durable = h.Applied()
		return
	}
	b := h.Prepare(e)
	defer b.Close()
	must(t, e.Apply(b))
}

// Recover checks what was found after a crash, and goes on from there.
func (h *EngineHistory) Recover(t *testing.T, r storage.Reader, durable, applied int) {
	t.Helper()
	n := CheckRecovered(t, h, r, durable, applied)
	h.states = h.states[:n+1]
	h.Durable = min(h.Durable, n)
}

// CheckRecovered checks that the content is that after one of the batches, and returns which.
func CheckRecovered(t *testing.T, h *EngineHistory, r storage.Reader, durable, applied int) int {
	t.Helper()
	value, _, err := r.Get([]byte(counterKey), nil)
	must(t, err)
	n := 0
	if len(value) > 0 {
		if _, err := fmt.Sscan(string(value), &n); err != nil {
			t.Fatalf("the counter holds %q", value)
		}
	}
	if n < durable || n > applied {
		t.Fatalf("after the crash there are %d batches; %d were durable and %d applied", n, durable, applied)
	}
	if err := DiffReader(r, h.states[n]); err != nil {
		t.Fatalf("after the crash the engine claims to hold %d batches, but: %v", n, err)
	}
	return n
}

func engineClosed(t *testing.T, w EngineWorld) {
	set(t, w.Engine, "a", "1")
	b := w.Engine.NewBatch()
	b.Set([]byte("b"), []byte("2"))
	must(t, w.Engine.Close())
	if err := w.Engine.Apply(b); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
	if _, _, err := w.Engine.Get([]byte("a"), nil); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if err := Flush(w.Engine); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Flush after Close: %v", err)
	}
	reclaimed := make(chan error, 1)
	w.Engine.Reclaim(func(err error) { reclaimed <- err })
	if err := <-reclaimed; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Reclaim after Close: %v", err)
	}
}

// Flush flushes and waits.
func Flush(e storage.Engine) error {
	done := make(chan error, 1)
	e.Flush(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		return errors.New("the flush did not end within a minute")
	}
}

func set(t *testing.T, e storage.Engine, key, value string) {
	t.Helper()
	b := e.NewBatch()
	defer b.Close()
	b.Set([]byte(key), []byte(value))
	must(t, e.Apply(b))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closeEngine(t *testing.T, e storage.Engine) {
	t.Helper()
	must(t, e.Close())
}
