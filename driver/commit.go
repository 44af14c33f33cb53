package driver

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Transactions over several shards, as far as a replica of one of them is concerned. What is prepared in the log holds its keys until it is decided: writes
// are blocked by the machine, and a read of a state that may lack its effects waits here.

// heldWait is a read that waits for the end of a transaction.
type heldWait struct {
	req  *kv.Request
	rev  kv.Revision
	by   kv.Asker
	done func(error)
}

// Held tells whether a transaction over several shards that is prepared here may yet write what the request reads, at or below the revision. Asked of a state that is
// complete up to the revision but for such transactions, a no stays one.
func (r *Replica) Held(req *kv.Request, rev kv.Revision) bool {
	if r.published.undecided.Load() == 0 {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.machine.Held(req, rev)
}

// WaitReleased calls done when Held says no, or with an error when that will not be known here. Whoever by does not wait for any more may be forgotten.
func (r *Replica) WaitReleased(req *kv.Request, rev kv.Revision, by kv.Asker, done func(error)) {
	r.ask(func() {
		if !r.machine.Held(req, rev) {
			done(nil)
			return
		}
		if len(r.waits.held) == cap(r.waits.held) { // before it grows: not more is kept than twice as many as wait
			r.waits.held = slices.DeleteFunc(r.waits.held, func(w heldWait) bool { return !w.by.Waits() })
		}
		r.waits.held = append(r.waits.held, heldWait{req, rev, by, done})
	}, done)
}

// released ends the waits of reads that are held no more.
func (r *Replica) released() {
	if len(r.waits.held) == 0 {
		return
	}
	var free []heldWait
	r.waits.held = slices.DeleteFunc(r.waits.held, func(w heldWait) bool {
		held := r.machine.Held(w.req, w.rev)
		if !held {
			free = append(free, w)
		}
		return !held
	})
	for _, w := range free {
		w.done(nil)
	}
}

// Undecided are the transactions over several shards that the log has not seen the end of, and those of which this shard is the anchor and others may not have
// heard the end.
func (r *Replica) Undecided() []kv.UnfinishedTransaction {
	if r.published.records.Load() == 0 {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.machine.Undecided()
}

// Finished says of the transactions of this shard as the anchor that all before one are finished, as of the applied state.
func (r *Replica) Finished() kv.TransactionID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.machine.Fence(r.machine.Shard())
}

// hearReleased has requests evaluated again that were blocked by a transaction over several shards, if one has been decided.
func (r *Replica) hearReleased() {
	if !r.isSequenced() {
		return
	}
	b := &r.beside
	if n := r.machine.Released(); n != b.heard {
		b.heard = n
		if len(b.blocked) > 0 {
			b.released = true
			r.driver.markWorking(r)
		}
	}
}

// dropBlocked ends blocked requests that nobody waits for any more: what blocks them may be there for long.
func (r *Replica) dropBlocked() error {
	var failed error
	r.beside.blocked = slices.DeleteFunc(r.beside.blocked, func(q request) bool {
		if q.wanted() || failed != nil {
			return false
		}
		failed = r.unwanted(q)
		return true
	})
	return failed
}

// unwanted ends a request that is not evaluated any more.
func (r *Replica) unwanted(q request) error {
	r.driver.metrics.requestsUnwanted.Add(1)
	if r.isSequenced() {
		if err := r.machine.Withdraw(q.req); err != nil {
			return err
		}
	}
	q.err = kv.ErrTimeout
	r.finish(q, 0)
	return nil
}
