package corruption

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Hash is what a node has of a shard at one revision.
type Hash struct {
	Node kv.NodeID
	Sum  uint64
}

// Verdict is what hashes of one shard, at one revision, say of the nodes.
type Verdict struct {
	// Wrong are the nodes that have something else than a majority of the cluster, ascending.
	Wrong []kv.NodeID
	// Undecided: the nodes differ, and no majority of the cluster has the same.
	Undecided bool
	// Complete: all nodes of the cluster have told their hashes.
	Complete bool
}

// Differ tells whether there is anything to be done.
func (v Verdict) Differ() bool { return v.Undecided || len(v.Wrong) > 0 }

// Accuses tells whether the node must not go on: it is wrong, or may be.
func (v Verdict) Accuses(node kv.NodeID) bool { return v.Undecided || slices.Contains(v.Wrong, node) }

// Judge compares the hashes of a shard whose cluster has so many nodes. Each node is there once at most.
func Judge(nodes int, hashes []Hash) Verdict {
	v := Verdict{Complete: len(hashes) == nodes}
	have := make(map[uint64]int, 1)
	for _, h := range hashes {
		have[h.Sum]++
	}
	if len(have) <= 1 {
		return v
	}
	for _, h := range hashes {
		if have[h.Sum] > nodes/2 {
			v.Wrong = others(hashes, h.Sum)
			return v
		}
	}
	v.Undecided = true
	return v
}

// others are the nodes with another hash.
func others(hashes []Hash, right uint64) (wrong []kv.NodeID) {
	for _, h := range hashes {
		if h.Sum != right {
			wrong = append(wrong, h.Node)
		}
	}
	slices.SortFunc(wrong, cmp.Compare)
	return wrong
}
