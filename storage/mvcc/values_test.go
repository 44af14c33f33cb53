package mvcc

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// stepper is a store whose steps a test takes one by one.
type stepper struct {
	t      *testing.T
	engine *watchedEngine
	store  *Store
	last   map[string]Effect
}

// watchedEngine calls beforeGet ahead of every Get.
type watchedEngine struct {
	*storage.Memory
	beforeGet func(key []byte)
}

func (e *watchedEngine) Get(key, buf []byte) ([]byte, bool, error) {
	if e.beforeGet != nil {
		e.beforeGet(key)
	}
	return e.Memory.Get(key, buf)
}

func newStepper(t *testing.T) *stepper {
	b := &stepper{t: t, engine: &watchedEngine{Memory: storage.NewMemory(storage.MemoryOptions{})}, last: map[string]Effect{}}
	b.open(Options{})
	return b
}

func (b *stepper) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *stepper) open(o Options) {
	b.t.Helper()
	var err error
	b.store, err = Open(b.engine, o)
	b.must(err)
}

func (b *stepper) commit(fn func(storage.Batch) error) {
	b.t.Helper()
	batch := b.engine.NewBatch()
	defer batch.Close()
	b.must(fn(batch))
	b.must(b.engine.Apply(batch))
}

// write puts a value, or deletes the key if there is none.
func (b *stepper) write(key, value string) {
	b.t.Helper()
	rev := b.store.Revision() + 1
	before, exists := b.last[key]
	e := Effect{Key: []byte(key), At: Locator{Rev: rev}, Prev: before.At, PrevLive: exists && before.Version > 0}
	if value != "" {
		e.Value, e.Version, e.Create = []byte(value), 1, rev
		if e.PrevLive {
			e.Version, e.Create = before.Version+1, before.Create
		}
	}
	b.last[key] = e
	b.commit(func(batch storage.Batch) error { b.store.Apply(batch, []Effect{e}, rev); return nil })
}

func (b *stepper) flushChunk(rows int) (done bool) {
	b.t.Helper()
	b.commit(func(batch storage.Batch) (err error) { done, err = b.store.FlushChunk(batch, rows); return err })
	return done
}

func (b *stepper) flush() {
	b.t.Helper()
	b.store.Freeze()
	for !b.flushChunk(100) {
	}
	b.store.FlushDone()
}

func (b *stepper) compact(rev kv.Revision) {
	b.t.Helper()
	b.commit(func(batch storage.Batch) error { b.store.SetCompacted(batch, rev); return nil })
}

func (b *stepper) deleteCompacted() {
	b.t.Helper()
	for more := true; more; {
		b.commit(func(batch storage.Batch) (err error) { more, err = b.store.CompactStep(batch, 100); return err })
	}
}

// about lists the kinds of the rows about a key that are in the engine.
func (b *stepper) about(key string) (kinds string) {
	for _, kind := range []keys.Kind{keys.Latest, keys.Value} {
		_, found, err := b.engine.Get(keys.AppendRow(nil, keys.Of(kv.SystemShard), kind, []byte(key)), nil)
		b.must(err)
		if found {
			kinds += string(rune(kind))
		}
	}
	return kinds
}

// A key is deleted, and that is flushed and compacted; it is put again, a flush writes that and does not end. After the crash its newest version is the
// tombstone, until the log is replayed. When compaction deletes the tombstone meanwhile, nothing may be left of the key, and no flush may write it again.
func TestTombstoneOfAnInterruptedFlush(t *testing.T) {
	b := newStepper(t)
	b.write("a", "1") // revision 2
	b.write("a", "")
	b.write("b", "2")
	b.compact(4)
	b.flush()
	flushed := Options{Revision: b.store.Revision(), Compacted: b.store.Compacted(), Flush: b.store.FlushNumber(), Replaying: true}
	b.write("a", "again")
	b.store.Freeze()
	if b.flushChunk(1); b.about("a") != "kv" {
		t.Fatalf("after a chunk of the flush the key has the rows %q", b.about("a"))
	}
	b.open(flushed) // as after a crash
	if m, found, err := b.store.Meta([]byte("a")); err != nil || !found || m.At != (Locator{Rev: 3}) {
		t.Fatalf("after the crash the newest version is %+v, %v, %v; want the tombstone at 3", m, found, err)
	}
	b.deleteCompacted()
	if b.about("a") != "" {
		t.Errorf("after compaction the key has the rows %q", b.about("a"))
	}
	b.flush()
	if b.about("a") != "" {
		t.Errorf("a flush after compaction wrote the rows %q", b.about("a"))
	}
	b.must(b.store.Check())
	b.last["a"] = Effect{At: Locator{Rev: 3}}
	b.write("a", "again") // the replay
	b.flush()
	found, ok, err := b.store.Get([]byte("a"), 0)
	if err != nil || !ok || string(found.Value) != "again" || b.store.liveKeys() != 2 {
		t.Errorf("after the replay: %+v, %v, %v, and %d live keys", found, ok, err, b.store.liveKeys())
	}
	b.must(b.store.Check())
}

// A value moves from the row by key behind its version while somebody looks for it who holds no lock: after the look behind the version, before that by key.
func TestReplacedWhileTheValueMoves(t *testing.T) {
	b := newStepper(t)
	b.write("a", "old")
	b.flush()
	b.write("a", "new")
	b.engine.beforeGet = func(row []byte) {
		if keys.Kind(row[4]) == keys.Value {
			b.engine.beforeGet = nil
			b.flush()
		}
	}
	row, _, ok, err := b.store.Replaced(Locator{Rev: 2}, nil)
	if err != nil || !ok || string(row.Value) != "old" {
		t.Errorf("found %+v, %v, %v", row, ok, err)
	}
	if b.engine.beforeGet != nil {
		t.Error("nobody looked by key: this is not the case in question")
	}
}
