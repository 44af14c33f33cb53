package lsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// tiny makes memtables, blocks of files and caches small, so that a short test flushes and compacts.
func tiny(fs vfs.FS, dir string) Options {
	return Options{Dir: dir, FS: fs, CacheBytes: 1 << 20, MemTableBytes: 16 << 10, ExportFileBytes: 1000}
}

func mustOpen(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func world(t *testing.T, fs *vfs.MemFS, dir string, inline bool) storagetest.EngineWorld {
	o := tiny(fs, dir)
	o.Inline = inline
	e := mustOpen(t, o)
	if err := fs.MkdirAll("/export/"+dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return storagetest.EngineWorld{
		Engine: e,
		Dir:    "/export/" + dir,
		Crash: func(t *testing.T, random *rand.Rand) storagetest.EngineWorld {
			after := fs.CrashClone(crash(random))
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			return world(t, after, dir, inline)
		},
		Other: func(t *testing.T) storagetest.EngineWorld { return world(t, fs, dir+"-other", inline) },
	}
}

func crash(random *rand.Rand) vfs.CrashCloneCfg {
	if random == nil {
		return vfs.CrashCloneCfg{}
	}
	return vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random}
}

// TestSizeOf: what is in files counts, for the spans that it is in.
func TestSizeOf(t *testing.T) {
	e := mustOpen(t, tiny(vfs.NewMem(), "db"))
	size := func(lower, upper string) int64 {
		bytes, err := e.SizeOf([]storage.Span{{Lower: []byte(lower), Upper: []byte(upper)}})
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	random := rand.New(rand.NewPCG(1, 1))
	b := e.NewBatch()
	for i := range 200 {
		value := make([]byte, 100)
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		b.Set(fmt.Appendf(nil, "a%03d", i), value)
	}
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	flushed := make(chan error, 1)
	e.Flush(func(err error) { flushed <- err })
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if all, none := size("a", "b"), size("b", "c"); all < 15_000 || all > 100_000 || none != 0 {
		t.Errorf("20,000 bytes have %d in files, and none have %d", all, none)
	}
	if half := size("a100", "b"); half < 5_000 || half > 50_000 {
		t.Errorf("half of them have %d", half)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.SizeOf(nil); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestEngine(t *testing.T) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprintf("inline=%v", inline), func(t *testing.T) {
			storagetest.RunEngine(t, func(t *testing.T) storagetest.EngineWorld { return world(t, vfs.NewCrashableMem(), "db", inline) })
		})
	}
}

func set(t *testing.T, e storage.Engine, key string, value []byte) {
	t.Helper()
	b := e.NewBatch()
	defer b.Close()
	b.Set([]byte(key), value)
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, Options{Dir: dir})
	set(t, e, "a", []byte("1"))
	if err := storagetest.Flush(e); err != nil {
		t.Fatal(err)
	}
	set(t, e, "b", []byte("2"))
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Fatal("two engines in one directory")
	} else {
		t.Log(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, Options{Dir: dir, ReadOnly: true})
	storagetest.CheckReader(t, e, storagetest.EngineModel{"a": "1"})
	b := e.NewBatch()
	b.Set([]byte("x"), nil)
	if err := e.Apply(b); err == nil {
		t.Error("a read-only engine took a batch")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: t.TempDir(), ReadOnly: true}); err == nil {
		t.Error("a read-only engine was created")
	}
}

func TestFutureFormat(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, tiny(fs, "db"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var counter, version int
		if _, err := fmt.Sscanf(name, "marker.format-version.%d.%d", &counter, &version); err == nil {
			if err := fs.Rename("db/"+name, fmt.Sprintf("db/marker.format-version.%06d.%03d", counter+1, 900)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if e, err := Open(tiny(fs, "db")); err == nil {
		t.Fatal("a format from the future was opened", e.Close())
	} else {
		t.Log(err)
	}
}

// TestLargeBatches: batches larger than a memtable, and more of them than may be pending.
func TestLargeBatches(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, tiny(fs, "db"))
	model := storagetest.EngineModel{}
	for i := range 40 {
		b := e.NewBatch()
		for j := range 20 {
			key, value := fmt.Sprintf("%03d-%03d", i%13, j), make([]byte, 2000)
			b.Set([]byte(key), value)
			model[key] = string(value)
		}
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	storagetest.CheckReader(t, e, model)
	e.Reclaim(func(error) {})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReclaimIsDoneWhenItIsSeen: when Reclaim says that it is done, the figures show it.
func TestReclaimIsDoneWhenItIsSeen(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, tiny(fs, "db"))
	random := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 4096)
	for i := range 500 {
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		set(t, e, fmt.Sprintf("%06d", i), value)
	}
	if err := storagetest.Flush(e); err != nil {
		t.Fatal(err)
	}
	full := e.Metrics().DiskBytes
	b := e.NewBatch()
	b.DeleteRange([]byte("0"), []byte("1"))
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	b.Close()
	done := make(chan error, 1)
	e.Reclaim(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if left := e.Metrics().DiskBytes; full < 2_000_000 || left > full/10 {
		t.Errorf("%d of %d bytes are left of what was deleted", left, full)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptTable(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, tiny(fs, "db"))
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		value := make([]byte, 100)
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		set(t, e, fmt.Sprintf("%06d", i), value)
	}
	if err := storagetest.Flush(e); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("db")
	for _, name := range names {
		if len(name) > 4 && name[len(name)-4:] == ".sst" {
			content, err := fs.UnsafeGetFileDataBuffer("db/" + name)
			if err != nil {
				t.Fatal(err)
			}
			content[len(content)/3] ^= 1
		}
	}
	e = mustOpen(t, tiny(fs, "db"))
	it := e.NewIterator(nil, nil)
	for ok := it.First(); ok; ok = it.Next() {
	}
	err := it.Error()
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("reading a damaged table: %v", err)
	}
	t.Log(err)
	_ = it.Close()
	_ = e.Close()
}

// TestInterruptedCreation: whichever of its first files a crash leaves of the first start, the next one begins anew. With tables beside it the same is damage.
func TestInterruptedCreation(t *testing.T) {
	first := vfs.NewMem()
	if err := mustOpen(t, tiny(first, "db")).Close(); err != nil {
		t.Fatal(err)
	}
	names, err := first.List("db")
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	for subset := range 1 << len(names) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("db", 0o755); err != nil {
			t.Fatal(err)
		}
		var left []string
		for i, name := range names {
			if subset>>i&1 == 1 {
				left = append(left, name)
				if err := vfs.CopyAcrossFS(first, "db/"+name, fs, "db/"+name); err != nil {
					t.Fatal(err)
				}
			}
		}
		e, err := Open(tiny(fs, "db"))
		if err != nil {
			t.Errorf("with %v: %v", left, err)
			continue
		}
		set(t, e, "a", []byte("1"))
		if err := storagetest.Flush(e); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = mustOpen(t, tiny(fs, "db"))
		storagetest.CheckReader(t, e, storagetest.EngineModel{"a": "1"})
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
