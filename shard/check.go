package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Check verifies the invariants of the machine. It walks everything in memory.
func (m *Machine) Check() error {
	if m.broken != nil {
		return m.broken
	}
	// The compacted revision may be from before a crash, and what was applied then not be applied again yet.
	replaying := m.applied.Index < m.options.LogEnd
	if m.store.Revision() != m.applied.Revision || m.store.Compacted() < m.applied.Compacted || m.store.Compacted() > m.applied.Compacted && !replaying {
		return fmt.Errorf("the store is at revision %d compacted at %d, the state at %d and %d: %w",
			m.store.Revision(), m.store.Compacted(), m.applied.Revision, m.applied.Compacted, ErrInconsistent)
	}
	if m.durable.Index > m.flushed.Index || m.flushed.Index > m.applied.Index {
		return fmt.Errorf("durable index %d, flushed %d, applied %d: %w", m.durable.Index, m.flushed.Index, m.applied.Index, ErrInconsistent)
	}
	if err := m.leases.check(); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInconsistent)
	}
	if err := m.alarms.check(); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInconsistent)
	}
	if err := m.transactions.check(m.applied.Revision); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInconsistent)
	}
	if allowed := m.options.RoundLooks; m.longestLooks > allowed {
		return fmt.Errorf("a request looked at %d keys in a round, %d are allowed: %w", m.longestLooks, allowed, ErrInconsistent)
	}
	if m.lead == nil {
		return nil
	}
	if err := m.lead.overlay.check(m.applied.Revision, m.lead.revision, m.options.Sequenced); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInconsistent)
	}
	if err := m.checkContention(); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInconsistent)
	}
	return nil
}

// CheckVersions verifies the invariants of the versions. It reads every latest row.
func (m *Machine) CheckVersions() error { return m.store.Check() }

// check recomputes the indexes of the overlay from its queues.
func (o *overlay) check(applied, evaluated kv.Revision, sequenced bool) error {
	revision := applied
	bulks := map[kv.Revision]bool{} // of the ops in flight
	o.eachOp(func(p *op) { bulks[p.revision] = bulks[p.revision] || p.kind == opBulk })
	skip := func() {
		for bulks[revision+1] {
			revision++
		}
	}
	follows := func(rev kv.Revision) bool { return rev == revision || sequenced && rev > revision }
	newest := map[string]int64{}
	touches := map[kv.LeaseID]int{}
	for at := o.changes.start; at < o.changes.end(); at++ {
		c := o.changes.at(at)
		if c.At.Sub == 0 && !c.resolved {
			skip()
		}
		switch {
		case c.resolved && c.At.Rev <= evaluated: // it stands in the order of the log, which is not that of revisions
		case c.At.Sub == 0 && follows(c.At.Rev-1):
			revision = c.At.Rev
		case c.At.Sub == 0 || c.At.Rev != revision:
			return fmt.Errorf("change at %d.%d in flight after revision %d", c.At.Rev, c.At.Sub, revision)
		}
		older, found := newest[string(c.Key)]
		if found && c.older != older || !found && c.older >= o.changes.start {
			return fmt.Errorf("change %d of key %q does not know the one before", at, c.Key)
		}
		newest[string(c.Key)] = at
		if c.Lease != 0 {
			touches[c.Lease]++
		}
		if c.PrevLease != 0 && c.PrevLease != c.Lease {
			touches[c.PrevLease]++
		}
	}
	if skip(); !follows(evaluated) {
		return fmt.Errorf("changes in flight end at revision %d, evaluation at %d", revision, evaluated)
	}
	if len(newest) != len(o.newest) || o.ordered != nil && o.ordered.Len() != len(newest) {
		return fmt.Errorf("%d keys in flight, %d indexed", len(newest), len(o.newest))
	}
	for key, at := range newest {
		if o.newest[key] != at {
			return fmt.Errorf("key %q: newest change is %d, indexed is %d", key, at, o.newest[key])
		}
	}
	if len(touches) != len(o.byLease) {
		return fmt.Errorf("changes of %d leases in flight, of %d indexed", len(touches), len(o.byLease))
	}
	for id, n := range touches {
		if len(o.byLease[id]) != n {
			return fmt.Errorf("lease %x: %d changes in flight, %d indexed", int64(id), n, len(o.byLease[id]))
		}
	}
	return o.checkOps()
}

func (o *overlay) checkOps() error {
	leases, alarms, notes := map[kv.LeaseID]int64{}, map[kv.AlarmType]int{}, map[kv.LeaseID]int64{}
	for at := o.ops.start; at < o.ops.end(); at++ {
		switch p := o.ops.at(at); p.kind {
		case opGrant, opExtend, opRevoke, opRegister, opEnd:
			leases[p.lease] = at
		case opNote, opDrop:
			notes[p.lease] = at
		case opAlarmRaise:
			alarms[p.alarm.Type]++
		case opAlarmClear:
			alarms[p.alarm.Type]--
		}
	}
	if len(leases) != len(o.leases) {
		return fmt.Errorf("ops on %d leases in flight, on %d indexed", len(leases), len(o.leases))
	}
	for id, at := range leases {
		if o.leases[id].last != at {
			return fmt.Errorf("lease %x: last op is %d, indexed is %d", int64(id), at, o.leases[id].last)
		}
	}
	if len(notes) != len(o.notes) {
		return fmt.Errorf("ops on %d notes in flight, on %d indexed", len(notes), len(o.notes))
	}
	for id, at := range notes {
		if o.notes[id].last != at {
			return fmt.Errorf("note of lease %x: last op is %d, indexed is %d", int64(id), at, o.notes[id].last)
		}
	}
	for t, n := range o.alarms {
		if alarms[t] != n {
			return fmt.Errorf("ops in flight make %d alarms of type %d, counted are %d", alarms[t], t, n)
		}
	}
	return nil
}

// check counts the alarms of each type.
func (t *alarmTable) check() error {
	for kind, n := range t.byType {
		if found := len(alarmsOfType(t.list(), kind)); kind != kv.AlarmNone && found != n {
			return fmt.Errorf("%d alarms of type %d, counted are %d", found, kind, n)
		}
	}
	return nil
}
