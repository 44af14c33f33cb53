package shard

import (
	"encoding/binary"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// flush is a flush under way.
type flush struct {
	state    State
	rowsDone bool // mvcc has written all of its rows
	leases   []kv.LeaseID
	commits  []commitRow // of transactions; as of Freeze
}

// NeedsFlush tells whether much is only in memory and in the log. Shared.
func (m *Machine) NeedsFlush() bool {
	return m.store.NeedsFlush() || len(m.leases.dirty) >= maxDirtyLeases
}

// Memory is what the machine holds, about, of what a node bounds for all of its machines together. Shared.
func (m *Machine) Memory() mvcc.Memory {
	held := m.store.Memory()
	held.DirtyBytes += int64(len(m.leases.dirty)) * dirtyLeaseBytes
	if m.flush != nil {
		held.FrozenBytes += int64(len(m.flush.leases)) * dirtyLeaseBytes
	}
	return held
}

// dirtyLeaseBytes is what it costs to remember that a lease is dirty.
const dirtyLeaseBytes = 48

// ShrinkCache has the machine give back a part of what is only cached. Exclusive.
func (m *Machine) ShrinkCache() { m.store.ShrinkCache() }

// DirtyRows is about how many rows a flush that begins now would write. Driver.
func (m *Machine) DirtyRows() int { return m.store.Metrics().DirtyKeys + len(m.leases.dirty) }

// maxDirtyLeases bounds, softly, what one flush writes and what replay has to repeat.
const maxDirtyLeases = 100_000

// Freeze starts a flush of the state as of now. It returns false if one is under way or if nothing was
// applied since the last. Exclusive.
func (m *Machine) Freeze() bool {
	if m.flush != nil || !m.changed || !m.store.Freeze() {
		return false
	}
	m.changed = false
	m.flush = &flush{state: m.applied, leases: m.leases.takeDirty(), commits: m.transactions.takeDirty(m.options.Shard)}
	m.flush.state.Alarms, m.flush.state.Flush = m.Alarms(), m.store.FlushNumber()
	return true
}

// FlushChunk writes at most about maxRows rows of the flush to the batch. With the last ones, when done is
// true, comes the applied index. The caller applies each batch before it releases the lock. Exclusive.
func (m *Machine) FlushChunk(b storage.Batch, maxRows int) (done bool, err error) {
	f := m.flush
	if f == nil {
		return true, nil
	}
	if !f.rowsDone {
		f.rowsDone, err = m.store.FlushChunk(b, maxRows)
		return false, err
	}
	if len(f.leases) > 0 {
		n := min(maxRows, len(f.leases))
		m.flushLeases(b, f.leases[:n])
		f.leases = f.leases[n:]
		return false, nil
	}
	writeCommitRows(b, f.commits)
	b.Set(keys.State(m.options.Shard), appendState(nil, &f.state))
	return true, nil
}

// flushLeases writes lease rows as of now, which may be later than the applied index of the flush: ops on leases
// set them absolutely, so that replay comes to the same end.
func (m *Machine) flushLeases(b storage.Batch, ids []kv.LeaseID) {
	var key, value []byte
	for _, id := range ids {
		key = keys.AppendLease(key[:0], m.options.Shard, id)
		if incarnation := m.leases.notes[id]; incarnation != 0 {
			b.Set(key, binary.AppendUvarint(value[:0], incarnation))
		} else if l := m.leases.byID[id]; l != nil {
			value = binary.AppendUvarint(value[:0], uint64(l.ttl))
			value = binary.AppendUvarint(value, uint64(l.deadline))
			if m.options.Sequenced {
				value = l.appendBinding(value)
			}
			b.Set(key, value)
		} else {
			b.Delete(key)
		}
	}
}

// FlushDone ends the flush after its last chunk was applied. It returns the index up to which the log is
// not needed any more once the engine made that durable: the caller flushes the engine and then calls
// MarkDurable with it. Exclusive.
func (m *Machine) FlushDone() consensus.Index {
	if m.flush != nil {
		m.store.FlushDone()
		m.flushed, m.flush = m.flush.state, nil
	}
	return m.flushed.Index
}

// MarkDurable tells that the engine was flushed after the flush that FlushDone returned the index of. Exclusive.
func (m *Machine) MarkDurable(index consensus.Index) {
	if index == m.flushed.Index && index > m.durable.Index {
		m.durable = m.flushed
	}
}

// CompactReady tells whether CompactStep may be called: the last compaction is durable with the
// applied index, so that no replay writes a row of its interval again. Shared.
func (m *Machine) CompactReady() bool { return m.durable.Compacted == m.applied.Compacted }

// CompactBegun tells whether CompactStep has deleted rows of a compaction, and not yet all. Driver.
func (m *Machine) CompactBegun() bool { return m.store.CompactBegun() }

// CompactStep deletes rows that compaction made superfluous; see mvcc.Store. Call it only if CompactReady. Exclusive.
func (m *Machine) CompactStep(b storage.Batch, maxRows int) (more bool, err error) {
	return m.store.CompactStep(b, maxRows)
}

func (t *leaseTable) takeDirty() []kv.LeaseID {
	ids := make([]kv.LeaseID, 0, len(t.dirty))
	for id := range t.dirty { // sorted below
		ids = append(ids, id)
	}
	slices.Sort(ids)
	t.dirty = make(map[kv.LeaseID]struct{})
	return ids
}
