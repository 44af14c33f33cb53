package wal

import (
	"fmt"
	"testing"

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
		if err := l.Write(parts); err != nil {
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
