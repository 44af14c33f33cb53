package lsm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage/storagetest"
)

// BenchmarkVersionRows applies rows as storage/mvcc does: sequential keys, values of 256 bytes, 50 to a batch.
func BenchmarkVersionRows(b *testing.B) {
	e, err := Open(Options{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	value, key := make([]byte, 280), make([]byte, 13)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	key[0] = 'r'
	rev := uint64(0)
	for b.Loop() {
		batch := e.NewBatch()
		for range 50 {
			rev++
			binary.BigEndian.PutUint64(key[1:], rev)
			batch.Set(key, value)
		}
		if err := e.Apply(batch); err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rev), "ns/row")
}

// BenchmarkGet reads random version rows of 100,000 that are on disk and in the cache.
func BenchmarkGet(b *testing.B) {
	e, err := Open(Options{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	batch := e.NewBatch()
	key := func(i int) []byte { return fmt.Appendf(nil, "r%012d", i) }
	random := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 280)
	for i := range 100_000 {
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		batch.Set(key(i), value)
	}
	if err := e.Apply(batch); err != nil {
		b.Fatal(err)
	}
	if err := storagetest.Flush(e); err != nil {
		b.Fatal(err)
	}
	var dst []byte
	for b.Loop() {
		var found bool
		if dst, found, err = e.Get(key(random.IntN(100_000)), dst[:0]); err != nil || !found {
			b.Fatal(found, err)
		}
	}
}
