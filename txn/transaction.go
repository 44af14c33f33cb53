package txn

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// phase is how far a transaction is.
type phase uint8

const (
	preparing phase = iota
	numbering       // all participants are prepared, and it needs a revision
	deciding        // the anchor, or a majority, is asked to commit; nobody here may abort it any more
	resolving       // it is decided, or never will be committed; participants are told
)

// transaction is one attempt at a request. It is finished when all participants that may have a record of it know the decision.
type transaction struct {
	id           kv.TransactionID
	call         Call // 0: nobody waits for it
	participants []kv.ShardID
	anchor       int // its position
	parts        []part
	phase        phase
	// plan and answers are needed as long as the call waits.
	plan    *Plan
	answers []*kv.CommitResponse
	// patient: participants are asked one after the other, in the order of shards, and wait for locks. Otherwise all are asked at once, and are busy; but for the
	// anchor, if it is the lowest: that is asked before the others, and waits.
	patient bool
	// decision is what it is to be; while it is prepared, nothing.
	decision kv.Decision
	// doubt: the anchor was asked to commit, and may have done so without an answer.
	doubt bool
	left  int // parts that are to be told the decision
	// stuck: a participant has not answered what it was asked about the decision.
	stuck bool
}

// part is what is known of a participant.
type part struct {
	state    partState
	asking   bool // a question is unanswered
	accepted bool // it has accepted the decision (three-phase commit)
	tries    uint8
}

type partState uint8

const (
	unasked partState = iota
	asked             // to prepare
	isPrepared
	inDoubt // it may be prepared
	absent  // it is not, and has not been; or it knows the decision
)

// try makes an attempt at a request.
func (c *Coordinator) try(w *call) {
	plan, possible := Cut(c.options.Table, w.req, w.path)
	switch {
	case !possible && w.path == nil:
		c.probe(w)
		return
	case !possible:
		c.finish(w, nil, fmt.Errorf("%w: no path leads where it says", errNotProbe))
		return
	case len(c.live) >= 2*c.options.MaxTransactions:
		c.finish(w, nil, kv.ErrTooManyRequests)
		return
	}
	c.last++
	t := &transaction{
		id:   kv.TransactionID{Anchor: c.options.Anchor, Term: c.options.Term, Number: c.last},
		call: w.id, plan: plan, participants: plan.Participants,
		parts: make([]part, len(plan.Participants)), answers: make([]*kv.CommitResponse, len(plan.Participants)),
	}
	for i, id := range t.participants {
		if id == c.options.Anchor {
			t.anchor = i
		}
	}
	c.live[t.id.Number] = t
	w.attempt = t.id.Number
	// Whoever waits for a lock holds those of lower shards only. The anchor is led here, and says when it has its locks (Granted): so it costs nothing to ask it
	// first, and if there is but one other, that is asked in the order of shards, too.
	t.patient = w.patient || t.anchor == 0 && len(t.parts) <= 2
	c.prepare(t, 0)
	if t.anchor != 0 && !t.patient {
		c.prepareNext(t, 0)
	}
}

// prepareNext asks those to prepare that come after a participant which has its locks.
func (c *Coordinator) prepareNext(t *transaction, i int) {
	for next := i + 1; next < len(t.parts) && t.parts[next].state == unasked; next++ {
		if c.prepare(t, next); t.patient {
			return
		}
	}
}

// Granted says that the anchor has evaluated a prepare of Ready.Asks, and the transaction has its locks there, though not in the log. The answer follows. It
// need not be said. If the locks are lost before they are in the log, that answer has to be Busy: the transaction may hold locks of higher shards by then, and
// must not wait for lower ones again.
func (c *Coordinator) Granted(ask Ask) {
	id := ask.Request.Commit.ID
	if t := c.live[id.Number]; t != nil && t.id == id && t.phase == preparing && ask.Shard == c.options.Anchor {
		c.prepareNext(t, t.anchor)
	}
}

func (c *Coordinator) prepare(t *transaction, i int) {
	t.parts[i].state = asked
	c.ask(kv.KindTxnPrepare, kv.CommitRequest{
		ID: t.id, Shard: t.participants[i], Participants: t.participants, Share: t.plan.Shares[i], Patient: t.patient || i == 0 && t.anchor == 0,
		Finished: c.mention(),
	}, c.calls[t.call].deadline, c.calls[t.call].req.Memory)
}

// prepared takes the answer to a prepare.
func (c *Coordinator) prepared(t *transaction, i int, answer *kv.CommitResponse, err error) {
	p := &t.parts[i]
	if p.state != asked {
		return // it comes twice
	}
	p.state = inDoubt
	again := false // the request may be tried again
	switch {
	case err != nil:
		if surelyNotPrepared(err) {
			p.state = absent
		}
	case answer.Busy:
		p.state, again = absent, true
	case answer.Met != nil && t.phase == preparing && !t.plan.Compares():
		err = fmt.Errorf("txn: shard %d answers compares that its share does not have", t.participants[i])
	case answer.Met != nil:
		p.state = absent
	case answer.Standing == kv.StandingPrepared:
		if t.phase != preparing {
			break
		}
		if err = t.plan.Check(i, answer); err == nil {
			p.state, t.answers[i] = isPrepared, answer
			c.advance(t, i)
			return
		}
	case answer.Standing == kv.StandingOver && i == t.anchor: // it is led elsewhere, or in another term
		err = kv.ErrLeaderChanged
	default: // somebody has aborted it
		again = true
	}
	if t.phase == resolving { // it waited for the answer only to tell what was decided
		c.tell(t, i)
		return
	}
	compares := t.plan.Compares()
	w := c.abort(t)
	switch {
	case again:
		w.patient = true
		c.try(w)
	case err == nil: // a compare does not come out
		c.probe(w)
	case compares && refuses(err):
		w.refusal = err
		c.probe(w)
	default:
		c.finish(w, nil, harmless(err))
	}
}

// refuses tells whether a participant has evaluated its share and refused it: for what it is, not for where or when. Another path may be right.
func refuses(err error) bool {
	return errors.Is(err, kv.ErrKeyNotFound) || errors.Is(err, kv.ErrLeaseNotFound) || errors.Is(err, kv.ErrRequestTooLarge)
}

// surelyNotPrepared tells whether a participant has not prepared its share in spite of the question. Others may have been asked twice; and of one that says that
// something is too large it may be the answer, on its way.
func surelyNotPrepared(err error) bool {
	return errors.Is(err, kv.ErrKeyNotFound) || errors.Is(err, kv.ErrLeaseNotFound) || errors.Is(err, kv.ErrNoSpace) ||
		errors.Is(err, kv.ErrFenced)
}

// advance goes on after a participant has prepared.
func (c *Coordinator) advance(t *transaction, i int) {
	c.prepareNext(t, i)
	var writers []kv.ShardID
	for n := range t.parts {
		if t.parts[n].state != isPrepared {
			return
		}
		if t.answers[n].Writes {
			writers = append(writers, t.participants[n])
		}
	}
	if !t.plan.Met(t.answers) {
		c.probe(c.abort(t))
		return
	}
	t.phase = numbering
	c.ready.Numbers = append(c.ready.Numbers, Number{ID: t.id, Writers: writers, AuthVersion: c.authVersion(t)})
}

// authVersion is by which state of users and roles a transaction was allowed.
func (c *Coordinator) authVersion(t *transaction) uint64 {
	if w := c.calls[t.call]; w != nil && w.req.Kind != kv.KindLeaseEnd {
		return w.req.AuthVersion
	}
	return kv.Unjudged
}

// Numbered takes the revision for a transaction. An error ends the request without effect.
func (c *Coordinator) Numbered(id kv.TransactionID, revision kv.Revision, err error) {
	t := c.live[id.Number]
	if t == nil || t.id != id || t.phase != numbering {
		return
	}
	if err != nil {
		c.finish(c.abort(t), nil, harmless(err))
		return
	}
	t.phase, t.decision = deciding, kv.Decision{Verdict: kv.Commit, Revision: revision}
	if c.options.Protocol == TwoPhase {
		c.pass(t, t.anchor)
		return
	}
	for i := range t.parts {
		c.pass(t, i)
	}
}

// kindFor is how a participant is asked for, or told, the decision.
func (c *Coordinator) kindFor(t *transaction, i int) kv.Kind {
	switch {
	case c.options.Protocol == TwoPhase && i == t.anchor:
		return kv.KindTxnDecide
	case t.phase == deciding:
		return kv.KindTxnAccept
	}
	return kv.KindTxnResolve
}

// pass asks a participant for the decision, or tells it.
func (c *Coordinator) pass(t *transaction, i int) {
	t.parts[i].asking = true
	c.ask(c.kindFor(t, i), kv.CommitRequest{ID: t.id, Shard: t.participants[i], Finished: c.mention(), Decision: t.decision}, 0, nil)
}

// decided takes the anchor's answer to a commit.
func (c *Coordinator) decided(t *transaction, i int, answer *kv.CommitResponse, err error) {
	sure := err != nil && !t.doubt && (errors.Is(err, kv.ErrNotLeader) || errors.Is(err, kv.ErrLeaderChanged))
	switch {
	case sure:
		c.lose(t, kv.ErrLeaderChanged)
	case err != nil:
		t.doubt = true
		c.later(t, i)
	case answer.Standing == kv.StandingResolved && answer.Decision.Verdict == kv.Commit:
		c.commit(t)
	case answer.Standing == kv.StandingResolved: // it was too old for somebody who leads now
		c.lose(t, nil)
	default: // another leadership, which does not take it from this one
		c.lose(t, kv.ErrLeaderChanged)
	}
}

// accepted takes a participant's answer to a commit.
func (c *Coordinator) accepted(t *transaction, i int, answer *kv.CommitResponse, err error) {
	switch {
	case err != nil:
		c.later(t, i)
		return
	case answer.Standing == kv.StandingResolved && answer.Decision.Verdict == kv.Commit:
		c.commit(t)
		return
	case answer.Standing == kv.StandingResolved:
		c.lose(t, nil)
		return
	case answer.Accepted != (kv.Ballot{}) || answer.Decision != t.decision:
		c.later(t, i) // somebody recovers it, and will say what came of it
		return
	}
	t.parts[i].accepted = true
	n := 0
	for p := range t.parts {
		if t.parts[p].accepted {
			n++
		}
	}
	if n >= majority(len(t.parts)) {
		c.commit(t)
	}
}

// majority is how many of n participants decide.
func majority(n int) int { return n/2 + 1 }

// lose ends a transaction that was asked to commit and surely does not. Without an error the request is tried again.
func (c *Coordinator) lose(t *transaction, err error) {
	w := c.abort(t)
	switch {
	case w == nil:
	case err != nil:
		c.finish(w, nil, err)
	default:
		c.try(w)
	}
}

// commit answers the request of a transaction that is decided, and tells the participants.
func (c *Coordinator) commit(t *transaction) {
	if w := c.calls[t.call]; w != nil {
		writes := false
		for _, a := range t.answers {
			writes = writes || a.Writes
		}
		c.finish(w, t.plan.Join(t.answers, w.past, t.decision.Revision, writes), nil)
	}
	c.resolve(t)
	for i := range t.parts {
		if i == t.anchor && c.options.Protocol == TwoPhase {
			c.settle(t, i) // deciding has resolved it
		} else {
			c.tell(t, i)
		}
	}
}

// abort ends a transaction that never commits: nobody but this coordinator could have it committed, and it will not ask any more. All are told that may be
// prepared. It returns the request, nil if nobody waits.
func (c *Coordinator) abort(t *transaction) *call {
	w := c.calls[t.call]
	if w != nil {
		w.attempt = 0
	}
	t.decision = kv.Decision{Verdict: kv.Abort}
	c.resolve(t)
	for i := range t.parts {
		switch p := &t.parts[i]; p.state {
		case unasked, absent:
			c.settle(t, i)
		case isPrepared, inDoubt:
			c.tell(t, i)
		case asked: // its answer comes first
		}
	}
	return w
}

// resolve begins to tell the participants.
func (c *Coordinator) resolve(t *transaction) {
	t.phase, t.call, t.plan, t.answers, t.left = resolving, 0, nil, nil, len(t.parts)
	for i := range t.parts {
		t.parts[i].asking, t.parts[i].tries = false, 0
	}
}

// tell tells a participant what was decided.
func (c *Coordinator) tell(t *transaction, i int) {
	if t.parts[i].state == absent {
		c.settle(t, i)
		return
	}
	c.pass(t, i)
}

// abortTries is how often a participant is told that a transaction has no effect. It asks by itself if it did not hear of it: what the anchor knows
// nothing of is not committed. If many are not finished, there is no second time.
const abortTries = 8

// resolved takes the answer of a participant that was told.
func (c *Coordinator) resolved(t *transaction, i int, answer *kv.CommitResponse, err error) {
	p := &t.parts[i]
	if p.state == absent || p.state == asked {
		return
	}
	if err == nil && answer.Standing != kv.StandingPrepared && answer.Standing != kv.StandingPromised ||
		t.decision.Verdict == kv.Abort && (p.tries+1 >= abortTries || len(c.live) > c.options.MaxTransactions) {
		c.owe(t.participants[i], t.id.Number)
		c.settle(t, i)
		return
	}
	c.later(t, i)
}

// settle takes note that a participant needs nothing more.
func (c *Coordinator) settle(t *transaction, i int) {
	t.parts[i].state = absent
	c.timers.stop(timer{number: t.id.Number, part: i})
	if t.left--; t.left > 0 {
		return
	}
	c.owe(t.participants[t.anchor], t.id.Number)
	delete(c.live, t.id.Number)
	c.freed(t)
	c.movePassed()
}

// later asks a participant again after a while.
func (c *Coordinator) later(t *transaction, i int) {
	p := &t.parts[i]
	c.timers.set(timer{number: t.id.Number, part: i}, c.now+backOff(c.options.RetryAfter, p.tries))
	p.tries = min(p.tries+1, abortTries)
	c.hold(t)
}

// backOff is how long to wait after so many tries.
func backOff(first time.Duration, tries uint8) time.Duration { return first << min(tries, 4) }

// askAgain asks a participant what it was asked before.
func (c *Coordinator) askAgain(t *transaction, i int) {
	if p := &t.parts[i]; !p.asking && p.state != absent {
		c.pass(t, i)
	}
}

func (t *transaction) check() error {
	left := 0
	for i := range t.parts {
		if t.parts[i].state != absent {
			left++
		}
	}
	switch {
	case t.phase == resolving && (left != t.left || left == 0):
		return fmt.Errorf("txn: transaction %d counts %d participants to be told, and has %d", t.id.Number, t.left, left)
	case t.phase == resolving && t.decision.Verdict == kv.Undecided:
		return fmt.Errorf("txn: transaction %d is told without being decided", t.id.Number)
	case t.phase == deciding && t.decision.Verdict != kv.Commit:
		return fmt.Errorf("txn: transaction %d is asked to commit, and has no revision", t.id.Number)
	}
	return nil
}
