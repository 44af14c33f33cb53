package gather

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Hash is mvcc.Reader.Hash of a store with what all of the states have, at a revision and compacted where the farthest of them is. It reads everything.
func Hash(states []State, at kv.Revision) (uint32, error) {
	compacted := Compacted(states)
	if at < compacted {
		return 0, kv.ErrCompacted
	}
	sum, err := hashSum(states, compacted, at)
	return sum.Fold(), err
}

// Compacted is where the farthest of the states is compacted.
func Compacted(states []State) (compacted kv.Revision) {
	for _, s := range states {
		compacted = max(compacted, s.Compacted())
	}
	return compacted
}

func hashSum(states []State, compacted, at kv.Revision) (sum mvcc.HashSum, err error) {
	for _, s := range states {
		part, err := s.HashSum(compacted, within(s, at))
		if err != nil {
			return 0, err
		}
		sum += part
	}
	return sum, nil
}

// KeptHash is what a shard has kept of a compaction: its hash before it is folded, and where history was compacted before.
type KeptHash struct {
	Sum   mvcc.HashSum
	From  kv.Revision
	Found bool
}

// CompactionHash is Hash(at) of the store as it was before it was compacted there, with what its shards have kept, in the order of the states. A shard that is
// not compacted there yet is read. compacted is where history was compacted before. kv.ErrCompacted: there is no such hash, because no shard has kept
// one, one has forgotten it, or they were not compacted at the same revisions.
func CompactionHash(states []State, kept []KeptHash, at kv.Revision) (hash uint32, compacted kv.Revision, err error) {
	var sum mvcc.HashSum
	var behind []State
	found := false
	for i, k := range kept {
		switch {
		case !k.Found && states[i].Compacted() >= at, k.Found && found && k.From != compacted:
			return 0, 0, kv.ErrCompacted
		case k.Found:
			sum, compacted, found = sum+k.Sum, k.From, true
		default:
			behind = append(behind, states[i])
		}
	}
	if !found {
		return 0, 0, kv.ErrCompacted
	}
	part, err := hashSum(behind, compacted, at)
	return (sum + part).Fold(), compacted, err
}
