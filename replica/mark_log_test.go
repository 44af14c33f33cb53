package replica

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/wal"
)

// The record that a node keeps about disks is never compacted, and must not keep the log's old segments all the same.
func TestNodeRecordLetsLogGo(t *testing.T) {
	const segment, entryBytes, entries = 16 << 10, 1 << 10, 200
	fs := vfs.NewMem()
	options := wal.Options{Dir: "log", FS: fs, SegmentBytes: segment, Inline: true}
	log, err := wal.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := &Store{opts: Options{Self: 1, Nodes: []kv.NodeID{1, 2, 3}, Disk: 7, Instance: 100, HeartbeatInterval: 100 * time.Millisecond, Log: log}}
	if err := s.openMarks(); err != nil {
		t.Fatal(err)
	}
	began := slices.Clone(s.marks.own.processes)
	for i := consensus.Index(1); i <= entries; i++ {
		// The others write as well, at about one entry every quarter of a second.
		for _, node := range []kv.NodeID{2, 3} {
			s.saw(node, mark{disk: 7 + uint64(node), position: uint64(i), processes: []process{{1, 100 + uint64(node)}}})
		}
		s.appends = append(s.appends[:0], storage.GroupAppend{Group: 1, Entries: []consensus.Entry{{Index: i, Term: 1, Data: bytes.Repeat([]byte{1}, entryBytes)}}})
		if err := log.Write(s.appends, s.nodeRecord(time.Duration(i)*250*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
		if i > 10 {
			if err := log.Compact(1, i-10); err != nil {
				t.Fatal(err)
			}
		}
		if m := log.Metrics(); m.SizeBytes > 7*segment { // of them one is written, one being prepared, and two kept to be recycled
			t.Fatalf("after %d entries, of which ten are needed, the log has %d bytes; group %x needs the oldest", i, m.SizeBytes, uint64(m.OldestPinning))
		}
	}
	s.marks = marks{}
	if err := s.openMarks(); err != nil {
		t.Fatal(err)
	}
	if got := s.marks.own.processes; len(got) != 2 || got[0] != began[0] || got[1].began != entries+2 {
		t.Fatalf("the next process knows of %v", got)
	}
	if at := s.marks.seen[2].position; at < entries-5 {
		t.Fatalf("the next process knows node 2 at %d", at)
	}
}
