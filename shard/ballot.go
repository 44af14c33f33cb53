package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/txn/register"
)

// Three-phase commit: the register of a transaction is decided by a majority of the participants (rule 22).

// register is the record's, with the rules.
func (r *record) register() register.Register {
	own := register.Register{Standing: r.standing(), Promised: r.promised, Accepted: r.accepted, Decision: r.value}
	if own.Standing == kv.StandingResolved {
		own.Decision = r.decision
	}
	return own
}

// answer is what the participant says of where it stands.
func (r *record) answer() *kv.CommitResponse {
	answer, own := &kv.CommitResponse{}, r.register()
	own.Answer(answer)
	return answer
}

// promiseRequest takes no lower ballot from now on. A participant that does not know the transaction keeps the promise, too: it will never prepare it.
func (m *Machine) promiseRequest(c *kv.CommitRequest) (*kv.CommitResponse, error) {
	known := m.recordEvaluated(c.ID)
	next, before := record{id: c.ID, participants: c.Participants}, register.Register{}
	switch {
	case known != nil:
		next, before = *known, known.register()
	case m.over(c.ID):
		return m.unknown(c.ID, nil), nil
	default:
		if err := m.mayKnow(); err != nil {
			return nil, err
		}
	}
	after := before
	if !after.Promise(c.Ballot) || after == before {
		return next.answer(), nil
	}
	m.lead.contention.leavePatient(c.ID)
	next.promised = after.Promised
	m.lead.overlay.addOp(op{kind: opPromise, record: &next})
	return next.answer(), nil
}

// acceptRequest accepts a decision under a ballot, unless a higher one was promised. The coordinator's ballot is the zero one: it counts only if the share is
// prepared and nothing was promised.
func (m *Machine) acceptRequest(c *kv.CommitRequest) (*kv.CommitResponse, error) {
	known := m.recordEvaluated(c.ID)
	switch {
	case known == nil:
		return m.unknown(c.ID, nil), nil // a promise would come before
	case !known.prepared && known.decision.Verdict == kv.Undecided && c.Decision.Verdict == kv.Commit && c.Ballot.Compare(known.promised) >= 0:
		return nil, fmt.Errorf("a commit of transaction %v is to be accepted, and shard %d has not prepared it: %w", c.ID, m.options.Shard, kv.ErrInvalidRequest)
	case known.value.Verdict != kv.Undecided && known.accepted == c.Ballot:
		return known.answer(), nil // it comes again; a ballot has one decision
	}
	after := known.register()
	if !after.Accept(c.Ballot, c.Decision) {
		return known.answer(), nil
	}
	next := *known
	next.promised, next.accepted, next.value = after.Promised, after.Accepted, after.Decision
	m.lead.overlay.addOp(op{kind: opAccept, record: &next})
	return next.answer(), nil
}
