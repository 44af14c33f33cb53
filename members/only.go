package members

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Only is the list after all members but one were removed at once, because they are lost. That one has a vote. The version is above those of this list and of
// any other that was heard of.
func (l *List) Only(id kv.NodeID, heard uint64) *List {
	n := &List{Version: max(l.Version, heard) + 1, Removed: slices.Clone(l.Removed)}
	for i := range l.Members {
		m := l.Members[i]
		if m.ID == id {
			m.Learner = false
			n.Members = append(n.Members, m)
			continue
		}
		n.Removed = append(n.Removed, m.ID)
	}
	slices.Sort(n.Removed)
	return n
}
