package wal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// TestNodeRecordOfEarlierVersions: versions that knew nothing of NodeRecord wrote what the node said of itself as two entries of a group of their own. It is
// read as one, and goes on from there.
func TestNodeRecordOfEarlierVersions(t *testing.T) {
	fs := vfs.NewMem()
	l, err := Open(tiny(fs))
	if err != nil {
		t.Fatal(err)
	}
	entries := []entry{
		{Entry: consensus.Entry{Index: 1, Term: 1, Data: []byte("the others, ")}},
		{Entry: consensus.Entry{Index: 2, Term: 1, Data: []byte("and this one")}},
	}
	for _, p := range []part{
		{group: nodeGroup, hardState: &consensus.HardState{Term: 6}, entries: entries},
		{group: nodeGroup, hardState: &consensus.HardState{Term: 7}},
	} {
		if err := l.write([]part{p}); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func(position uint64, data string) {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(tiny(fs)); err != nil {
			t.Fatal(err)
		}
		if got, err := l.NodeRecord(); err != nil || got.Position != position || string(got.Data) != data {
			t.Fatalf("the node record is %d, %q, %v; want %d, %q", got.Position, got.Data, err, position, data)
		}
		if groups := l.Groups(); len(groups) > 0 {
			t.Fatalf("groups %v", groups)
		}
	}
	reopen(7, "the others, and this one")
	if err := l.Write(nil, &storage.NodeRecord{Position: 8}); err != nil {
		t.Fatal(err)
	}
	reopen(8, "the others, and this one")
	if err := l.Write(nil, &storage.NodeRecord{Position: 9, Data: []byte("all of them")}); err != nil {
		t.Fatal(err)
	}
	reopen(9, "all of them")
	// An earlier version reads all entries there are: none of those that it left may stand behind the new one.
	if g := l.groups[nodeGroup]; len(g.slots) != 1 {
		t.Errorf("%d entries hold the node record", len(g.slots))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
