package membership

import (
	"bytes"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/wal"
)

// silent says that nobody was ever heard.
type silent struct{}

func (silent) Instance(kv.NodeID) uint64 { return 0 }
func (silent) Alive(kv.NodeID) bool      { return false }

func options(nodes int) Options {
	o := Options{Self: 1, Instance: 100, Disk: 7, HeartbeatInterval: 100 * time.Millisecond, ElectionTimeout: time.Second}
	for i := range nodes {
		o.Nodes = append(o.Nodes, kv.NodeID(i+1))
	}
	return o
}

// begin begins a process on the log.
func begin(t *testing.T, log storage.Log) *Node {
	t.Helper()
	record, err := log.NodeRecord()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(0, options(3), silent{}, record)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Write(nil, n.Begin()); err != nil {
		t.Fatal(err)
	}
	if err := log.Sync(); err != nil {
		t.Fatal(err)
	}
	return n
}

// The record that a node keeps about disks is never compacted, and must not keep the log's old segments all the same.
func TestRecordLetsLogGo(t *testing.T) {
	const segment, entryBytes, entries = 16 << 10, 1 << 10, 200
	log, err := wal.Open(wal.Options{Dir: "log", FS: vfs.NewMem(), SegmentBytes: segment, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n := begin(t, log)
	began := n.marks.own.present()
	for i := consensus.Index(1); i <= entries; i++ {
		// The others write as well, at about one entry every quarter of a second.
		for _, node := range []kv.NodeID{2, 3} {
			n.saw(node, Mark{Disk: 7 + uint64(node), Position: uint64(i), Processes: []Process{{1, 100 + uint64(node)}}})
		}
		part := storage.GroupAppend{Group: 1, Entries: []consensus.Entry{{Index: i, Term: 1, Data: bytes.Repeat([]byte{1}, entryBytes)}}}
		if err := log.Write([]storage.GroupAppend{part}, n.Write(time.Duration(i)*250*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n.Syncing()
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
		n.Synced()
		if err := n.Check(); err != nil {
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
	promised := n.Witnessed(2, n.marks.seen[2][0].Disk)
	next := begin(t, log)
	if got := next.marks.own.Processes; len(got) != 2 || got[0] != began || got[1].Began != entries+2 {
		t.Fatalf("the next process knows of %v", got)
	}
	if at := next.marks.seen[2][0].Position; at < entries-5 || at < promised {
		t.Fatalf("the next process knows node 2 at %d, and the one before was sure of %d", at, promised)
	}
}

// TestRecordOfEarlierVersions: what they wrote is one list of marks as well, without those of this node's disk at the end if they had none.
func TestRecordOfEarlierVersions(t *testing.T) {
	other := Mark{Disk: 8, Position: 40, Processes: []Process{{1, 200}}}
	own := Mark{Disk: 7, Position: 30, Processes: []Process{{1, 98}, {20, 99}}}
	former := Mark{Disk: 6, Position: 90, Processes: []Process{{50, 97}}}
	for _, c := range []struct {
		marks []NodeMark
		want  []Process
	}{
		{nil, []Process{{51, 100}}},
		{[]NodeMark{{2, other}}, []Process{{51, 100}}},
		{[]NodeMark{{2, other}, {1, own}}, []Process{{1, 98}, {20, 99}, {51, 100}}},
		{[]NodeMark{{2, other}, {1, former}}, []Process{{51, 100}}},
	} {
		n, err := NewNode(0, options(3), silent{}, storage.NodeRecord{Position: 50, Data: AppendMarks(nil, c.marks)})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.marks.own.Processes; len(got) != len(c.want) || got[len(got)-1] != c.want[len(c.want)-1] || got[0] != c.want[0] {
			t.Errorf("%v gives the processes %v, want %v", c.marks, got, c.want)
		}
		if got := n.marks.seen[2].mark(8); len(c.marks) > 0 && (got == nil || got.Position != 40) {
			t.Errorf("%v gives node 2 at %v", c.marks, got)
		}
	}
	if _, err := NewNode(0, options(3), silent{}, storage.NodeRecord{Position: 50, Data: []byte{1}}); err == nil {
		t.Error("a record that makes no sense is taken")
	}
}
