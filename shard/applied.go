package shard

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Applied says what one log entry did. Nothing in it may be changed.
type Applied struct {
	Index    consensus.Index
	Term     consensus.Term
	Seq      uint64        // sequence number of the proposal within its term; 0 for barriers and configurations
	Revision kv.Revision   // the store's revision after the entry
	After    kv.Revision   // and before it: others may have got the revisions in between that the entry does not have
	Effects  []mvcc.Effect // in revision order
	// Resolved are effects of transactions over several shards, which take effect before Effects: in the order of the log, each transaction at a revision of
	// its own, that may be below After.
	Resolved []mvcc.Effect
	// Closed is Machine.Closed after the entry: nothing will take effect at or below it any more.
	Closed kv.Revision
	// Compacted is the new compacted revision; 0 if the entry did not compact.
	Compacted kv.Revision
	// CompactedBefore is the compacted revision that the log had before such an entry. After a crash that of the store may be higher already.
	CompactedBefore kv.Revision
	// Bulk are effects that came in parts, in earlier entries, all of Revision; then Effects is empty. They are written to the engine bit by bit from
	// now on. BulkBytes is what their keys and values have: who adds them up in a round takes too long.
	Bulk      [][]mvcc.Effect
	BulkBytes int
	// Void: the entry had no effect, because its predecessor was lost with an older leadership.
	Void bool
	// Jump: a snapshot replaced the state. There are no effects; what happened between the
	// last announcement and Revision is in the history, as far as it is not compacted.
	Jump bool
	// Config is set when the entry changed the membership of the group.
	Config *consensus.Config
	// Limit is the new one (Machine.Limit); 0 if the entry has none.
	Limit kv.Revision
	// Alarms: the entry raised or cleared one (Machine.Alarms).
	Alarms bool
	// Auth: the entry changed users or roles (Machine.Auth).
	Auth bool
	// Placed: the entry changed which replica lives on a node (Machine.Placements), or on which nodes the shard is to be (Machine.Roster).
	Placed bool
}

// AllEffects returns what the entry changed, in a slice of its own if they are those of a bulk, or some are of transactions.
func (a *Applied) AllEffects() []mvcc.Effect {
	if a.Bulk != nil || len(a.Resolved) > 0 {
		return slices.Concat(a.Resolved, a.Effects, slices.Concat(a.Bulk...))
	}
	return a.Effects
}
