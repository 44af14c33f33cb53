package storage_test

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// TestMemoryLogSize: groups 7 and 4 write in turn, ten bytes and what an entry costs each time. The log takes up what was written since the oldest
// entry that is still held, and names who holds it; as a log on a disk does, by segments.
func TestMemoryLogSize(t *testing.T) {
	l := storage.NewMemoryLog()
	entry := consensus.Entry{Term: 1, Data: []byte("0123456789")}
	size := int64(entry.SizeBytes())
	for i := range 20 {
		entry.Index = consensus.Index(i + 1)
		if err := l.Write([]storage.GroupAppend{{Group: []consensus.GroupID{7, 4}[i%2], Entries: []consensus.Entry{entry}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want string) {
		t.Helper()
		if m := l.Metrics(); fmt.Sprintf("group %d, %d entries", m.OldestPinning, m.SizeBytes/size) != want || m.PinnedBytes != m.SizeBytes || m.WriteBytes < m.SizeBytes {
			t.Errorf("%+v, an entry has %d bytes; want %s", m, size, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	look("group 7, 20 entries")
	must(l.Compact(7, 15)) // 2, 4, 6, ... of group 4 are held
	look("group 4, 19 entries")
	must(l.Compact(4, 18))
	look("group 7, 4 entries")
	l.SetAside(7, true)
	look("group 4, 3 entries") // one of group 4, two of group 7 that are carried along
	if m := l.Metrics(); m.AsideBytes != 2*size {
		t.Errorf("%d bytes are set aside", m.AsideBytes)
	}
	l.SetAside(7, false)
	look("group 7, 4 entries")
	must(l.Sync())
	l = l.Crash(nil)
	look("group 7, 4 entries")
	must(l.Write([]storage.GroupAppend{{Group: 7, Reset: &storage.LogPosition{Index: 30, Term: 1}}}, nil))
	look("group 4, 1 entries")
	must(l.Write([]storage.GroupAppend{{Group: 4, TruncateFrom: 19}}, nil))
	look("group 0, 0 entries")
}
