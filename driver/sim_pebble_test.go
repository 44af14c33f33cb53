package driver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
)

// fileDisks are the real log and the real state engine on one crashable file system. Every
// operation of the log that changes something, and every sync of the engine, may be the last.
type fileDisks struct {
	node   *simNode
	fs     *vfs.MemFS
	log    *wal.Log
	engine *lsm.Engine
	// inject is what goes wrong, if anything. The engine asks from goroutines of its own.
	inject atomic.Pointer[func(errorfs.Op) error]
}

func newFileDisks(_ *world, n *simNode) disks { return &fileDisks{node: n, fs: vfs.NewCrashableMem()} }

func (d *fileDisks) open() (storage.Log, storage.Engine, error) {
	fs := errorfs.Wrap(d.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if inject := d.inject.Load(); inject != nil {
			if err := (*inject)(op); err != nil {
				return err
			}
		}
		// The engine works in other goroutines, which cannot end here.
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "log") && d.node.guarded {
			d.node.effect()
		}
		return nil
	}))
	var err error
	if d.log, err = wal.Open(wal.Options{Dir: "log", FS: fs, SegmentBytes: 16 << 10, Inline: true}); err != nil {
		return nil, nil, err
	}
	if d.engine, err = lsm.Open(lsm.Options{Dir: "state", FS: fs, MemTableBytes: 32 << 10, CacheBytes: 1 << 20}); err != nil {
		return nil, nil, err
	}
	return &simLog{d.log, d.node}, &simEngine{d.engine, d.node}, nil
}

func (d *fileDisks) crash(random *rand.Rand) {
	old, engine := d.fs, d.engine
	percent := []int{0, 50, 100}[random.IntN(3)]
	d.fs = old.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(random.Uint64(), 1))})
	d.inject.Store(nil)
	_ = engine.Close() // works on what the dead process would have written: nobody sees it
}

// work waits for the engine to note who a replica is: it does so in goroutines, while the time of the world stands still.
func (d *fileDisks) work(*rand.Rand) {
	for r := d.node.replica; r.saving && !r.driver.inbox.waiting(); {
		time.Sleep(50 * time.Microsecond)
	}
}
func (d *fileDisks) check() error { return nil }

// TestCrashFiles runs clusters on the real log and state engine and cuts the power at any moment. The
// snapshot path is left out: it needs files of the operating system.
func TestCrashFiles(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	var total figures
	for seed := range seeds {
		w := newWorld(t, worldOptions{seed: seed + 500, nodes: []int{3, 1}[seed%2], dir: t.TempDir(), drift: 0.01, retain: 1 << 20, disks: newFileDisks})
		if err := crashRun(w); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		total.add(w.figures)
	}
	t.Logf("%+v", total)
	if total.EffectCrashes < 20*int(seeds) || total.Acked < 300*int(seeds) {
		t.Errorf("the runs do not cover enough: %+v", total)
	}
}

func crashRun(w *world) error {
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	defer w.close()
	number := 0
	for range 3 {
		for range 500 {
			n := w.nodes[w.random.IntN(len(w.nodes))]
			switch p := w.random.IntN(100); {
			case p < 4 && n.up && n.fuse == 0:
				n.fuse = 1 + w.random.IntN(40)
			case p < 10 && !n.up:
				if err := n.start(); err != nil {
					return err
				}
			}
			number++
			w.request(number)
			w.step(time.Duration(1+w.random.Int64N(8)) * time.Millisecond)
			if w.err != nil {
				return w.err
			}
		}
		if err := w.recover(); err != nil {
			return err
		}
		// All at once, and what they find must be what they had.
		before, hash := w.nodes[0].replica.Revision(), make([]uint32, len(w.nodes))
		for i, n := range w.nodes {
			var err error
			if hash[i], err = hashAt(n, before); err != nil {
				return err
			}
		}
		for _, n := range w.nodes {
			n.crash()
		}
		if err := w.recover(); err != nil {
			return err
		}
		for i, n := range w.nodes {
			if got, err := hashAt(n, before); err != nil || got != hash[i] {
				return fmt.Errorf("node %d had hash %x at revision %d, after the crash %x (%w)", n.id, hash[i], before, got, err)
			}
		}
	}
	return nil
}

func (w *world) close() {
	for _, n := range w.nodes {
		if d, ok := n.disks.(*fileDisks); ok && n.up {
			n.driver.Close()
			_ = errors.Join(d.log.Close(), d.engine.Close())
		}
	}
}

// TestDiskErrors lets one operation on the disk fail: the node stops, says so, answers everybody, and acknowledges
// nothing afterwards. A restart finds everything that was acknowledged.
func TestDiskErrors(t *testing.T) {
	broken := errors.New("injected")
	for _, directory := range []string{"log", "state"} {
		for seed := range uint64(8) {
			w := newWorld(t, worldOptions{seed: seed, nodes: 1, retain: 5, disks: newFileDisks})
			n := w.nodes[0]
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			if !w.run(3*time.Second, func() bool { return n.replica.IsLeader() }) {
				t.Fatal("does not lead: ", w.err)
			}
			var left atomic.Int64 // the engine's own goroutines count, too
			left.Store(1 + int64(seed)*2)
			inject := func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, directory) && op.Kind != errorfs.OpFileClose {
					if left.Add(-1) <= 0 {
						return broken
					}
				}
				return nil
			}
			n.disks.(*fileDisks).inject.Store(&inject)
			for i := 0; n.failedWith == nil && i < 30_000; i++ {
				w.put(n, fmt.Sprintf("k%d", i%10), fmt.Sprintf("v%d %0300d", i, i), 0)
				if i%500 == 0 {
					time.Sleep(time.Millisecond) // the engine works in goroutines of its own
				}
				w.now += time.Millisecond
				w.net.deliver()
				n.run()
			}
			if !errors.Is(n.failedWith, broken) || !errors.Is(n.driver.Err(), broken) {
				t.Fatalf("%s, seed %d: did not stop: %v", directory, seed, n.failedWith)
			}
			for op := range w.oracle.open {
				t.Fatalf("%s, seed %d: %s was not answered", directory, seed, op.name)
			}
			if n.replica.IsLeader() || n.replica.LeaseValid() {
				t.Fatal("serves although it stopped")
			}
			for _, ask := range []func(done func(error)){
				func(done func(error)) { n.replica.ReadIndex(func(_ uint64, err error) { done(err) }) },
				func(done func(error)) { n.replica.WaitApplied(1<<40, done) },
				func(done func(error)) {
					n.replica.Propose(rangeRequest("k1"), nil, func(_ *kv.Response, _ uint64, err error) { done(err) })
				},
			} {
				answers := 0
				ask(func(err error) {
					if answers++; err == nil {
						t.Fatal("a stopped node answered")
					}
				})
				if answers != 1 {
					t.Fatalf("%d answers", answers)
				}
			}
			if w.err != nil {
				t.Fatal(w.err)
			}
			acked := w.figures.Acked
			n.failedWith = nil
			n.crash()
			if err := w.recover(); err != nil {
				t.Fatalf("%s, seed %d: %v", directory, seed, err)
			}
			if w.oracle.observed > n.replica.Revision() {
				t.Fatalf("%d was acknowledged, the restart found %d", w.oracle.observed, n.replica.Revision())
			}
			t.Logf("%s, seed %d: %d acknowledged before the failure", directory, seed, acked)
			w.close()
		}
	}
}
