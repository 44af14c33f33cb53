package driver

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// stagedSnapshot is a received snapshot that is not yet installed.
type stagedSnapshot struct {
	from  Files
	dir   string
	files []string
	index consensus.Index
	term  consensus.Term
}

func (g *stagedSnapshot) discard() {
	if g != nil {
		g.from.RemoveAll(g.dir) // what is left is removed when the node starts
	}
}

// maxStaged bounds the snapshots that one round may bring: more than one only if leaders change quickly.
const maxStaged = 4

// staging are the snapshots that were received, until the core has said whether it wants them; at most maxStaged, the oldest go first.
type staging []*stagedSnapshot

func (s *staging) add(snapshot *stagedSnapshot) {
	if len(*s) == maxStaged {
		(*s)[0].discard()
		*s = slices.Delete(*s, 0, 1)
	}
	*s = append(*s, snapshot)
}

// take returns the snapshot that the core decided to install; nil: it is not there.
func (s *staging) take(meta consensus.SnapshotMeta) *stagedSnapshot {
	i := slices.IndexFunc(*s, func(g *stagedSnapshot) bool { return g.index == meta.Index && g.term == meta.Term })
	if i < 0 {
		return nil
	}
	snapshot := (*s)[i]
	*s = slices.Delete(*s, i, i+1)
	return snapshot
}

func (s *staging) discard() {
	for _, snapshot := range *s {
		snapshot.discard()
	}
	*s = nil
}
