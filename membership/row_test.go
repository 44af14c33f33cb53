package membership

import (
	"maps"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// FuzzDecodeRow: what is read is what a row of it says again; and a row of the versions before, which knew of no lives, is read as it was.
func FuzzDecodeRow(f *testing.F) {
	f.Add([]byte{1, 2})
	f.Add([]byte{0x83, 0x80, 0x0c, 7, 2, 9}) // replica 3, removed in life 1, on disk 7, founded together with disk 9 of node 2
	f.Fuzz(func(t *testing.T, row []byte) {
		read, err := decodeRow(row)
		if err != nil {
			return
		}
		if removed, err := Removed(row); removed != read.removed || err != nil {
			t.Fatalf("removed: %v, %v", removed, err)
		}
		// Founders are written of a first replica, and of nodes that the group began on.
		g := &Group{node: &Node{options: Options{Self: 1}}, site: read.site, identity: identity{founders: read.founders}, first: []Home{{1, read.replica}}}
		for node := range read.founders {
			if node != 1 {
				g.first = append(g.first, Home{Node: node})
			}
		}
		again, err := decodeRow(g.row(read.replica, read.removed))
		if err != nil || again.replica != read.replica || again.site != read.site || again.removed != read.removed || !maps.Equal(again.founders, read.founders) {
			t.Fatalf("%+v became %+v: %v", read, again, err)
		}
	})
}

// TestRow: the seed of the fuzz test means what it says.
func TestRow(t *testing.T) {
	read, err := decodeRow([]byte{0x83, 0x80, 0x0c, 7, 2, 9})
	if want := (shard.Site{Disk: 7, Life: 1}); err != nil || read.replica != 3 || read.site != want || !read.removed || !maps.Equal(read.founders, map[kv.NodeID]uint64{2: 9}) {
		t.Errorf("%+v, %v", read, err)
	}
}
