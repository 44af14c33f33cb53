package driver

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// evaluation is what is to be evaluated, or to be evaluated further.
type evaluation struct {
	queue     requestQueue
	beside    beside
	numbering numbering
	asking    asking
	leaseWork bool // the machine wants ticks
	leaseTick bool // and is due one
}

// pending tells whether something may be evaluated as soon as a batch is open.
func (e *evaluation) pending() bool {
	return e.queue.len() > 0 || e.beside.unfinished() || len(e.asking.answers) > 0
}

// due tells whether a round has something to do for it.
func (e *evaluation) due() bool { return e.pending() || e.numbering.due() }

// proposals is where a leader stands with what it has evaluated.
type proposals struct {
	round    []request            // evaluated in this round: decided by the next proposal
	refused  refusedProposal      // the core had no room for it
	rounds   queue[proposedRound] // proposed, not yet applied
	inflight int                  // of rounds, those of this leadership
	// appliedSeq is the last proposal of this leadership that is applied.
	appliedSeq uint64
	depends    queue[dependent] // without effects of their own, on top of what is not yet applied
	physical   []request        // compactions that are to be answered when their rows are deleted
}

// Propose has the request evaluated by this replica, which must lead, and answers when it has taken
// effect. One that was elected and cannot serve yet lets the request wait for that. done is called exactly once, from the driver's goroutine or at once, and must not
// block. If by (nil: nobody in particular) does not wait any more just before the evaluation, nothing is evaluated and the answer is kv.ErrTimeout.
// kv.ErrNotLeader means that the request was not evaluated, and kv.ErrLeaderChanged that it was; with either it certainly had and will have no effect.
//
// It tells whether the request is queued: if not, done was called at once. If it is, what done gives to the transport is sent at the end of a round.
func (r *Replica) Propose(req *kv.Request, by kv.Asker, done func(resp *kv.Response, applied uint64, err error)) (queued bool) {
	alone := by != nil && by.Alone() // asked now: once it is in the inbox, others have it
	queued, due := r.enqueue(request{replica: r.driven, req: req, by: by, done: done})
	switch {
	case !due:
	case alone:
		runtime.Gosched() // others that were woken together with this one bring their requests first
		r.front.roundHere()
	default:
		r.front.kick()
	}
	return queued
}

// enqueue puts a request into the inbox, and tells whether that calls for a round.
func (r *Replica) enqueue(q request) (queued, due bool) {
	d := r.front
	if err := d.stopped(); err != nil {
		q.done(nil, 0, err)
		return false, false
	}
	if !r.serving.Load() && !r.expected.Load() && !r.serving.Load() { // the last: it may have begun in between
		q.done(nil, 0, kv.ErrNotLeader)
		return false, false
	}
	q.sizeBytes = shard.SizeBytes(q.req)
	if !d.letIn(int64(q.sizeBytes)) {
		q.done(nil, 0, kv.ErrTooManyRequests)
		return false, false
	}
	if !d.inbox.addRequest(q) {
		d.letOut(int64(q.sizeBytes))
		q.done(nil, 0, kv.ErrStopped)
		return false, false
	}
	// Asked after the request is in the inbox: whoever clears the flag looks there afterwards.
	return true, !r.full.Load()
}

// evaluate turns queued requests into effects, and the effects into one proposal.
func (r *driven) evaluate(now time.Duration) error {
	if r.awaitsService() {
		return nil
	}
	if !r.leading {
		r.refuseQueued(kv.ErrNotLeader, kv.ErrLeaderChanged)
		return nil
	}
	if brief := r.core.Brief(); brief.Role != consensus.RoleLeader || brief.Term != r.role.Term {
		return nil // the core has moved on; its Ready will say so
	}
	if err := r.proposeLimit(); err != nil {
		return err
	}
	r.startBeside()
	if r.refused.seq != 0 {
		if err := r.propose(r.refused.data, r.refused.seq); err != nil || r.refused.seq != 0 {
			return err
		}
	}
	if r.leadership.Transferring() {
		r.goOnHandingOver()
		if r.numbering.first == 0 || r.core.Brief().Role != consensus.RoleLeader {
			return nil // what is not evaluated here may surely be evaluated by the next leader
		}
	}
	if !r.mayPropose() {
		r.full.Store(true)
		return nil
	}
	if r.numbering.waiting {
		return nil
	}
	data, seq, err := r.evaluateBatch(now)
	if err != nil {
		return fmt.Errorf("group %d: evaluate a request: %w", r.group, err)
	}
	if err := r.propose(data, seq); err != nil {
		return err
	}
	r.sendAsks()
	return nil
}

// evaluateBatch evaluates what is queued, and returns the proposal with the effects; seq 0: there is none, or not yet.
func (r *driven) evaluateBatch(now time.Duration) (data []byte, seq uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait, err := r.beginBatch(); err != nil || wait {
		return nil, 0, err
	}
	numbered := false
	if first := r.numbering.first; first != 0 {
		numbered, err = r.number(first, r.numbering.compacted)
	} else {
		if err := r.evaluateQueued(now); err != nil {
			r.letGo()
			return nil, 0, err
		}
		numbered, err = r.endBatch()
	}
	r.hearReleased()
	if err == nil && numbered && r.machine.HasProposal() {
		data, seq = r.machine.TakeProposal(now)
	}
	return data, seq, err
}

// evaluateQueued evaluates what is queued, as far as a round may.
func (r *driven) evaluateQueued(now time.Duration) error {
	r.queue.beginRound()
	if r.leaseTick {
		r.leaseTick = false
		if err := r.machine.Tick(now); err != nil {
			return fmt.Errorf("expire leases: %w", err)
		}
		if len(r.asking.waiting) > 0 {
			r.dropUnwanted(now)
		}
		if r.isSequenced() && r.beside.waits() {
			r.dropBlocked()
		}
		r.leaseWork = r.machine.WantsTicks() || len(r.asking.waiting) > 0 || r.isSequenced() && r.beside.waits()
	}
	if err := r.hearAnswers(); err != nil {
		return err
	}
	if err := r.evaluateInformed(); err != nil {
		return err
	}
	if err := r.finishBeside(); err != nil {
		return err
	}
	for sealed := r.machine.Sealed(); !sealed && !r.driver.outOfTime(); {
		q, ok := r.queue.take(r.machine.PendingBytes() < r.driver.opts.MaxRoundBytes)
		if !ok && !r.wake() {
			return nil
		}
		if !ok {
			continue
		}
		r.driver.evaluated = true
		if err := r.evaluateOne(q); err != nil {
			return err
		}
	}
	return nil
}

// beginEvaluating is called at the beginning of a round: it evaluates for half a heartbeat interval at most, or one request.
func (d *Driver) beginEvaluating(now time.Duration) {
	d.evaluated, d.evaluateUntil = false, now+d.opts.HeartbeatInterval/2
}

// outOfTime tells whether the round has evaluated for so long that heartbeats should have their turn. The next round follows at once.
func (d *Driver) outOfTime() bool {
	if !d.evaluated || d.evaluateUntil == 0 || d.clock() < d.evaluateUntil {
		return false
	}
	d.kick()
	return true
}

func (r *driven) evaluateOne(q request) error {
	if !q.wanted() {
		r.unwanted(q)
		return nil
	}
	if q.informed {
		return r.decide(q, r.machine.EvaluateInformed(q.req))
	}
	return r.decide(q, r.machine.Evaluate(q.req))
}

// decide does with a request what its evaluation says.
func (r *driven) decide(q request, out shard.Outcome) error {
	r.grant(&q, &out)
	if answered := out.Beside == nil && !out.Blocked && !out.Unnumbered && out.Awaits == 0 && out.Fatal == nil; answered && r.numbering.open {
		r.numbering.decided = append(r.numbering.decided, decision{q, out})
		return nil
	}
	q.resp, q.err = out.Response, out.Err
	switch {
	case out.Unnumbered:
		r.numbering.later = append(r.numbering.later, q)
	case out.Awaits != 0:
		r.asking.add(q, out, r.driver.clock())
		r.leaseWork = true // it may have to be given up
	case out.Beside != nil:
		r.beside.jobs = append(r.beside.jobs, &besideJob{replica: r, of: out.Beside, request: q})
	case out.Blocked:
		q.begun = q.begun || out.Begun
		r.beside.block(q, out)
		r.leaseWork = r.leaseWork || r.isSequenced() // it may have to be given up
	case out.Fatal != nil:
		q.resp, q.err = nil, kv.ErrUnhealthy
		r.finish(q, 0)
		return out.Fatal
	case out.Effects:
		r.round = append(r.round, q)
	case out.WaitFor > r.appliedSeq:
		r.depends.push(dependent{term: r.role.Term, seq: out.WaitFor, request: q})
	default:
		r.confirmed(q)
	}
	return nil
}

// finish has the request answered in this round.
func (r *driven) finish(q request, applied consensus.Index) {
	if q.begun && q.err != nil {
		q.err = kv.ErrOutcomeUnknown // a part of it may have taken effect
	}
	r.driver.finished = append(r.driver.finished, finished{request: q, applied: applied})
}

// confirmed answers a request without effects as soon as it is sure that this replica still leads: it was
// evaluated on a state that another leader may have left behind otherwise.
func (r *driven) confirmed(q request) {
	if r.leaseHolds() { // evaluated on top of everything in flight, so nobody has seen more
		r.finish(q, r.machine.AppliedIndex())
		return
	}
	r.askBarrier(func(index consensus.Index, err error) {
		if errors.Is(err, kv.ErrNotLeader) {
			err = kv.ErrLeaderChanged // it was evaluated
		}
		if err != nil {
			q.resp, q.err = nil, err
		}
		r.finish(q, index)
	})
}

// refusedProposal waits until the core has room again, or has failed to hand over. Nothing is evaluated meanwhile.
type refusedProposal struct {
	data []byte
	seq  uint64
}

// propose proposes the effects of the round as one entry.
func (r *driven) propose(data []byte, seq uint64) error {
	if seq == 0 {
		if len(r.round) > 0 {
			return errors.New("driver: the machine reported effects but has no proposal")
		}
		return nil
	}
	err := r.core.Propose([][]byte{data})
	if errors.Is(err, consensus.ErrOverloaded) || errors.Is(err, consensus.ErrTransferring) {
		// A transfer ends with this leadership, or it fails, and this replica goes on.
		r.refused = refusedProposal{data: data, seq: seq}
		return nil
	}
	if err != nil {
		// Every other reason was ruled out before the evaluation.
		return fmt.Errorf("group %d: proposal refused by a leader: %w", r.group, err)
	}
	r.refused = refusedProposal{}
	r.rounds.push(proposedRound{term: r.role.Term, seq: seq, requests: r.round})
	r.round = nil
	r.setInflight(r.inflight + 1)
	r.driver.metrics.proposals.Add(1)
	r.driver.markDirty(r)
	return nil
}

// refuseQueued fails what is queued and not evaluated, and, with another error, what is evaluated and not proposed: neither had or will have
// an effect.
func (r *driven) refuseQueued(err, evaluated error) {
	r.refused = refusedProposal{}
	r.refuseNumbering(err, evaluated)
	r.refuse(r.round, evaluated)
	r.round = nil
	for r.queue.len() > 0 {
		q := r.queue.pop()
		q.err = err
		r.finish(q, 0)
	}
}

// refuse fails requests that had and will have no effect, or of which a part may have one (begun).
func (r *driven) refuse(requests []request, err error) {
	for _, q := range requests {
		q.resp, q.err = nil, err
		r.finish(q, 0)
	}
}

// refuseDependents fails what was evaluated without effects on top of what is not applied.
func (r *driven) refuseDependents(err error) {
	for r.depends.len() > 0 {
		q := r.depends.pop().request
		q.resp, q.err = nil, err
		r.finish(q, 0)
	}
}

// decided answers the requests whose fate the entry (term, seq) shows. Entries of one term are
// applied in order, so a later entry, or one of a later term, shows that an earlier one was lost.
func (r *driven) decided(term consensus.Term, seq uint64, void bool) {
	for r.rounds.len() > 0 {
		front := r.rounds.front()
		if front.term > term || front.term == term && front.seq > seq {
			break
		}
		applied := front.term == term && front.seq == seq && !void
		proposed := r.rounds.pop()
		if proposed.term == r.role.Term && r.inflight > 0 {
			r.setInflight(r.inflight - 1)
			r.driver.freed = true
			if r.full.Swap(false) {
				r.driver.kick()
			}
		}
		for _, q := range proposed.requests {
			if q.bulk && r.leading && proposed.term == r.role.Term { // what waited for its latches can be evaluated
				r.beside.taking--
				r.beside.released = true
				r.driver.markWorking(r)
			}
			if applied && physical(q.req) {
				r.physical = append(r.physical, q)
				continue
			}
			if !applied {
				q.resp, q.err = nil, kv.ErrLeaderChanged
			}
			r.finish(q, r.machine.AppliedIndex())
		}
	}
	if r.leading && term == r.role.Term {
		r.appliedSeq = max(r.appliedSeq, seq)
		r.waits.proposals.reached(r.appliedSeq, nil)
	}
	for r.depends.len() > 0 {
		front := *r.depends.front()
		if front.term > term || front.term == term && front.seq > seq {
			break
		}
		// That the entry is applied does not show that nobody else leads by now: its acknowledgements may be old.
		if q := r.depends.pop().request; r.leading && front.term == term && !void {
			r.confirmed(q)
		} else {
			q.resp, q.err = nil, kv.ErrLeaderChanged
			r.finish(q, r.machine.AppliedIndex())
		}
	}
	if r.rounds.len() == 0 {
		r.fatesKnown(nil)
	}
}

// fateUnknown answers what is proposed and not decided: it may or may not take effect.
func (r *driven) fateUnknown() {
	for r.rounds.len() > 0 {
		for _, q := range r.rounds.pop().requests {
			q.resp, q.err = nil, kv.ErrOutcomeUnknown
			r.finish(q, 0)
		}
	}
	r.fatesKnown(nil) // no more will be known
}

// physical tells whether a request is to be answered only when its rows are deleted.
func physical(req *kv.Request) bool {
	return req != nil && req.Kind == kv.KindCompact && req.Compact.Physical
}

// finishPhysical answers those who wait for compactions to have deleted what they made superfluous, here. The
// compactions themselves took effect long ago.
func (r *driven) finishPhysical() {
	for _, q := range r.physical {
		r.finish(q, r.machine.AppliedIndex())
	}
	r.physical = nil
}

// failAll fails everything that waits.
func (r *driven) failAll(err error) {
	r.finishPhysical()
	r.refuseQueued(err, err)
	r.refuseBeside(err, err)
	r.fatesKnown(err)
	for _, done := range r.elected {
		done(err)
	}
	r.elected = nil
	r.fateUnknown()
	r.refuseDependents(err)
	r.barriers.fail(err)
	r.transferEnded(err)
	r.waits.fail(err)
}
