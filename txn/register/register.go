// Package register is the register of a transaction over several shards, as one participant has it: which decision it may accept, and which it knows. The
// rules are those of a single-decree Paxos acceptor, whose first ballot, the zero one, belongs to the transaction's coordinator.
//
// A participant has one Register for each transaction, in its log: whatever a method changes is logged before anybody is told. package txn has the other
// end.
package register

import "github.com/quoratedb/quorate/kv"

// Register is what one participant has of a transaction. The zero value is one that knows nothing of it.
type Register struct {
	Standing kv.Standing
	// Promised is the highest ballot that was promised or accepted: nothing lower is accepted any more. Zero: none but the coordinator's.
	Promised kv.Ballot
	// Decision is what was accepted last, under Accepted; if Standing is kv.StandingResolved, what was decided.
	Accepted kv.Ballot
	Decision kv.Decision
}

// MayPrepare tells whether the transaction may still be prepared here: nobody has asked for a promise, and nothing is known of it.
func (r *Register) MayPrepare() bool { return r.Standing == kv.StandingUnknown }

// Prepare takes note that the transaction is prepared. It must be one that MayPrepare.
func (r *Register) Prepare() { r.Standing = kv.StandingPrepared }

// Promise takes a ballot above all promised so far, or the same again. Whoever was not prepared never will be. false: nothing has changed, because the
// ballot is too low, or because the decision is known.
func (r *Register) Promise(ballot kv.Ballot) bool {
	if r.Standing == kv.StandingResolved || ballot.Round == 0 || ballot.Compare(r.Promised) < 0 {
		return false
	}
	if r.Standing == kv.StandingUnknown {
		r.Standing = kv.StandingPromised
	}
	r.Promised = ballot
	return true
}

// Accept takes a decision under a ballot that is not below what was promised. Under the coordinator's that is so only if the participant is prepared, and
// nobody was promised anything. false: nothing has changed.
func (r *Register) Accept(ballot kv.Ballot, decision kv.Decision) bool {
	switch {
	case decision.Verdict == kv.Undecided || r.Standing == kv.StandingResolved || r.Standing == kv.StandingUnknown:
		return false
	case r.Standing == kv.StandingPromised && decision.Verdict == kv.Commit:
		return false // all are prepared before a commit is proposed
	case ballot.Compare(r.Promised) < 0 || ballot.Round == 0 && r.Standing != kv.StandingPrepared:
		return false
	}
	r.Promised, r.Accepted, r.Decision = ballot, ballot, decision
	return true
}

// Resolve takes what was decided. A transaction that is unknown is remembered as resolved, so that a prepare that comes late finds it. false: nothing has
// changed, because a decision is known.
func (r *Register) Resolve(decision kv.Decision) bool {
	if r.Standing == kv.StandingResolved || decision.Verdict == kv.Undecided {
		return false
	}
	r.Standing, r.Decision = kv.StandingResolved, decision
	return true
}

// Decide is Resolve at the anchor, in two-phase commit: there it makes the decision. A commit is taken only if the transaction is prepared, from the leadership
// that it began in, which still leads: own.
func (r *Register) Decide(decision kv.Decision, own bool) bool {
	if decision.Verdict == kv.Commit && (r.Standing != kv.StandingPrepared || !own) {
		return false
	}
	return r.Resolve(decision)
}

// Answer puts the register into an answer.
func (r *Register) Answer(answer *kv.CommitResponse) {
	answer.Standing, answer.Promised, answer.Accepted, answer.Decision = r.Standing, r.Promised, r.Accepted, r.Decision
}
