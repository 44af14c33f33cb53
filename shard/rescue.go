package shard

import (
	"fmt"
	"maps"
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
	// Committed are transactions over several shards that are prepared here, and of which another shard has heard that they were committed.
	Committed []Committed
}

// Committed is a transaction over several shards, and at which revision it took effect.
type Committed struct {
	ID       kv.TransactionID
	Revision kv.Revision
}

// Transactions are those over several shards that the applied state knows of, by ID, whatever became of them, and the last one of each anchor that it has heard
// of, by anchor.
func (m *Machine) Transactions() (known []kv.UnfinishedTransaction, last []kv.TransactionID) {
	newest := map[kv.ShardID]kv.TransactionID{}
	heard := func(id kv.TransactionID) {
		if newest[id.Anchor].Before(id) {
			newest[id.Anchor] = id
		}
	}
	m.transactions.each(func(r *record) bool {
		known = append(known, kv.UnfinishedTransaction{ID: r.id, Participants: r.participants, Own: r.id.Anchor == m.options.Shard, Decision: r.decision})
		heard(r.id)
		return true
	})
	for _, finished := range m.transactions.finished {
		heard(finished.At)
	}
	for _, anchor := range slices.Sorted(maps.Keys(newest)) {
		last = append(last, newest[anchor])
	}
	return known, last
}

// Rescue makes a machine that has applied all that its log has that of the only replica of the shard. Nothing is at work on it. The caller applies the batch, and
// makes the state durable (Freeze, FlushChunk, FlushDone) before the log begins at r.Start.
func (m *Machine) Rescue(r *Rescued, b storage.Batch) error {
	if m.lead != nil || r.Start.Index <= m.applied.Index || r.Start.Term <= m.applied.ChainTerm || m.applied.Index == 0 {
		return fmt.Errorf("rescue shard %d at entry %d of term %d, which has applied entry %d of term %d: %w",
			m.options.Shard, r.Start.Index, r.Start.Term, m.applied.Index, m.applied.ChainTerm, ErrInconsistent)
	}
	for _, c := range r.Committed {
		// The keys of a lease are let alone: the lease still ends, or has ended elsewhere, and then it is ended here once more.
		if known := m.transactions.records[c.ID]; known == nil || !known.holds() || known.release != nil {
			continue
		}
		if err := m.applyResolve(&record{id: c.ID, decision: kv.Decision{Verdict: kv.Commit, Revision: c.Revision}}, b, &Applied{}); err != nil {
			return err
		}
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
