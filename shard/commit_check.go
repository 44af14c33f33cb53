package shard

import (
	"fmt"
	"maps"

	"github.com/quoratedb/quorate/kv"
)

// check recomputes what is kept beside the records.
func (t *transactions) check(highest kv.Revision) error {
	open, bytes, writers := 0, 0, 0
	for id, r := range t.records { // in any order
		if r.id != id || r.decision.Verdict != kv.Undecided && t.covered(id) {
			return fmt.Errorf("transaction %v is kept as %+v, and finished are %v", id, r, t.finished[id.Anchor])
		}
		if r.decision.Verdict == kv.Undecided {
			open++
		}
		if r.holds() {
			bytes += r.sizeBytes()
		}
		if r.holdsBack() {
			writers++
		}
		if r.stamp > highest {
			return fmt.Errorf("transaction %v has stamp %d, above revision %d", id, r.stamp, highest)
		}
	}
	if open != t.open || bytes != t.bytes || writers != t.written.Len() || len(t.records) > 0 && t.ordered.Len() != len(t.records) {
		return fmt.Errorf("%d transactions are undecided, %d bytes prepared, %d write; counted are %d, %d and %d", open, bytes, writers, t.open, t.bytes, t.written.Len())
	}
	stamp, gone := kv.Revision(0), 0
	for at := t.writers.start; at < t.writers.end(); at++ {
		w := *t.writers.at(at)
		if w.stamp < stamp {
			return fmt.Errorf("transaction %v has stamp %d, behind one of %d", w.id, w.stamp, stamp)
		}
		if stamp = w.stamp; t.isWriter(w) {
			writers--
		} else {
			gone++
		}
	}
	if writers != 0 || gone != t.gone || gone > 0 && !t.isWriter(*t.writers.first()) {
		return fmt.Errorf("%d transactions are missing from those that hold the shard back, %d are too many, of which %d are counted", writers, gone, t.gone)
	}
	return nil
}

// checkContention holds the locks of a leader against the records of the overlaid state.
func (m *Machine) checkContention() error {
	holders, attached, releasing := 0, map[kv.LeaseID]int{}, map[kv.LeaseID]int{}
	count := func(r *record) {
		if !r.holds() {
			return
		}
		if len(r.accesses) > 0 {
			holders++
		}
		for i := range r.effects {
			if id := r.effects[i].Lease; id != 0 {
				attached[id]++
			}
		}
		if r.release != nil {
			releasing[r.release.Lease]++
		}
	}
	c, pending := &m.lead.contention, m.lead.overlay.commits.records
	for id, r := range m.transactions.records { // in any order
		if _, changed := pending[id]; !changed {
			count(r)
		}
	}
	for _, p := range pending { // in any order
		count(p.record)
	}
	if c.locks.Len() != holders || len(c.attached) != len(attached) {
		return fmt.Errorf("%d transactions hold locks and %d leases, counted are %d and %d", holders, len(attached), c.locks.Len(), len(c.attached))
	}
	for id, n := range attached {
		if c.attached[id] != n {
			return fmt.Errorf("lease %x is attached by %d prepared puts, counted are %d", int64(id), n, c.attached[id])
		}
	}
	if !maps.Equal(c.releasing, releasing) {
		return fmt.Errorf("leases are being released: %v, counted are %v", releasing, c.releasing)
	}
	if c, o := m.lead.overlay.commits, m.lead.overlay; c.prepares < 0 || c.bytes < 0 || o.resolved < o.untakenResolved || o.resolved > int64(o.changes.size()) {
		return fmt.Errorf("in flight are %d prepares of %d bytes, %d resolved changes, %d of them in no proposal", c.prepares, c.bytes, o.resolved, o.untakenResolved)
	}
	return nil
}
