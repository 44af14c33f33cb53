package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
	t.Run("load is durable", func(t *testing.T) { engineLoadDurable(t, open(t)) })
	t.Run("closed", func(t *testing.T) { engineClosed(t, open(t)) })
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
	if err := Load(w.Engine); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Load after Close: %v", err)
	}
	reclaimed := make(chan error, 1)
	w.Engine.Reclaim(func(err error) { reclaimed <- err })
	if err := <-reclaimed; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Reclaim after Close: %v", err)
	}
}

// engineLoadDurable: so is what was applied before, and what is loaded is above that.
func engineLoadDurable(t *testing.T, w EngineWorld) {
	set(t, w.Engine, "k1", "before")
	set(t, w.Engine, "k2", "before")
	set(t, w.Engine, "k9", "before")
	rows := func(rows ...storage.Row) storage.Rows {
		return func(yield func(storage.Row) bool) {
			for _, row := range rows {
				if !yield(row) {
					return
				}
			}
		}
	}
	must(t, Load(w.Engine))
	must(t, Load(w.Engine, rows(storage.Row{Key: []byte("k1"), Value: []byte("loaded")}, storage.Row{Key: []byte("k2"), Deleted: true}),
		rows(storage.Row{Key: []byte("k3")})))
	w = w.Crash(t, rand.New(rand.NewPCG(1, 5)))
	CheckReader(t, w.Engine, EngineModel{"k1": "loaded", "k3": "", "k9": "before"})
	closeEngine(t, w.Engine)
}

// Load loads tables and waits.
func Load(e storage.Engine, tables ...storage.Rows) error {
	done := make(chan error, 1)
	e.Load(tables, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		return errors.New("the tables were not loaded within a minute")
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
