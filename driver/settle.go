package driver

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// What a shard that is one of several needs to be read as of a revision R of the whole store: its applied state must be complete up to R. Any replica is,
// that has come to R, or to the last revision that was issued to a shard of which that is known to take effect. Otherwise the leader knows: what has no
// revision up to R when the leader is confirmed, by the lease or by a quorum, and after R was issued, never gets one. See rule 18 in
// docs/protocols/sequencer.md.

// WaitRevision calls done when the applied state has come to the revision, or with an error when that will not happen here.
func (r *Replica) WaitRevision(rev kv.Revision, done func(error)) {
	if r.Revision() >= rev {
		done(nil)
		return
	}
	r.ask(func(r *driven) {
		if r.machine.Closed() >= rev {
			done(nil)
			return
		}
		r.waits.revisions.add(uint64(rev), done)
	}, done)
}

// SettleAt finds an index that, once applied anywhere, makes the state there complete up to a revision that was issued before the call, and up to
// everything that anybody may have seen: what this leader has in flight at or below it, or without a revision yet, is waited for. Leader only:
// kv.ErrNotLeader elsewhere.
func (r *Replica) SettleAt(rev kv.Revision, done func(index uint64, err error)) {
	if !r.serving.Load() {
		done(0, kv.ErrNotLeader)
		return
	}
	r.front.tellCommitted() // whoever asks from elsewhere waits until it is applied there
	r.ask(func(r *driven) { r.settleAt(rev, done) }, func(err error) { done(0, err) })
}

func (r *driven) settleAt(rev kv.Revision, done func(index uint64, err error)) {
	if !r.leading {
		done(0, kv.ErrNotLeader)
		return
	}
	seq := r.machine.Settles(rev)
	if seq <= r.appliedSeq {
		r.settled(done)
		return
	}
	r.waits.proposals.add(seq, func(err error) {
		if err != nil {
			done(0, err)
			return
		}
		r.settled(done)
	})
}

// settled confirms that this replica leads, after what it had in flight is applied: what another leader had in flight by then gets a later revision.
func (r *driven) settled(done func(index uint64, err error)) {
	if index := r.Committed(); r.leaseHolds() {
		r.driver.tellCommitted()
		done(index, nil)
		return
	}
	r.askBarrier(func(index consensus.Index, err error) { done(uint64(index), err) })
}

// nothingInFlight ends all of those waits, in the next round, without the lock: what they wait for never comes, and cannot have an effect.
func (r *driven) nothingInFlight() {
	r.sequenced.cleaning.behind = 0
	if settling := r.waits.proposals; len(settling) > 0 {
		r.waits.proposals = nil
		r.ask(func(*driven) { settling.reached(all, nil) }, func(err error) { settling.reached(all, err) })
	}
}

// ReadAt answers a read-only request about keys from the applied state as of at.Revision, which is in the header. The caller has made sure that the state is
// complete up to it. Revisions above it are in the future for the request, those below at.Compacted are compacted. shard.ErrReadCompacted: at.Revision is by
// now. Otherwise as Read.
func (r *Replica) ReadAt(req *kv.Request, at kv.Present) (*kv.Response, error) {
	resp, err := r.readAt(req, at)
	return resp, r.Unread(err)
}

func (r *Replica) readAt(req *kv.Request, at kv.Present) (*kv.Response, error) {
	if !scans(req) {
		r.mu.RLock()
		defer r.mu.RUnlock()
		if replaced := r.replaced; replaced != nil {
			return r.machine.ReadAt(replaced.view, req, at)
		}
		return r.machine.ReadAt(nil, req, at)
	}
	r.mu.Lock()
	machine, view := r.machine, r.viewLocked()
	r.mu.Unlock()
	defer view.Close()
	return machine.ReadAt(view, req, at)
}

// Unsettled tells whether something that the request reads may be in flight at or below a revision that was issued before the call. Leader only: elsewhere it
// always may be. If this replica led for certain (LeaseValid) at some moment after the revision was issued, and nothing is in flight afterwards, the applied
// state is complete up to it for the request, and stays so.
func (r *Replica) Unsettled(req *kv.Request, rev kv.Revision) bool {
	r.mu.RLock() // batches are evaluated, and get their revisions, under the exclusive lock
	defer r.mu.RUnlock()
	return r.machine.Unsettled(req, rev)
}
