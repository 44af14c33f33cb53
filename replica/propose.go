package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Propose has the request evaluated by this replica, which must lead, and answers when it has taken
// effect. done is called exactly once, from the driver's goroutine or at once, and must not
// block. kv.ErrNotLeader means that the request certainly had and will have no effect.
func (r *Replica) Propose(req *kv.Request, done func(resp *kv.Response, applied uint64, err error)) {
	switch {
	case r.store.stopping():
		done(nil, 0, kv.ErrStopped)
	case !r.serving.Load():
		done(nil, 0, kv.ErrNotLeader)
	case r.store.queued.Load() >= int64(r.store.opts.MaxQueued):
		done(nil, 0, kv.ErrTooManyRequests)
	default:
		r.store.queued.Add(1)
		r.store.inbox.addRequest(request{replica: r, req: req, done: done})
		r.store.kick()
	}
}

// evaluate turns queued requests into effects, and the effects into one proposal.
func (r *Replica) evaluate(now time.Duration) error {
	if !r.leading {
		r.refuseQueued(kv.ErrNotLeader)
		return nil
	}
	status := r.core.Status()
	if status.Role != consensus.RoleLeader || status.Term != r.role.Term || status.LeaseForbidden {
		// The core has moved on, or hands leadership over; its Ready will say so.
		if status.LeaseForbidden {
			r.refuseQueued(kv.ErrNotLeader)
		}
		return nil
	}
	if r.inflight >= r.store.opts.MaxInflight {
		return nil
	}
	r.mu.Lock()
	for r.queue.len() > 0 && r.machine.PendingBytes() < r.store.opts.MaxRoundBytes {
		if err := r.evaluateOne(r.queue.pop()); err != nil {
			r.mu.Unlock()
			return fmt.Errorf("group %d: evaluate a request: %w", r.group, err)
		}
	}
	var data []byte
	var seq uint64
	if r.machine.HasProposal() {
		data, seq = r.machine.TakeProposal(now)
	}
	r.mu.Unlock()
	return r.propose(data, seq)
}

func (r *Replica) evaluateOne(q request) error {
	r.store.queued.Add(-1)
	out := r.machine.Evaluate(q.req)
	q.resp, q.err = out.Response, out.Err
	switch {
	case out.Fatal != nil:
		r.store.finished = append(r.store.finished, finished{request: request{done: q.done, err: kv.ErrUnhealthy}})
		return out.Fatal
	case out.Effects:
		r.round = append(r.round, q)
	case out.WaitFor != 0 && !r.seqApplied(out.WaitFor):
		r.depends.push(dependent{term: r.role.Term, seq: out.WaitFor, request: q})
	default:
		r.confirmed(q)
	}
	return nil
}

// seqApplied tells whether the proposal with the number, of this leadership, is applied. What is evaluated and
// not yet proposed need not come from a request: leases expire by themselves.
func (r *Replica) seqApplied(seq uint64) bool {
	if r.rounds.len() > 0 {
		return seq < r.rounds.front().seq
	}
	return !r.machine.HasProposal()
}

// confirmed answers a request without effects as soon as it is sure that this replica still leads.
func (r *Replica) confirmed(q request) {
	if r.leaseHolds() { // evaluated on top of everything in flight, so nobody has seen more
		r.store.finished = append(r.store.finished, finished{request: q, applied: r.machine.AppliedIndex()})
		return
	}
	r.askBarrier(func(index consensus.Index, err error) {
		if err != nil {
			q.resp, q.err = nil, kv.ErrNotLeader
		}
		r.store.finished = append(r.store.finished, finished{request: q, applied: index})
	})
}

// propose proposes the effects of the round as one entry.
func (r *Replica) propose(data []byte, seq uint64) error {
	if seq == 0 {
		if len(r.round) > 0 {
			return errors.New("replica: the machine reported effects but has no proposal")
		}
		return nil
	}
	if err := r.core.Propose([][]byte{data}); err != nil {
		// Everything that could be a reason was ruled out before the evaluation.
		return fmt.Errorf("group %d: proposal refused by a leader: %w", r.group, err)
	}
	r.rounds.push(proposedRound{term: r.role.Term, seq: seq, requests: r.round})
	r.round = nil
	r.inflight++
	r.store.metrics.proposals.Add(1)
	r.store.markDirty(r)
	return nil
}

// refuseQueued fails what is queued and not evaluated, or evaluated and not proposed.
func (r *Replica) refuseQueued(err error) {
	for _, q := range r.round {
		q.resp, q.err = nil, err
		r.store.finished = append(r.store.finished, finished{request: q})
	}
	r.round = nil
	for r.queue.len() > 0 {
		q := r.queue.pop()
		r.store.queued.Add(-1)
		q.err = err
		r.store.finished = append(r.store.finished, finished{request: q})
	}
}

// decided answers the requests whose fate the entry (term, seq) shows. Entries of one term are
// applied in order, so a later entry, or one of a later term, shows that an earlier one was lost.
func (r *Replica) decided(term consensus.Term, seq uint64, void bool) {
	for r.rounds.len() > 0 {
		front := r.rounds.front()
		if front.term > term || front.term == term && front.seq > seq {
			break
		}
		applied := front.term == term && front.seq == seq && !void
		proposed := r.rounds.pop()
		if proposed.term == r.role.Term && r.inflight > 0 {
			r.inflight--
		}
		for _, q := range proposed.requests {
			r.finishDecided(q, applied)
		}
	}
	for r.depends.len() > 0 {
		front := r.depends.front()
		if front.term > term || front.term == term && front.seq > seq {
			break
		}
		applied := front.term == term && !void
		r.finishDecided(r.depends.pop().request, applied)
	}
}

func (r *Replica) finishDecided(q request, applied bool) {
	if !applied {
		q.resp, q.err = nil, kv.ErrNotLeader
	}
	r.store.finished = append(r.store.finished, finished{request: q, applied: r.machine.AppliedIndex()})
}

// leapt ends the wait for entries that a snapshot took the place of: whether they are in it, nobody here can tell.
// Requests without effects had none.
func (r *Replica) leapt() {
	for r.rounds.len() > 0 {
		for _, q := range r.rounds.pop().requests {
			q.resp, q.err = nil, kv.ErrOutcomeUnknown
			r.store.finished = append(r.store.finished, finished{request: q})
		}
	}
	for r.depends.len() > 0 {
		r.finishDecided(r.depends.pop().request, false)
	}
}

// failAll fails everything that waits. What is proposed may or may not take effect.
func (r *Replica) failAll(err error) {
	r.refuseQueued(err)
	for r.depends.len() > 0 {
		q := r.depends.pop().request
		q.resp, q.err = nil, err
		r.store.finished = append(r.store.finished, finished{request: q})
	}
	r.leapt()
	r.failBarriers(err)
	r.waits.reached(^consensus.Index(0), err)
}
