package shard

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Bootstrap makes an empty machine start at the position, with the membership and (in the system shard) with the
// nodes that the log of a new group is taken to start at. The caller applies the batch and makes it durable before anything else. Exclusive.
func (m *Machine) Bootstrap(start consensus.SnapshotMeta, nodes []kv.NodeRecord, b storage.Batch) error {
	if m.applied.Index != 0 {
		return fmt.Errorf("bootstrap shard %d: it has applied up to entry %d already: %w", m.options.Shard, m.applied.Index, ErrInconsistent)
	}
	config := start.Config.Clone()
	m.applied.Index, m.applied.Term, m.applied.ChainTerm = start.Index, start.Term, start.Term
	m.applied.Config, m.applied.config = &config, consensus.AppendConfig(nil, config)
	if m.options.Sequenced && m.options.Shard == kv.SystemShard {
		m.applied.Limit = FoundingLimit
	}
	m.flushed, m.durable = m.applied, m.applied
	m.members = members.Founded(nodes)
	for i := range nodes {
		b.Set(keys.AppendNode(nil, m.options.Shard, nodes[i].ID), appendNode(nil, &nodes[i]))
	}
	b.Set(keys.State(m.options.Shard), appendState(nil, &m.applied))
	return nil
}

// Apply applies the next entry of the log: its rows go into the batch, which the caller applies to the engine
// before it releases the lock. It reads no versions. After an error nothing may be applied any more: the
// replica must stop. The entry's data must not change afterwards. Exclusive.
func (m *Machine) Apply(e consensus.Entry, b storage.Batch) (Applied, error) {
	if m.broken != nil {
		return Applied{}, m.broken
	}
	after := m.applied.Revision
	done, err := m.apply(e, b)
	if err != nil {
		m.broken = fmt.Errorf("apply entry %d of term %d to shard %d: %w", e.Index, e.Term, m.options.Shard, err)
		return Applied{}, m.broken
	}
	m.applied.Index, m.applied.Term = e.Index, e.Term
	if e.Index == m.options.LogEnd {
		m.store.Replayed()
	}
	m.changed = true
	m.metrics.AppliedEffects += uint64(len(done.Effects) + len(done.Resolved))
	for _, part := range done.Bulk {
		m.metrics.AppliedEffects += uint64(len(part))
	}
	done.Index, done.Term, done.Revision, done.After = e.Index, e.Term, m.applied.Revision, after
	done.Closed = m.close()
	return done, nil
}

func (m *Machine) apply(e consensus.Entry, b storage.Batch) (Applied, error) {
	if e.Index != m.applied.Index+1 {
		return Applied{}, fmt.Errorf("the last entry applied is %d: %w", m.applied.Index, ErrInconsistent)
	}
	switch e.Kind {
	case consensus.EntryBarrier:
		m.applyBarrier(e.Term)
		return Applied{}, nil
	case consensus.EntryConfig:
		return m.applyConfig(e.Data)
	case consensus.EntryCommand:
		if isLimit(e.Data) {
			return m.applyLimit(e.Data)
		}
		return m.applyCommand(e.Data, b)
	}
	return Applied{}, fmt.Errorf("unknown kind of entry %d: %w", e.Kind, ErrMalformed)
}

// applyBarrier starts the chain of a term. A barrier of an older term is a filled hole and changes nothing.
func (m *Machine) applyBarrier(term consensus.Term) {
	if term > m.applied.ChainTerm {
		m.unstage()
		m.applied.ChainTerm, m.applied.ChainSeq = term, 0
	}
}

func (m *Machine) applyConfig(data []byte) (Applied, error) {
	config, err := consensus.DecodeConfig(data)
	if err != nil {
		return Applied{}, err
	}
	m.applied.Config, m.applied.config = &config, slices.Clone(data)
	return Applied{Config: &config}, nil
}

// applyCommand applies an entry if its predecessor was applied; otherwise the entry is void.
func (m *Machine) applyCommand(data []byte, b storage.Batch) (Applied, error) {
	e, err := decodeEntry(data)
	if err != nil {
		return Applied{}, err
	}
	done := Applied{Seq: e.seq}
	if e.term != m.applied.ChainTerm || e.seq != m.applied.ChainSeq+1 {
		m.metrics.VoidEntries++
		done.Void = true
		return done, nil
	}
	if err := m.verify(e); err != nil {
		return Applied{}, err
	}
	if m.lead != nil && e.term == m.lead.term {
		if err := m.lead.overlay.applied(e.seq); err != nil {
			return Applied{}, err
		}
	}
	m.applied.ChainSeq, m.applied.LeaseClock = e.seq, e.leaseClock
	if err := m.applyCommits(e, b, &done); err != nil {
		return Applied{}, err
	}
	m.applyEffects(e, b)
	done.Effects = e.effects
	for i := range e.ops {
		if err := m.applyOp(&e.ops[i], b, &done); err != nil {
			return Applied{}, err
		}
	}
	return done, nil
}

// verify holds an entry against the state before anything of it is applied. What a single effect must look
// like, the decoder has checked.
func (m *Machine) verify(e *entry) error {
	switch {
	case !m.follows(e.base):
		return fmt.Errorf("evaluated on top of revision %d, the state is at %d: %w", e.base, m.applied.Revision, ErrInconsistent)
	case e.leaseClock < m.applied.LeaseClock:
		return fmt.Errorf("the lease clock goes back from %d to %d ms: %w", m.applied.LeaseClock, e.leaseClock, ErrInconsistent)
	case m.store.Revision() != m.applied.Revision:
		return fmt.Errorf("the store is at revision %d, the state at %d: %w", m.store.Revision(), m.applied.Revision, ErrInconsistent)
	}
	return nil
}

// follows tells whether the state may come from the present one by what comes after a revision. Between them, others may have got numbers.
func (m *Machine) follows(base kv.Revision) bool {
	return base == m.applied.Revision || m.options.Sequenced && base > m.applied.Revision
}

// close returns up to where the state is closed, and has the store know.
func (m *Machine) close() kv.Revision {
	if m.transactions.writers.size() > 0 {
		m.transactions.settle()
	}
	bound := kv.Unnumbered
	if stamp, held := m.transactions.lowestStamp(); held {
		bound = stamp
	}
	m.store.SetClosed(bound)
	return m.Closed()
}

func (m *Machine) applyEffects(e *entry, b storage.Batch) {
	if len(e.effects) == 0 {
		return
	}
	if m.store.Pending() > 0 {
		for i := range e.effects {
			m.applyPending(e.effects[i].Key, b)
		}
	}
	m.store.Apply(b, e.effects, e.revision)
	m.applied.Revision = e.revision
	for i := range e.effects {
		m.attach(&e.effects[i], b)
	}
}

// attach moves a key from the lease it had to the lease it has.
func (m *Machine) attach(e *mvcc.Effect, b storage.Batch) {
	if e.Lease == e.PrevLease {
		return
	}
	if e.PrevLease != 0 {
		m.scratch = keys.AppendAttachment(m.scratch[:0], m.rows.Home, e.PrevLease, e.Key)
		b.Delete(m.scratch)
	}
	if e.Lease != 0 {
		if m.lead != nil && string(e.Key) <= m.lead.detached[e.Lease] {
			delete(m.lead.detached, e.Lease)
		}
		m.scratch = keys.AppendAttachment(m.scratch[:0], m.rows.Home, e.Lease, e.Key)
		b.Set(m.scratch, nil)
	}
}

func (m *Machine) applyOp(p *op, b storage.Batch, done *Applied) error {
	switch p.kind {
	case opGrant:
		m.leases.grant(p.lease, p.ttl, deadlineAfter(m.applied.LeaseClock, p.ttl), uint64(m.applied.Index)+1)
	case opRenew:
		if l := m.leases.byID[p.lease]; l != nil {
			m.leases.extend(p.lease, m.applied.LeaseClock, l.ttl*1000)
		}
	case opExtend:
		m.leases.extend(p.lease, m.applied.LeaseClock, p.millis)
	case opRevoke:
		m.leases.revoke(p.lease)
	case opCompact:
		return m.applyCompaction(p.revision, b, done)
	case opAlarmRaise:
		m.alarms.raise(p.alarm)
		done.Alarms = true
	case opAlarmClear:
		m.alarms.clear(p.alarm)
		done.Alarms = true
	case opNode:
		m.applyNode(p.node, b)
	case opReplica:
		m.applied.place(p.replica)
		done.Placed = true
	case opRoster:
		m.applied.Roster = *p.roster
		m.applied.NextReplica = m.applied.nextReplica() // what the replicas of nodes that go were called stays taken
		done.Placed = true
	case opStage:
		m.applyPart(p.part)
	case opUnstage:
		m.unstage()
	case opBulk:
		return m.commitBulk(p.revision, b, done)
	case opRegister:
		m.leases.register(p.lease, p.shard)
	case opEnd:
		m.applyEnd(p.lease)
	case opNote:
		m.leases.note(p.lease, p.incarnation)
	case opDrop:
		m.leases.note(p.lease, 0)
	case opAuth:
		m.applyAuth(p.auth, b)
		done.Auth = true
	case opMembers:
		m.applyMembers(p.list, b)
	case opTime:
		m.applyTime(p.time, b)
	}
	return nil
}

func (m *Machine) applyCompaction(rev kv.Revision, b storage.Batch, done *Applied) error {
	if m.options.Sequenced { // the leader knows that nothing of this shard comes below it any more
		m.store.Advance(rev)
		m.applied.Revision = max(m.applied.Revision, rev)
	}
	if rev > m.applied.Revision || rev <= m.applied.Compacted {
		return fmt.Errorf("compaction at revision %d; the state is compacted at %d and at revision %d: %w",
			rev, m.applied.Compacted, m.applied.Revision, ErrInconsistent)
	}
	done.CompactedBefore = m.applied.Compacted
	m.store.SetCompacted(b, rev)
	m.applied.Compacted, done.Compacted = rev, rev
	m.forgetTimes(rev, b)
	return nil
}
