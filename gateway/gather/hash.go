package gather

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Hash is mvcc.Reader.Hash of a store with what all of the states have, at a revision and compacted where the farthest of them is. It reads everything.
func Hash(states []State, at kv.Revision) (uint32, error) {
	var sum mvcc.HashSum
	compacted := kv.Revision(0)
	for _, s := range states {
		compacted = max(compacted, s.Compacted())
	}
	if at < compacted {
		return 0, kv.ErrCompacted
	}
	for _, s := range states {
		part, err := s.HashSum(compacted, within(s, at))
		if err != nil {
			return 0, err
		}
		sum += part
	}
	return sum.Fold(), nil
}
