package membership

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// witnesses is who can tell this node that its disk is not as it was: what it has forgotten, others remember. It is told at once by those who do.
// This is about the silence: when does it mean that all is well? When a node has spoken whose process is the one that this disk knew, for it has
// forgotten nothing; or when all have, for then every disk was asked. Until then those that are missing might know better, as when two of three
// nodes come back from old copies while the third is away.
type witnesses struct {
	needed bool // there is something that this node might have forgotten
	others []kv.NodeID
	before map[kv.NodeID][]uint64 // their processes, one a disk, as this disk knew them when this process began
	spoken map[kv.NodeID]bool     // since then
	sure   bool                   // one of them has forgotten nothing
}

// newWitnesses: seen are the marks on this disk, and needed says whether anything else is.
func newWitnesses(others []kv.NodeID, seen map[kv.NodeID]disks, needed bool) witnesses {
	w := witnesses{needed: needed, others: others, before: map[kv.NodeID][]uint64{}, spoken: map[kv.NodeID]bool{}}
	for node, known := range seen {
		for i := range known {
			w.before[node] = append(w.before[node], known[i].present().Instance)
		}
	}
	return w
}

// spoke takes note that a node has told what it knows; process is 0 if it does not remember disks, so that there is nothing to ask it for.
func (w *witnesses) spoke(node kv.NodeID, process uint64) {
	w.spoken[node] = true
	if process != 0 && slices.Contains(w.before[node], process) {
		w.sure = true
	}
}

// founded takes note that this node, which had nothing, took part in the beginning of a cluster without having heard of the others: they might
// have the data of the one that was there before.
func (w *witnesses) founded(heard func(kv.NodeID) bool) {
	w.needed = true
	for _, node := range w.others {
		if heard(node) {
			w.spoken[node] = true
		}
	}
}

// follow says who the others are from now on. If all that there were have spoken, it stays at that: who comes now has never had anything to do with this
// disk, or with it and one of those.
func (w *witnesses) follow(others []kv.NodeID) {
	w.sure = w.sure || w.needed && len(w.missing()) == 0
	w.others = others
}

// missing returns who might know better; none if somebody has confirmed this disk.
func (w *witnesses) missing() (nodes []kv.NodeID) {
	if !w.needed || w.sure {
		return nil
	}
	for _, node := range w.others {
		if !w.spoken[node] {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// judgeWitnesses says that this disk could not be confirmed, and when it is.
func (n *Node) judgeWitnesses(now time.Duration) {
	if !n.marking() || now-n.began < n.options.witnessPatience() {
		return
	}
	if missing := n.witnesses.missing(); !slices.Equal(missing, n.unwitnessed) {
		n.unwitnessed = missing
		n.ready.Unwitnessed = &missing
	}
}
