package lsm

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// TestCrashAtEverySync takes a picture of the disk before each sync and link, wherever in Pebble it
// happens, and checks that what it holds is the content after some batch and not before the last flush.
func TestCrashAtEverySync(t *testing.T) {
	type picture struct {
		fs               *vfs.MemFS
		durable, applied int
	}
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		var mu sync.Mutex
		var pictures []picture
		var durable, applied atomic.Int64
		pictureRandom := rand.New(rand.NewPCG(seed, 2))
		hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpLink, errorfs.OpRename, errorfs.OpRemove:
				mu.Lock()
				defer mu.Unlock()
				p := picture{durable: int(durable.Load())}
				p.fs = fs.CrashClone(crash(pictureRandom))
				p.applied = int(applied.Load())
				pictures = append(pictures, p)
			}
			return nil
		})
		e := mustOpen(t, tiny(errorfs.Wrap(fs, hook), "db"))
		history := storagetest.NewEngineHistory(random)
		for range 120 {
			if random.IntN(6) == 0 {
				if err := storagetest.Flush(e); err != nil {
					t.Fatal(err)
				}
				durable.Store(int64(history.Applied()))
				continue
			}
			b := history.Prepare(e)
			applied.Store(int64(history.Applied()))
			if err := e.Apply(b); err != nil {
				t.Fatal(err)
			}
			b.Close()
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		for _, p := range pictures {
			after := mustOpen(t, tiny(p.fs, "db"))
			storagetest.CheckRecovered(t, history, after, p.durable, p.applied)
			if err := after.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("seed %d: %d crashes", seed, len(pictures))
	}
}

// TestEveryIOError lets each operation fail, once or from then on: every call gives an error or the right
// answer, nothing hangs, and what was flushed is found by a restart.
func TestEveryIOError(t *testing.T) {
	for _, stays := range []bool{false, true} {
		injections := 0
		for index := int64(0); ; index += 1 + index/40 {
			if !failFrom(t, index, stays) {
				break
			}
			injections++
		}
		t.Logf("stays %v: %d injections", stays, injections)
	}
}

func failFrom(t *testing.T, index int64, stays bool) (injected bool) {
	broken := errors.New("injected")
	fs := vfs.NewCrashableMem()
	var operations atomic.Int64
	var hit atomic.Bool
	o := tiny(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileClose, errorfs.OpGetDiskUsage:
			return nil
		}
		n := operations.Add(1) - 1
		if n == index || stays && n > index {
			hit.Store(true)
			return broken
		}
		return nil
	})), "db")
	failures := make(chan error, 10)
	o.Listener.Failed = func(err error) { failures <- err }
	history := storagetest.NewEngineHistory(rand.New(rand.NewPCG(uint64(index), 1)))
	e, err := Open(o)
	if err != nil {
		if !hit.Load() {
			t.Fatal(err)
		}
		return true
	}
	runUntilError(t, e, history, hit.Load, broken)
	failed := e.failure.err()
	if err := within(t, e.Close); err != nil && !hit.Load() {
		t.Fatal(err)
	}
	if failed != nil {
		select {
		case got := <-failures:
			if got != failed || !errors.Is(got, broken) || !errors.Is(got, storage.ErrUnusable) {
				t.Fatalf("operation %d: the listener heard %v, the engine stopped with %v", index, got, failed)
			}
		default:
			t.Fatalf("operation %d: nobody was told of %v", index, failed)
		}
	}
	after := mustOpen(t, tiny(fs.CrashClone(vfs.CrashCloneCfg{}), "db"))
	storagetest.CheckRecovered(t, history, after, history.Durable, history.Applied())
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
	return hit.Load()
}

func runUntilError(t *testing.T, e *Engine, history *storagetest.EngineHistory, hit func() bool, broken error) {
	t.Helper()
	for i := range 60 {
		var err error
		switch {
		case i%10 == 9:
			if err = storagetest.Flush(e); err == nil {
				history.Durable = history.Applied()
			}
		case i%10 == 5:
			err = storagetest.DiffReader(e, history.State(history.Applied()))
		default:
			b := history.Prepare(e)
			err = e.Apply(b)
			b.Close()
		}
		if err == nil {
			continue
		}
		if !hit() || !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if e.failure.err() != nil {
			return
		}
	}
}

// within fails the test when fn hangs.
func within(t *testing.T, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
		return nil
	}
}

// TestDiskFull: writers that wait for room are woken, and told what to do.
func TestDiskFull(t *testing.T) {
	fs := vfs.NewMem()
	var full atomic.Bool
	o := tiny(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	})), "db")
	heard := make(chan error, 1)
	o.Listener.Failed = func(err error) { heard <- err }
	e := mustOpen(t, o)
	set(t, e, "before", []byte("1"))
	if err := storagetest.Flush(e); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	err := within(t, func() error {
		for i := 0; ; i++ {
			b := e.NewBatch()
			b.Set([]byte{byte(i)}, make([]byte, 5000))
			if err := e.Apply(b); err != nil {
				return err
			}
			b.Close()
		}
	})
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, storage.ErrUnusable) {
		t.Fatal(err)
	}
	t.Log(err)
	if told := <-heard; told != err {
		t.Errorf("the listener heard %v", told)
	}
	if _, _, err := e.Get([]byte("before"), nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Get: %v", err)
	}
	if err := storagetest.Flush(e); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Flush: %v", err)
	}
	if err := within(t, e.Close); err != nil {
		t.Error(err)
	}
	full.Store(false)
	e = mustOpen(t, o)
	storagetest.CheckReader(t, e, storagetest.EngineModel{"before": "1"})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
