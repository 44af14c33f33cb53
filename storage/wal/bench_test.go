package wal

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// BenchmarkWriteSync is one round of one client: a write and a sync on the real disk.
func BenchmarkWriteSync(b *testing.B) {
	for _, size := range []int{512, 4 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkWrite(b, size, true) })
	}
}

// BenchmarkWrite is what the log costs beside the sync.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{512, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkWrite(b, size, false) })
	}
}

func benchmarkWrite(b *testing.B, size int, sync bool) {
	l := mustOpen(b, Options{Dir: b.TempDir()})
	defer l.Close()
	b.SetBytes(int64(size))
	index := consensus.Index(0)
	for b.Loop() {
		index++
		hs := consensus.HardState{Term: 1, Commit: index}
		parts := []storage.GroupAppend{{Group: 1, HardState: &hs, Entries: []consensus.Entry{{Index: index, Term: 1, Data: make([]byte, size)}}}}
		if err := l.Write(parts, nil); err != nil {
			b.Fatal(err)
		}
		if sync {
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		if index%1000 == 0 {
			if err := l.Compact(1, index-500); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkFreshLog is one writer on a new log, whose segments are still to be filled with zeros: what a write and a
// sync of 300 bytes take, in microseconds. Run it with -benchtime=1x.
func BenchmarkFreshLog(b *testing.B) {
	const writes = 20_000
	var took []time.Duration
	for b.Loop() {
		l := mustOpen(b, Options{Dir: b.TempDir()})
		for i := range consensus.Index(writes) {
			parts := []storage.GroupAppend{{Group: 1, Entries: []consensus.Entry{{Index: i + 1, Term: 1, Data: make([]byte, 300)}}}}
			began := time.Now()
			if err := errors.Join(l.Write(parts, nil), l.Sync()); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	for name, part := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999} {
		b.ReportMetric(float64(took[int(part*float64(len(took)))].Microseconds()), name+"-µs")
	}
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
}
