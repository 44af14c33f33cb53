package sim

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// compareHashes: nodes that keep the hash of a compaction keep the same one, wherever they have been when history was compacted.
func (g *group) compareHashes() {
	for _, c := range g.truth.commits {
		if c.Compacted != 0 {
			g.compareHash(c.Compacted)
		}
	}
}

func (g *group) compareHash(revision kv.Revision) {
	var first *part
	var want mvcc.HashSum
	var since kv.Revision
	for p := range g.parts() {
		hash, from, found, err := p.replica.CompactionHash(errNoWait, revision)
		switch {
		case err != nil || !found: // it is being taken, or was taken long ago, or the node was not there
		case first == nil:
			first, want, since = p, hash, from
		case hash != want || from != since:
			g.fail(Correctness, "of the compaction at %d %s keeps the hash %x since %d, %s %x since %d", revision, first.name(), want, since, p.name(), hash, from)
		default:
			g.w.mark("hashes of a compaction compared")
		}
	}
}
