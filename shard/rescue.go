package shard

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage"
)

// Rescued says as what the only replica that is left of a shard goes on, without a log that others would have agreed on (package rescue).
type Rescued struct {
	// Start is where its log begins anew: behind all entries that the replica has, in a term above all that it knows, with the replica alone.
	Start  consensus.SnapshotMeta
	Roster kv.Roster
	// Of the system shard: the list of members (nil: it stays), and the limit, if there are several shards.
	List  *members.List
	Limit kv.Revision
}

// Rescue makes a machine that has applied all that its log has that of the only replica of the shard. Nothing is at work on it. The caller applies the batch, and
// makes the state durable (Freeze, FlushChunk, FlushDone) before the log begins at r.Start.
func (m *Machine) Rescue(r *Rescued, b storage.Batch) error {
	if m.lead != nil || r.Start.Index <= m.applied.Index || r.Start.Term <= m.applied.ChainTerm || m.applied.Index == 0 {
		return fmt.Errorf("rescue shard %d at entry %d of term %d, which has applied entry %d of term %d: %w",
			m.options.Shard, r.Start.Index, r.Start.Term, m.applied.Index, m.applied.ChainTerm, ErrInconsistent)
	}
	m.applyBarrier(r.Start.Term)
	config := r.Start.Config.Clone()
	m.applied.NextReplica = m.applied.nextReplica() // what the others were called stays taken
	m.applied.Config, m.applied.config = &config, consensus.AppendConfig(nil, config)
	if r.Roster.Version > m.applied.Roster.Version {
		m.applied.Roster = kv.Roster{Version: r.Roster.Version, Seats: slices.Clone(r.Roster.Seats)}
	}
	if r.List != nil {
		m.applyMembers(r.List, b)
	}
	m.applied.Limit = max(m.applied.Limit, r.Limit)
	m.applied.Index, m.applied.Term = r.Start.Index, r.Start.Term
	m.changed = true
	m.close()
	return nil
}
