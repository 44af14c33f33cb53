package driver

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Compaction of a store of several shards. It takes effect when it is committed in the system shard. Every node has a replica of that, and so hears of it
// sooner or later, whether anything is written to the shards that it leads or not. They follow in their own logs (rule 40 of docs/protocols/sequencer.md;
// shard/compaction.go says why that may be at once).

// othersFollow is called when the replica is compacted, or was given a state that may be: if it is of the system shard, those that are led here follow.
func (r *driven) othersFollow() {
	if !r.isSequenced() || !r.system() {
		return
	}
	for _, other := range r.driver.order {
		other.followCompaction()
	}
}

// followCompaction has the next batch begun at once, if the shard is led here and the system shard is compacted further.
func (r *driven) followCompaction() {
	if !r.isSequenced() || r.system() || !r.leading {
		return
	}
	if compacted, _ := r.driver.SystemNotice(); compacted > r.machine.Compacted() {
		r.sequenced.behind = true
		r.driver.markWorking(r)
	}
}

// rowsDeleted is called when the rows of all compactions are deleted here. A client that waits for that waits for all shards of the store, at the node that leads
// the system shard.
func (r *driven) rowsDeleted() {
	if r.isSequenced() && !r.system() {
		if system := r.driver.driven(consensus.GroupID(kv.SystemShard)); system != nil && len(system.physical) > 0 {
			r.driver.call(func() { r.driver.needsMaintenance(system) })
		}
		return
	}
	if len(r.physical) > 0 && !slices.ContainsFunc(r.driver.order, r.waitsFor) {
		r.finishPhysical()
		r.driver.kick()
	}
}

// waitsFor tells whether another shard has rows left here of what the system shard compacted.
func (r *driven) waitsFor(other *driven) bool {
	return r.isSequenced() && !other.ended && (other.machine.Compacted() < r.machine.Compacted() || other.compact.unfinished())
}
