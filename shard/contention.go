package shard

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/shard/lock"
)

// contention is who has to wait for transactions over several shards at a leader. It is in memory: the locks follow from the records, and who waits is
// evaluated again by a new leader. The zero value has nobody.
//
// Locks are taken when a prepare is evaluated, and fall when its end is: what is evaluated next stands on it (rule 31). A prepare that is Patient stands in
// the queue of the latches while it waits. So whatever comes later and conflicts waits behind it, and nobody starves.
type contention struct {
	locks lock.Table
	// attached counts, by lease, what prepared puts attach: it cannot end before they are decided.
	attached map[kv.LeaseID]int
	// releasing counts, by lease, the prepared shares that delete its keys: it gets no others here before they are decided.
	releasing map[kv.LeaseID]int
	// queue has the latches of the patient prepares that wait. beside are the shares that are decided beside the rounds.
	queue  map[kv.TransactionID]latch.ID
	beside map[kv.TransactionID]struct{}
}

// begin takes the locks of what is prepared.
func (c *contention) begin(t *transactions) {
	t.each(func(r *record) bool {
		if r.holds() {
			c.hold(r)
		}
		return true
	})
}

func (c *contention) hold(r *record) {
	if len(r.accesses) > 0 {
		c.locks.Acquire(r.id, r.accesses)
	}
	for i := range r.effects {
		if id := r.effects[i].Lease; id != 0 {
			if c.attached == nil {
				c.attached = make(map[kv.LeaseID]int)
			}
			c.attached[id]++
		}
	}
	if r.release != nil {
		if c.releasing == nil {
			c.releasing = make(map[kv.LeaseID]int)
		}
		c.releasing[r.release.Lease]++
	}
}

func (c *contention) release(r *record) {
	c.locks.Release(r.id)
	for i := range r.effects {
		if id := r.effects[i].Lease; id != 0 {
			if c.attached[id]--; c.attached[id] == 0 {
				delete(c.attached, id)
			}
		}
	}
	if r.release != nil {
		id := r.release.Lease
		if c.releasing[id]--; c.releasing[id] == 0 {
			delete(c.releasing, id)
		}
	}
}

// locked tells whether a key is locked against writing.
func (c *contention) locked(key []byte) bool {
	return c.locks.Len() > 0 && c.locks.Conflicts(latch.Access{Span: kv.Span{Start: key}, Writes: true})
}

// blocks tells whether a request has to wait for a lock.
func (c *contention) blocks(r *kv.Request) bool {
	return !eachAccess(r, func(a latch.Access) bool { return !c.locks.Conflicts(a) })
}

// Released counts how often requests that are Blocked may have become free because a transaction over several shards was decided, or does not wait any
// more. Driver.
func (m *Machine) Released() uint64 { return m.freed }

// Contended tells whether requests may be Blocked by a transaction over several shards. Driver.
func (m *Machine) Contended() bool {
	if m.lead == nil {
		return false
	}
	c := &m.lead.contention
	return c.locks.Len() > 0 || len(c.releasing) > 0 || len(c.queue) > 0 || len(c.beside) > 0
}

// Withdraw says that a request that was Blocked, or is to be evaluated again for another reason, is not. Only a prepare leaves anything behind: it stands in a
// queue, and others wait for it. Driver.
func (m *Machine) Withdraw(r *kv.Request) error {
	if m.lead == nil || r.Kind != kv.KindTxnPrepare || r.Commit == nil {
		return nil
	}
	return m.withdraw(r.Commit.ID)
}

// withdraw takes a prepare out of the queue.
func (m *Machine) withdraw(id kv.TransactionID) error {
	c := &m.lead.contention
	stands, waits := c.queue[id]
	if !waits {
		return nil
	}
	delete(c.queue, id)
	m.freed++
	return m.lead.latches.Remove(stands)
}

// free tells whether a transaction can have its locks now: nobody has any that conflict, and nobody who came before it waits for such.
func (l *leadership) free(id kv.TransactionID, accesses []latch.Access) bool {
	c := &l.contention
	if c.locks.Len() > 0 {
		for _, a := range accesses {
			if c.locks.Conflicts(a) {
				return false
			}
		}
	}
	if stands, waits := c.queue[id]; waits {
		return l.latches.Granted(stands)
	}
	if l.latches.Len() == 0 {
		return true
	}
	if len(l.latched) > 0 { // which keys a lease has is not known
		return false
	}
	for _, a := range accesses {
		if l.latches.Conflicts(a) {
			return false
		}
	}
	return true
}
