package driver

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
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
	r.ask(func(r *driven) {
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

// released ends the waits of reads that the state does not hold any more.
func (w *waits) released(state Machine) {
	if len(w.held) == 0 {
		return
	}
	var free []heldWait
	w.held = slices.DeleteFunc(w.held, func(of heldWait) bool {
		held := state.Held(of.req, of.rev)
		if !held {
			free = append(free, of)
		}
		return !held
	})
	for _, of := range free {
		of.done(nil)
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

// Finished says which transactions of this shard as the anchor are finished, as of the applied state.
func (r *Replica) Finished() kv.Finished {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.machine.Finished(r.machine.Shard())
}

// hearReleased has requests evaluated again that were blocked by a transaction over several shards, if one has been decided.
func (r *driven) hearReleased() {
	if !r.isSequenced() {
		return
	}
	b := &r.beside
	if r.wake() {
		r.driver.markWorking(r)
		r.driver.kick()
	}
	if n := r.machine.Released(); n != b.heard {
		b.heard = n
		if len(b.blocked) > 0 {
			b.released = true
			r.driver.markWorking(r)
		}
	}
}

// wake queues the parked requests that may have their locks, in the order of their arrival, and tells whether there are any.
func (r *driven) wake() (any bool) {
	if !r.isSequenced() {
		return false
	}
	return r.beside.unpark(r.machine.Woken(), &r.queue)
}

// dropBlocked ends blocked requests that nobody waits for any more: what blocks them may be there for long.
func (r *driven) dropBlocked() {
	r.beside.drop(func(q request) bool {
		if q.wanted() {
			return false
		}
		r.unwanted(q)
		return true
	})
}

// unwanted ends a request that is not evaluated any more.
func (r *driven) unwanted(q request) {
	r.driver.metrics.requestsUnwanted.Add(1)
	if r.isSequenced() {
		r.machine.Withdraw(q.req)
	}
	q.err = kv.ErrTimeout
	r.finish(q, 0)
}

// grant has whoever asked be told of the locks of a prepare that was evaluated.
func (r *driven) grant(q *request, out *shard.Outcome) {
	if out.Effects && !q.granted && q.req != nil && q.req.Commit != nil && q.req.Commit.Granted != nil {
		q.granted = true
		r.driver.granted = append(r.driver.granted, q.req.Commit.Granted)
	}
}

// revoke ends a prepare that loses its locks because the leadership begins anew. The transaction may wait elsewhere since it had them, so it must not wait for
// them again.
func (r *driven) revoke(q request) {
	q.resp, q.err = &kv.Response{Kind: q.req.Kind, Commit: &kv.CommitResponse{Busy: true}}, nil
	r.finish(q, 0)
}

// tellGranted tells of the locks that prepares have got, and has evaluated what that brings, so that it comes into the log in the same write.
func (d *Driver) tellGranted(now time.Duration) {
	if len(d.granted) == 0 || d.Err() != nil {
		return
	}
	granted := d.granted
	d.granted = nil
	for _, tell := range granted {
		tell()
	}
	d.queueRequests(d.inbox.takeRequests())
	d.evaluateWorking(now)
}
