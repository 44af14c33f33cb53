package storage_test

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// seen notes what is read.
type seen struct {
	storage.Log
	indices map[consensus.Index]int
}

type seenGroup struct {
	storage.GroupLog
	seen *seen
}

func (s *seen) Group(id consensus.GroupID) storage.GroupLog { return seenGroup{s.Log.Group(id), s} }

func (g seenGroup) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	entries, err := g.GroupLog.Entries(lo, hi, maxBytes)
	for i := range entries {
		g.seen.indices[entries[i].Index]++
	}
	return entries, err
}

// TestScrubOfMemoryLog: every entry is read once, whatever the pieces are and where holes are.
func TestScrubOfMemoryLog(t *testing.T) {
	log := storage.NewMemoryLog()
	for index := consensus.Index(1); index <= 40; index++ {
		if index%7 == 0 {
			continue // a hole
		}
		if err := log.Write([]storage.GroupAppend{{Group: 1 + consensus.GroupID(index%2), Entries: []consensus.Entry{{Index: index, Term: 1, Data: make([]byte, index)}}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, piece := range []int{1, 100, 1 << 20} {
		s := &seen{log, map[consensus.Index]int{}}
		_, pieces, err := storagetest.ScrubAll(t, storage.NewLogScrub(s), piece)
		if err != nil || len(s.indices) != 35 || piece == 1 && pieces < 35 {
			t.Errorf("%d of 35 entries in %d pieces of %d bytes: %v", len(s.indices), pieces, piece, err)
		}
		for index, count := range s.indices {
			if count != 1 {
				t.Errorf("entry %d was read %d times", index, count)
			}
		}
	}
}

func TestScrubOfMemory(t *testing.T) {
	m := storage.NewMemory(storage.MemoryOptions{})
	b := m.NewBatch()
	for i := range 100 {
		b.Set(fmt.Appendf(nil, "key%03d", i), make([]byte, 10))
	}
	if err := m.Apply(b); err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{1, 100, 1 << 20} {
		if read, _, err := storagetest.ScrubAll(t, m.NewScrub(), piece); err != nil || read != 1600 || m.NewScrub().SizeBytes() != 1600 {
			t.Errorf("%d of 1600 bytes in pieces of %d: %v", read, piece, err)
		}
	}
}
