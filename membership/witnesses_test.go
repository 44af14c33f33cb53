package membership

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func TestWitnesses(t *testing.T) {
	seen := map[kv.NodeID]disks{2: {{Disk: 2, Position: 9, Processes: []Process{{1, 20}, {5, 21}}}}, 3: {{Disk: 3, Position: 9, Processes: []Process{{1, 30}}}, {Disk: 4, Position: 2, Processes: []Process{{1, 40}}}}}
	for _, c := range []struct {
		what   string
		needed bool
		do     func(*witnesses)
		want   string
	}{
		{"nothing to forget", false, func(*witnesses) {}, "[]"},
		{"nobody", true, func(*witnesses) {}, "[2 3]"},
		{"the process that was known", true, func(w *witnesses) { w.spoke(2, 21) }, "[]"},
		{"the one on the newer of two disks", true, func(w *witnesses) { w.spoke(3, 40) }, "[]"},
		{"an earlier one", true, func(w *witnesses) { w.spoke(2, 20) }, "[3]"},
		{"a later one", true, func(w *witnesses) { w.spoke(3, 31) }, "[2]"},
		{"all, and all restarted", true, func(w *witnesses) { w.spoke(2, 22); w.spoke(3, 31) }, "[]"},
		{"one of an older version", true, func(w *witnesses) { w.spoke(2, 0) }, "[3]"},
		{"one more, after all", true, func(w *witnesses) { w.spoke(2, 22); w.spoke(3, 31); w.follow([]kv.NodeID{2, 3, 4}) }, "[]"},
		{"one more, before that", true, func(w *witnesses) { w.spoke(2, 22); w.follow([]kv.NodeID{2, 3, 4}) }, "[3 4]"},
		{"one less", true, func(w *witnesses) { w.spoke(2, 22); w.follow([]kv.NodeID{2}) }, "[]"},
		{"a beginning without the third", false, func(w *witnesses) { w.founded(func(node kv.NodeID) bool { return node == 2 }) }, "[3]"},
		{"a beginning of all", false, func(w *witnesses) { w.founded(func(kv.NodeID) bool { return true }) }, "[]"},
	} {
		w := newWitnesses([]kv.NodeID{2, 3}, seen, c.needed)
		c.do(&w)
		if got := fmt.Sprint(w.missing()); got != c.want {
			t.Errorf("%s: missing %s, want %s", c.what, got, c.want)
		}
	}
}
