package world

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/txn/register"
)

// execute has the current leader of a shard do what it is asked for, which is in its log at once.
func (c *Cluster) execute(w *world, ask uint16) uint16 {
	k := c.asks.keys[ask]
	s := int(k.shard - 1)
	c.revoke(w, ask)
	c.hear(w, s, k.finished)
	if k.id.Number == 0 {
		return c.replies.number(reply{}, struct{}{})
	}
	at, _ := c.place(k.id)
	r := c.registerOf(w, s, at)
	if k.kind == kv.KindTxnState {
		return c.replies.number(c.state(w, k.id, r), struct{}{})
	}
	if r.Standing == kv.StandingUnknown && c.over(w, s, k.id) && c.mutation != ForgetEntirely {
		return c.replies.number(reply{standing: kv.StandingOver}, struct{}{})
	}
	answer := reply{}
	switch k.kind {
	case kv.KindTxnPrepare:
		answer = c.prepare(w, s, at, k, &r)
	case kv.KindTxnDecide:
		own := k.id.Term == uint64(w.term[0])+1 || c.mutation == DecideElsewhere
		if r.Decide(k.decision, own) {
			c.apply(w, s, at, k.decision)
		}
	case kv.KindTxnAccept:
		c.accept(k, &r)
	case kv.KindTxnPromise:
		c.promise(w, s, at, k, &r)
	case kv.KindTxnResolve:
		if c.mutation == ResolveAnything {
			at, r = c.anyPrepared(w, s, at, r)
		}
		if prepared := r.Standing == kv.StandingPrepared; r.Resolve(k.decision) {
			c.apply(w, s, at, k.decision)
			if !prepared && k.decision.Verdict == kv.Commit {
				c.violate(w, Atomic, "shard %d is told to commit %d.%d, and has not prepared it", k.shard, k.id.Term, k.id.Number)
			}
		} else if c.mutation == ApplyTwice {
			c.apply(w, s, at, k.decision)
		}
	}
	c.setRegister(w, s, at, r)
	if r.Standing == kv.StandingResolved && c.over(w, s, c.id(at)) {
		w.records[s][at].register = 0
	}
	if answer.busy || answer.standing == kv.StandingOver {
		return c.replies.number(answer, struct{}{})
	}
	answer.standing, answer.promised, answer.accepted, answer.decision = r.Standing, r.Promised, r.Accepted, r.Decision
	if c.mutation == BallotZeroRecovery && k.ballot.Round > 0 && r.Standing != kv.StandingResolved {
		answer.promised = k.ballot
		if k.kind == kv.KindTxnAccept {
			answer.accepted = k.ballot
		}
	}
	return c.replies.number(answer, struct{}{})
}

func (c *Cluster) prepare(w *world, s, at int, k askKey, r *register.Register) (answer reply) {
	if s == 0 && k.id.Term != uint64(w.term[0])+1 && c.mutation != PrepareElsewhere && c.mutation != DecideElsewhere {
		return reply{standing: kv.StandingOver}
	}
	answer.writes = k.client >= 0 && c.Clients[k.client].Writes>>s&1 == 1
	switch {
	case r.MayPrepare() || c.mutation == PrepareAfterPromise && r.Standing == kv.StandingPromised:
		if holder := c.lockedBy(w, s); holder >= 0 && holder != at {
			return reply{busy: true}
		}
		*r = register.Register{} // as it is, but for the mutation
		r.Prepare()
	case r.Standing == kv.StandingPrepared: // it comes twice
	}
	return answer
}

// lockedBy is the transaction that has the shard's lock; -1: none.
func (c *Cluster) lockedBy(w *world, s int) int {
	for i := range maxTxns {
		if c.registerOf(w, s, i).Standing == kv.StandingPrepared {
			return i
		}
	}
	if s == 0 {
		return int(w.granted) - 1
	}
	return -1
}

// revoke takes the locks back that a transaction has at the anchor without being in the log: it is now, or never will be in this leadership.
func (c *Cluster) revoke(w *world, ask uint16) {
	if k := c.asks.keys[ask]; k.kind == kv.KindTxnPrepare && k.shard == 1 {
		if at, ok := c.place(k.id); ok && w.granted == uint8(at)+1 {
			w.granted = 0
		}
	}
}

func (c *Cluster) accept(k askKey, r *register.Register) {
	switch {
	case c.mutation == BallotZeroRecovery:
		if r.Standing == kv.StandingPrepared || r.Standing == kv.StandingPromised {
			r.Decision = k.decision
		}
	case c.mutation == AcceptUnprepared && k.ballot.Round == 0 && r.Standing != kv.StandingResolved && r.Standing != kv.StandingUnknown:
		r.Accepted, r.Decision = k.ballot, k.decision
	case c.mutation == AcceptLower && r.Standing == kv.StandingPrepared:
		r.Accepted, r.Decision = k.ballot, k.decision
	default:
		r.Accept(k.ballot, k.decision)
	}
}

func (c *Cluster) promise(w *world, s, at int, k askKey, r *register.Register) {
	if c.mutation == BallotZeroRecovery {
		if r.Standing == kv.StandingUnknown {
			r.Standing = kv.StandingPromised
		}
		return
	}
	if r.Promise(k.ballot) && c.mutation == PromiseForgets {
		r.Accepted, r.Decision = kv.Ballot{}, kv.Decision{}
	}
}

// state is the anchor's answer to who asks what became of a transaction.
func (c *Cluster) state(w *world, id kv.TransactionID, r register.Register) reply {
	at, _ := c.place(id)
	switch term := uint64(w.term[0]) + 1; {
	case id.Term > term:
		return reply{code: kv.ErrNotLeader.Code}
	case c.live(w)>>at&1 == 1 && c.mutation != MissingIsAbort:
		return reply{}
	case r.Standing == kv.StandingResolved || r.Standing != kv.StandingUnknown && c.mutation != MissingIsAbort:
		// what is accepted comes with it, and is not decided
		if c.mutation == AcceptedIsDecided && r.Decision.Verdict != kv.Undecided {
			return reply{standing: kv.StandingResolved, decision: r.Decision}
		}
		return reply{standing: r.Standing, promised: r.Promised, accepted: r.Accepted, decision: r.Decision}
	case c.mutation == NobodyKnows:
		return reply{}
	}
	return reply{decision: kv.Decision{Verdict: kv.Abort}}
}

func (c *Cluster) anyPrepared(w *world, s, at int, r register.Register) (int, register.Register) {
	if other := c.lockedBy(w, s); other >= 0 {
		return other, c.registerOf(w, s, other)
	}
	return at, r
}

// apply lets a decision take effect in a shard.
func (c *Cluster) apply(w *world, s, at int, d kv.Decision) {
	c.know(w, at, d, s)
	if d.Verdict == kv.Commit {
		r := &w.records[s][at]
		r.applied, r.rev = r.applied+1, uint8(d.Revision)
	}
}

// know takes note of what somebody acts on as the decision.
func (c *Cluster) know(w *world, at int, d kv.Decision, s int) {
	id, f := c.id(at), fate{d.Verdict, uint8(d.Revision)}
	if w.fates[at].verdict != kv.Undecided && w.fates[at] != f {
		c.violate(w, OneDecision, "shard %d takes %d.%d as decided%s, and it was decided%s before", s+1, id.Term, id.Number, decisionText(d),
			decisionText(kv.Decision{Verdict: w.fates[at].verdict, Revision: kv.Revision(w.fates[at].rev)}))
		return
	}
	w.fates[at] = f
}

// hear drops what is finished.
func (c *Cluster) hear(w *world, s int, said finished) {
	next, news := c.finished(w.finished[s]).Moved(c.finished(said))
	if !news {
		return
	}
	w.finished[s] = c.finishedOf(next)
	for i := range maxTxns {
		standing := c.registerOf(w, s, i).Standing
		if next.Covers(c.id(i)) && standing == kv.StandingResolved {
			w.records[s][i].register = 0 // that it was applied is in the store
		}
	}
}

// failOver gives a shard another leader: what is not logged is gone.
func (c *Cluster) failOver(w *world, s int) {
	w.term[s]++
	if s == 0 {
		w.granted = 0
	}
	for i := range maxTxns {
		r := c.registerOf(w, s, i)
		switch {
		case c.mutation == PromiseNotDurable && r.Standing == kv.StandingPromised:
			r = register.Register{}
		case c.mutation == PromiseNotDurable && r.Standing == kv.StandingPrepared:
			r.Promised = r.Accepted
		case c.mutation == PrepareNotDurable && r.Standing == kv.StandingPrepared:
			r = register.Register{}
		case c.mutation == AcceptNotDurable && r.Standing == kv.StandingPrepared:
			r.Accepted, r.Decision = kv.Ballot{}, kv.Decision{}
		}
		c.setRegister(w, s, i, r)
	}
	c.lead(w, s)
}

// lose takes a shard away for ever, with its leader.
func (c *Cluster) lose(w *world, s int) {
	w.lost[s] = true
	if s == 0 {
		w.granted = 0
	}
	from := []uint8{recoveryCore(s, 0), recoveryCore(s, 1)}
	for term := range w.recoveries[s] {
		w.recoveries[s][term].exists = false
	}
	if s == 0 {
		from = append(from, 1, 2)
		for term := range w.coordinators {
			w.coordinators[term].exists = false
		}
		w.numbers = [maxTxns]uint8{}
		for i := range w.clients {
			if w.clients[i].status == waits {
				w.clients[i].status = unsure
			}
		}
	}
	for i := range w.messages {
		for _, f := range from {
			if w.messages[i].from == f {
				w.messages[i] = message{}
			}
		}
	}
	w.tidy()
}
