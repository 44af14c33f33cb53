package sim

import "github.com/quoratedb/quorate/kv"

// compareHashes: nodes that keep the hash of a compaction keep the same one, wherever they have been when history was compacted.
func (w *world) compareHashes() {
	for _, c := range w.truth.commits {
		if c.Compacted != 0 {
			w.compareHash(c.Compacted)
		}
	}
}

func (w *world) compareHash(revision kv.Revision) {
	var first *node
	var want uint32
	var since kv.Revision
	for _, n := range w.nodes {
		hash, from, found, err := n.replica.CompactionHash(errNoWait, revision)
		switch {
		case err != nil || !found: // it is being taken, or was taken long ago, or the node was not there
		case first == nil:
			first, want, since = n, hash, from
		case hash != want || from != since:
			w.fail(Correctness, "of the compaction at %d node %d keeps the hash %x since %d, node %d %x since %d", revision, first.id, want, since, n.id, hash, from)
		default:
			w.mark("hashes of a compaction compared")
		}
	}
}
