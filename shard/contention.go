package shard

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/shard/lock"
)

// contention is who has to wait for transactions over several shards at a leader. It is in memory: the locks follow from the records, and who waits is
// evaluated again by a new leader. The zero value has nobody.
//
// Locks are taken when a prepare is evaluated, and fall when its end is: what is evaluated next stands on it (rule 31). A prepare that is Patient, and any
// other request, stands in the queue while it waits for a lock. So whatever comes later and conflicts waits behind it, and nobody starves.
type contention struct {
	locks lock.Table
	queue lock.Queue
	// patient are the prepares in the queue, others the other requests there.
	patient map[kv.TransactionID]*lock.Waiter
	others  map[*kv.Request]*lock.Waiter
	// stirred are accesses that somebody had a lock for, or waited for, and does not any more: who waits for them may be free. all: anybody may be.
	stirred []latch.Access
	all     bool
	left    []uint64 // the places of those who have left the queue: two requests of a transaction have the same
	// attached counts, by lease, what prepared puts attach: it cannot end before they are decided.
	attached map[kv.LeaseID]int
	// releasing counts, by lease, the prepared shares that delete its keys: it gets no others here before they are decided.
	releasing map[kv.LeaseID]int
	// beside are the shares that are decided beside the rounds.
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
	c.stir(r.accesses)
	c.all = c.all || r.release != nil
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

// waits tells whether a request that is not about a transaction over several shards has to wait for a lock, and since when it does: its place in the queue, which
// it takes, or leaves.
func (c *contention) waits(r *kv.Request) (place uint64, waits bool) {
	if c.locks.Len() == 0 && c.queue.Len() == 0 {
		return 0, false
	}
	w := c.others[r]
	if eachAccess(r, func(a latch.Access) bool { return !c.locks.Conflicts(a) && !c.queue.Behind(w, a) }) {
		c.leave(r)
		return 0, false
	}
	if w == nil {
		var accesses []latch.Access
		eachAccess(r, func(a latch.Access) bool {
			accesses = append(accesses, a)
			return true
		})
		if c.others == nil {
			c.others = make(map[*kv.Request]*lock.Waiter)
		}
		w = c.queue.Add(accesses)
		c.others[r] = w
	}
	return w.Place, true
}

// leave takes a request out of the queue, if it is there.
func (c *contention) leave(r *kv.Request) {
	if w := c.others[r]; w != nil {
		delete(c.others, r)
		c.gone(w)
	}
}

// leavePatient does so with a prepare.
func (c *contention) leavePatient(id kv.TransactionID) {
	if w := c.patient[id]; w != nil {
		delete(c.patient, id)
		c.gone(w)
	}
}

func (c *contention) gone(w *lock.Waiter) {
	c.left = append(c.left, w.Place)
	c.stir(c.queue.Remove(w))
}

// stir takes note of accesses that others need not wait for any more.
func (c *contention) stir(accesses []latch.Access) {
	if c.queue.Len() > 0 {
		c.stirred = append(c.stirred, accesses...)
	}
}

// Woken returns the places of requests that waited for locks (Outcome.Place) and may have them now, or have lost their place, in the order of their arrival: they
// are to be evaluated again. It costs what they and those who still wait for the same keys are. Driver.
func (m *Machine) Woken() (places []uint64) {
	if m.lead == nil {
		return nil
	}
	c := &m.lead.contention
	if len(c.stirred) == 0 && len(c.left) == 0 && !c.all {
		return nil
	}
	places, c.left = c.left, nil
	stirred, seen := c.stirred, make(map[*lock.Waiter]struct{})
	if c.all {
		stirred = []latch.Access{{Span: kv.Everything(), Writes: true}}
	}
	c.stirred, c.all = c.stirred[:0], false
	for _, a := range stirred {
		c.queue.Touched(a, func(w *lock.Waiter) {
			if _, twice := seen[w]; !twice {
				if seen[w] = struct{}{}; c.queue.Free(w, &c.locks) {
					places = append(places, w.Place)
				}
			}
		})
	}
	clear(c.stirred[:cap(c.stirred)])
	slices.Sort(places)
	return places
}

// Released counts how often requests that are Blocked without a place may have become free because a transaction over several shards was decided, or is not
// decided beside the rounds any more. Driver.
func (m *Machine) Released() uint64 { return m.freed }

// Contended tells whether requests may be Blocked by a transaction over several shards. Driver.
func (m *Machine) Contended() bool {
	if m.lead == nil {
		return false
	}
	c := &m.lead.contention
	return c.locks.Len() > 0 || len(c.releasing) > 0 || c.queue.Len() > 0 || len(c.beside) > 0
}

// Withdraw says that a request that was Blocked, or is to be evaluated again for another reason, is not: it may stand in a queue, and others wait for it. Driver.
func (m *Machine) Withdraw(r *kv.Request) {
	switch {
	case m.lead == nil:
	case r.Kind == kv.KindTxnPrepare && r.Commit != nil:
		m.lead.contention.leavePatient(r.Commit.ID)
	default:
		m.lead.contention.leave(r)
	}
}

// free tells whether a transaction can have its locks now: nobody has any that conflict, and nobody who came before it waits for such.
func (l *leadership) free(id kv.TransactionID, accesses []latch.Access) bool {
	c := &l.contention
	if c.locks.Len() > 0 || c.queue.Len() > 0 {
		w := c.patient[id]
		for _, a := range accesses {
			if c.locks.Conflicts(a) || c.queue.Behind(w, a) {
				return false
			}
		}
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
