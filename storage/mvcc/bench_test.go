package mvcc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
)

// nullBatch measures what Apply costs without an engine.
type nullBatch struct{ storage.Batch }

func (nullBatch) Set([]byte, []byte) {}

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/%010d", i) }

func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s, err := Open(storage.NewMemory(storage.MemoryOptions{}), Options{})
			if err != nil {
				b.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 1))
			effects := make([]Effect, 4096)
			value := bytes.Repeat([]byte{'v'}, 256)
			for i := range effects {
				effects[i] = Effect{Key: benchKey(random.IntN(keys)), Value: value, Create: 2, Version: 2, PrevLive: true, Prev: Locator{Rev: 1}}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				e := effects[i%4096 : i%4096+1]
				binary.BigEndian.PutUint32(e[0].Key[len(e[0].Key)-4:], uint32(random.IntN(keys)))
				e[0].At = Locator{Rev: s.Revision() + 1}
				s.Apply(nullBatch{}, e, e[0].At.Rev)
				if s.NeedsFlush() {
					s.Freeze()
					s.FlushDone()
				}
			}
		})
	}
}

// benchStore holds n keys of 256 bytes each, inserted in random order, on disk.
func benchStore(b *testing.B, n int) (*Store, func()) {
	dir := b.TempDir()
	options := lsm.Options{Dir: dir}
	engine, err := lsm.Open(options)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(engine, Options{})
	if err != nil {
		b.Fatal(err)
	}
	value := bytes.Repeat([]byte("0123456789abcdef"), 16)
	order := rand.New(rand.NewPCG(1, 1)).Perm(n)
	commit := func(fn func(storage.Batch)) {
		batch := engine.NewBatch()
		fn(batch)
		if err := engine.Apply(batch); err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
	flush := func() {
		s.Freeze()
		for done := false; !done; {
			commit(func(batch storage.Batch) {
				if done, err = s.FlushChunk(batch, 1000); err != nil {
					b.Fatal(err)
				}
			})
		}
		s.FlushDone()
	}
	for i := 0; i < n; i += 100 {
		var effects []Effect
		for _, k := range order[i:min(i+100, n)] {
			at := Locator{Rev: s.Revision() + 1 + kv.Revision(len(effects))}
			effects = append(effects, Effect{Key: benchKey(k), Value: value, At: at, Create: at.Rev, Version: 1})
		}
		commit(func(batch storage.Batch) { s.Apply(batch, effects, effects[len(effects)-1].At.Rev) })
		if s.NeedsFlush() {
			flush()
		}
	}
	flush()
	done := make(chan error, 1)
	engine.Flush(func(err error) { done <- err })
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return s, func() { engine.Close() }
}

var benchSpan = kv.Span{Start: []byte("/"), End: []byte("0")}

// BenchmarkDisk measures reads of a million keys that were inserted in random order.
func BenchmarkDisk(b *testing.B) {
	const n = 1_000_000
	s, stop := benchStore(b, n)
	defer stop()
	random := rand.New(rand.NewPCG(2, 2))
	fail := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("fill", func(b *testing.B) {
		b.ReportMetric(float64(s.base.count), "buckets")
		b.ReportMetric(float64(s.engine.Metrics().DiskBytes)/(1<<20), "MiB")
	})
	b.Run("open", func(b *testing.B) {
		for range b.N {
			_, err := Open(s.engine, Options{Revision: s.Revision(), Flush: s.FlushNumber()})
			fail(err)
		}
	})
	b.Run("meta/miss", func(b *testing.B) {
		for range b.N {
			_, _, err := s.Reader.Meta(benchKey(random.IntN(n)))
			fail(err)
		}
	})
	b.Run("meta/hit", func(b *testing.B) {
		keys := make([][]byte, 1024)
		for i := range keys {
			keys[i] = benchKey(random.IntN(n))
			m, _, err := s.Reader.Meta(keys[i])
			fail(err)
			s.cache.put(string(keys[i]), m)
		}
		b.ResetTimer()
		for i := range b.N {
			_, _, err := s.Meta(keys[i%1024])
			fail(err)
		}
	})
	b.Run("get", func(b *testing.B) {
		for range b.N {
			_, _, err := s.Get(benchKey(random.IntN(n)), 0)
			fail(err)
		}
	})
	b.Run("page1000", func(b *testing.B) {
		for range b.N {
			r, err := s.Range(&kv.RangeRequest{Span: kv.Span{Start: benchKey(random.IntN(n * 9 / 10)), End: benchSpan.End}, Limit: 1000}, nil)
			fail(err)
			if len(r.KVs) != 1000 {
				b.Fatal(len(r.KVs))
			}
		}
	})
	b.Run("count", func(b *testing.B) {
		for range b.N {
			_, err := s.countAt(kv.Span{Start: benchKey(random.IntN(n / 2)), End: benchKey(n/2 + random.IntN(n/2))}, 0, nil)
			fail(err)
		}
	})
	b.Run("count/10000-revisions-ago", func(b *testing.B) {
		for range b.N {
			_, err := s.countAt(benchSpan, s.Revision()-10_000, nil)
			fail(err)
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			r, err := s.Range(&kv.RangeRequest{Span: benchSpan}, nil)
			fail(err)
			if len(r.KVs) != n || r.Count != n {
				b.Fatal(len(r.KVs), r.Count)
			}
		}
	})
	b.Run("stream", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, err := s.RangeStream(&kv.RangeRequest{Span: benchSpan}, 1<<20, nil, func([]kv.KeyValue) error { return nil })
			fail(err)
		}
	})
	b.Run("hash", func(b *testing.B) {
		for range b.N {
			_, err := s.Hash(0)
			fail(err)
		}
	})
}

// BenchmarkBulk deletes many keys at one revision: what each step costs, a key.
func BenchmarkBulk(b *testing.B) {
	const keys = 200_000
	for b.Loop() {
		engine := newDiskEngine(b)
		s, err := Open(engine, Options{})
		if err != nil {
			b.Fatal(err)
		}
		effects := make([]Effect, keys)
		var puts time.Duration
		for i := 0; i < keys; i += 1000 {
			batch := engine.NewBatch()
			part := make([]Effect, 1000)
			for j := range part {
				part[j] = Effect{Key: fmt.Appendf(nil, "many/%07d", i+j), At: Locator{2 + kv.Revision(i/1000), uint32(j)}, Create: 2 + kv.Revision(i/1000), Version: 1}
				effects[i+j] = Effect{Key: part[j].Key, At: Locator{keys, uint32(i + j)}, Prev: part[j].At, PrevLive: true}
			}
			began := time.Now()
			s.Apply(batch, part, part[0].At.Rev)
			if err := engine.Apply(batch); err != nil {
				b.Fatal(err)
			}
			puts += time.Since(began)
		}
		began := time.Now()
		for i := 0; i < keys; i += 2000 {
			s.Stage(effects[i : i+2000])
		}
		staged := time.Since(began)
		began = time.Now()
		s.CommitBulk(keys)
		committed := time.Since(began)
		began = time.Now()
		for s.Pending() > 0 {
			batch := engine.NewBatch()
			s.ApplyBulk(batch, 512, func(*Effect) {})
			if err := engine.Apply(batch); err != nil {
				b.Fatal(err)
			}
			batch.Close()
		}
		applied := time.Since(began)
		for name, took := range map[string]time.Duration{"put": puts, "stage": staged, "commit": committed, "apply": applied} {
			b.ReportMetric(float64(took.Nanoseconds())/keys, name+"-ns/key")
		}
	}
}
