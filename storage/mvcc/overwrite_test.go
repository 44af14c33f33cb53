package mvcc

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
)

// overwriter puts values of 256 bytes over values, as a shard does, on a real engine.
type overwriter struct {
	b      *testing.B
	engine *lsm.Engine
	store  *Store
	newest []Effect // by key
	value  []byte
}

// BenchmarkOverwrite overwrites 100,000 keys at random, 50 at a time, with all flushes and compactions that this leads to: the CPU time of the whole
// process. It takes many overwrites until that is steady: -benchtime=500000x.
func BenchmarkOverwrite(b *testing.B) {
	const keys, atOnce = 100_000, 50
	engine, err := lsm.Open(lsm.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	store, err := Open(engine, Options{})
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	w := &overwriter{b, engine, store, make([]Effect, keys), make([]byte, 256)}
	for at := 0; at < keys; at += atOnce {
		w.put(at, func(i int) int { return i }, atOnce)
	}
	b.ResetTimer()
	began := w.cpu()
	for at := 0; at < b.N; at += atOnce {
		w.put(at, func(int) int { return random.IntN(keys) }, atOnce)
	}
	b.ReportMetric(float64(w.cpu()-began)/1000/float64(b.N), "cpu-us/put")
	b.ReportMetric(float64(engine.Metrics().DiskBytes)/(1<<20), "MiB")
}

func (w *overwriter) cpu() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		w.b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

func (w *overwriter) put(from int, key func(int) int, count int) {
	effects := make([]Effect, 0, count)
	for i := range count {
		k := key(from + i)
		rand.NewChaCha8([32]byte{byte(k), byte(k >> 8), byte(from)}).Read(w.value)
		was, at := w.newest[k], Locator{Rev: w.store.Revision() + 1, Sub: uint32(i)}
		e := Effect{Key: benchKey(k), Value: bytes.Clone(w.value), At: at, Create: at.Rev, Version: was.Version + 1, Prev: was.At, PrevLive: was.Version > 0}
		if was.Version > 0 {
			e.Create = was.Create
		}
		w.newest[k] = e
		effects = append(effects, e)
	}
	w.commit(func(b storage.Batch) error { w.store.Apply(b, effects, w.store.Revision()+1); return nil })
	if !w.store.NeedsFlush() {
		return
	}
	w.store.Freeze()
	for done := false; !done; {
		w.commit(func(b storage.Batch) (err error) { done, err = w.store.FlushChunk(b, 1000); return err })
	}
	w.store.FlushDone()
	w.engine.Flush(func(error) {})
}

func (w *overwriter) commit(fn func(storage.Batch) error) {
	batch := w.engine.NewBatch()
	defer batch.Close()
	err := fn(batch)
	if err == nil {
		err = w.engine.Apply(batch)
	}
	if err != nil {
		w.b.Fatal(err)
	}
}
