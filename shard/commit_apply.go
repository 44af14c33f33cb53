package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// How entries change records.

// applyCommits applies what an entry has about transactions: before its effects, which may stand on what is resolved (rule 31).
func (m *Machine) applyCommits(e *entry, b storage.Batch, done *Applied) error {
	stamp := kv.Revision(0)
	for i := range e.ops {
		p := &e.ops[i]
		if p.record == nil {
			continue
		}
		if stamp == 0 {
			stamp = m.stampOf(e)
		}
		if err := m.applyCommitOp(p, stamp, b, done); err != nil {
			return err
		}
	}
	return nil
}

// stampOf is the highest revision that is applied after the entry (rule 30).
func (m *Machine) stampOf(e *entry) kv.Revision {
	stamp := m.applied.Revision
	if len(e.effects) > 0 {
		stamp = max(stamp, e.revision)
	}
	for i := range e.ops {
		switch p := &e.ops[i]; p.kind {
		case opCompact:
			stamp = max(stamp, p.revision)
		case opResolve:
			if known := m.transactions.records[p.record.id]; known != nil && len(known.effects) > 0 {
				stamp = max(stamp, p.record.decision.Revision)
			}
		}
	}
	return stamp
}

func (m *Machine) applyCommitOp(p *op, stamp kv.Revision, b storage.Batch, done *Applied) error {
	if !m.options.Sequenced {
		return fmt.Errorf("a transaction over several shards in the log of a shard that is alone: %w", ErrMalformed)
	}
	switch p.kind {
	case opFinished, opFinishedOpen:
		m.transactions.applyFinished(p.record.finished())
		return nil
	case opResolve:
		return m.applyResolve(p.record, b, done)
	}
	return m.applyProgress(p, stamp)
}

// applyProgress is what comes before the end: a prepare, a promise, or that a decision is accepted.
func (m *Machine) applyProgress(p *op, stamp kv.Revision) error {
	t, said := &m.transactions, p.record
	known := t.records[said.id]
	next := record{id: said.id}
	if known != nil {
		next = *known
	}
	if next.decision.Verdict != kv.Undecided || p.kind == opPrepare && known != nil || p.kind == opAccept && known == nil {
		return fmt.Errorf("op %d about transaction %v, which is at standing %d: %w", p.kind, said.id, next.standing(), ErrInconsistent)
	}
	if known == nil && m.lead != nil {
		next.since = m.lead.now
	}
	switch p.kind {
	case opPrepare:
		next.participants, next.prepared, next.accesses, next.effects = said.participants, true, said.accesses, said.effects
		next.release, next.stamp = said.release, stamp
	case opPromise:
		next.participants, next.promised = said.participants, said.promised
	case opAccept:
		next.accepted, next.value = said.accepted, said.value
		if next.promised.Compare(said.accepted) < 0 {
			next.promised = said.accepted
		}
	}
	t.put(&next)
	return nil
}

// applyResolve ends a transaction here. The record says from now on how.
func (m *Machine) applyResolve(said *record, b storage.Batch, done *Applied) error {
	t := &m.transactions
	known := t.records[said.id]
	commits := said.decision.Verdict == kv.Commit
	switch {
	case known != nil && known.decision.Verdict != kv.Undecided, commits && (known == nil || !known.prepared),
		commits && len(known.effects) > 0 && said.decision.Revision <= known.stamp:
		return fmt.Errorf("transaction %v is resolved with %+v, and the record is %+v: %w", said.id, said.decision, known, ErrInconsistent)
	}
	next := &record{id: said.id, decision: said.decision}
	if known != nil {
		next.participants, next.since = known.participants, known.since
	}
	if commits && len(known.effects) > 0 {
		m.applyTransaction(known.effects, said.decision.Revision, b, done)
	}
	t.put(next)
	if t.covered(next.id) {
		t.remove(next.id)
	}
	return nil
}

// applyTransaction lets the effects of a transaction take effect at its revision, which may be below the highest that is applied.
func (m *Machine) applyTransaction(effects []mvcc.Effect, rev kv.Revision, b storage.Batch, done *Applied) {
	from := len(done.Resolved)
	for i := range effects {
		done.Resolved = append(done.Resolved, numbered(&effects[i], rev))
	}
	moved := done.Resolved[from:]
	if m.store.Pending() > 0 {
		for i := range moved {
			m.applyPending(moved[i].Key, b)
		}
	}
	m.store.Apply(b, moved, rev)
	m.applied.Revision = max(m.applied.Revision, rev)
	m.transactions.lastResolved = max(m.transactions.lastResolved, rev)
	for i := range moved {
		m.attach(&moved[i], b)
	}
}
