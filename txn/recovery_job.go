package txn

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// job is a transaction that is looked after.
type job struct {
	id           kv.TransactionID
	participants []kv.ShardID
	own          bool
	ended        bool
	step         recoveryStep
	queued       []bool // participants with a place in the line of their respondent
	// alone: the others are told by somebody else, or ask by themselves.
	alone bool
	// ballot is the one that is tried, found the highest under which a decision was accepted, as far as promises told.
	ballot, found kv.Ballot
	// decision is the one found, or to be accepted, or told.
	decision kv.Decision
	outbid   bool // somebody has a higher ballot
	again    time.Duration
	tries    uint8
	parts    []recoveryPart
}

type recoveryStep uint8

const (
	asking       recoveryStep = iota // the anchor, what became of it
	promising                        // a ballot to the participants
	accepting                        // of a decision under it
	telling                          // what was decided
	decidingHere                     // two-phase commit, at the anchor: to abort
)

// recoveryPart is what a job knows of a participant.
type recoveryPart struct {
	waiting bool // for an answer
	done    bool // with the step
	again   time.Duration
	tries   uint8
}

var kindOfStep = [...]kv.Kind{
	asking: kv.KindTxnState, promising: kv.KindTxnPromise, accepting: kv.KindTxnAccept, telling: kv.KindTxnResolve, decidingHere: kv.KindTxnDecide,
}

// asks tells whether a participant is asked in the step of the job.
func (j *job) asks(id, here kv.ShardID) bool {
	switch j.step {
	case asking:
		return id == j.id.Anchor
	case decidingHere:
		return id == here
	case telling:
		return id == here || !j.alone
	}
	return true
}

// begin takes a step.
func (r *Recovery) begin(j *job, step recoveryStep) {
	j.step, j.outbid, j.parts = step, false, make([]recoveryPart, len(j.participants))
	r.send(j)
	if step == telling && len(j.participants) == 0 { // its record remembers only that a prepare must not come any more
		r.finish(j)
	}
}

// bid takes a ballot.
func (r *Recovery) bid(j *job) {
	r.round++
	j.ballot = kv.Ballot{Round: r.round, Shard: r.options.Shard, Term: r.options.Term}
	j.found, j.decision = kv.Ballot{}, kv.Decision{}
	r.begin(j, promising)
}

// unanswered has a participant asked again later. What is told is told a few times only to those who can ask.
func (r *Recovery) unanswered(j *job, i int) {
	p := &j.parts[i]
	p.again = r.now + backOff(r.options.RetryAfter, p.tries)
	p.tries = min(p.tries+1, abortTries)
	if j.step == telling && j.participants[i] != r.options.Shard && p.tries >= abortTries && !j.own {
		p.done = true
		r.finish(j)
	}
}

// heard takes the anchor's answer.
func (r *Recovery) heard(j *job, i int, answer *kv.CommitResponse) {
	j.parts[i].tries = 0
	open := answer.Standing == kv.StandingPrepared || answer.Standing == kv.StandingPromised // what it may have accepted is not decided
	if open || answer.Decision.Verdict == kv.Undecided {                                     // somebody has it in hand
		j.parts[i].again = r.now + backOff(r.options.RetryAfter, undecidedTries)
		return
	}
	r.tellHere(j, answer.Decision)
}

// undecidedTries says how long to wait for somebody else to decide.
const undecidedTries = 2

// hangs tells whether a job waits for somebody who does not answer.
func (r *Recovery) hangs(j *job) bool {
	if j == nil {
		return false
	}
	for i, id := range j.participants {
		if p := &j.parts[i]; !p.done && j.asks(id, r.options.Shard) && (p.tries > 0 || r.respondent(id).silent) {
			return true
		}
	}
	return false
}

// tellHere tells this shard what others have decided.
func (r *Recovery) tellHere(j *job, decision kv.Decision) {
	j.decision, j.alone = decision, !j.own
	r.begin(j, telling)
}

// promised takes the answer to a ballot.
func (r *Recovery) promised(j *job, i int, answer *kv.CommitResponse) {
	switch {
	case answer.Standing == kv.StandingResolved:
		r.tellHere(j, answer.Decision)
		return
	case answer.Standing == kv.StandingOver: // all others have forgotten it, and here it is undecided
		r.tellHere(j, kv.Decision{Verdict: kv.Abort})
		return
	case answer.Promised != j.ballot:
		r.outbid(j, i)
		return
	}
	j.parts[i].done = true
	if answer.Decision.Verdict != kv.Undecided && (j.decision.Verdict == kv.Undecided || answer.Accepted.Compare(j.found) > 0) {
		j.found, j.decision = answer.Accepted, answer.Decision
	}
	if !j.most() {
		return
	}
	if j.decision.Verdict == kv.Undecided {
		j.decision = kv.Decision{Verdict: kv.Abort}
	}
	r.begin(j, accepting)
}

// accepted takes the answer to a decision under a ballot.
func (r *Recovery) accepted(j *job, i int, answer *kv.CommitResponse) {
	switch {
	case answer.Standing == kv.StandingResolved:
		r.tellHere(j, answer.Decision)
		return
	case answer.Accepted != j.ballot || answer.Decision != j.decision:
		r.outbid(j, i)
		return
	}
	j.parts[i].done = true
	if j.most() {
		r.begin(j, telling)
	}
}

// most tells whether a majority of the participants is done with the step.
func (j *job) most() bool {
	n := 0
	for i := range j.parts {
		if j.parts[i].done {
			n++
		}
	}
	return n >= majority(len(j.parts))
}

// outbid has a higher ballot taken later: the later the higher the place of the shard among the participants, so that one of several comes through.
func (r *Recovery) outbid(j *job, i int) {
	place, _ := slices.BinarySearch(j.participants, r.options.Shard)
	j.parts[i].again = r.now + backOff(r.options.RetryAfter, j.tries)
	if !j.outbid {
		j.outbid, j.again = true, r.now+time.Duration(place+1)*backOff(r.options.RetryAfter, j.tries)
		j.tries = min(j.tries+1, abortTries)
	}
}

// resolved takes the answer of a participant that was told.
func (r *Recovery) resolved(j *job, i int, answer *kv.CommitResponse) {
	if answer.Standing == kv.StandingPrepared || answer.Standing == kv.StandingPromised {
		r.unanswered(j, i)
		return
	}
	if j.step == decidingHere {
		j.decision = kv.Decision{Verdict: kv.Abort}
		if answer.Standing == kv.StandingResolved {
			j.decision = answer.Decision
		}
		r.begin(j, telling)
		return
	}
	j.parts[i].done = true
	r.finish(j)
}

// finish ends a job if all are told.
func (r *Recovery) finish(j *job) {
	for i, id := range j.participants {
		if !j.parts[i].done && j.asks(id, r.options.Shard) {
			return
		}
	}
	r.end(j)
	if !j.own {
		return
	}
	r.done[j.id] = struct{}{}
	r.tell(r.options.Shard) // it has the record, whoever else has one
	for _, id := range j.participants {
		r.tell(id)
	}
}
