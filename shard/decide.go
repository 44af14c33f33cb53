package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// decideRequest has the anchor decide, with two-phase commit. A commit counts only if it comes from the leadership that the transaction began in: a later one
// may have told others that there was none.
func (m *Machine) decideRequest(c *kv.CommitRequest) (*kv.CommitResponse, error) {
	if c.ID.Anchor != m.options.Shard {
		return nil, fmt.Errorf("shard %d is asked to decide a transaction of shard %d: %w", m.options.Shard, c.ID.Anchor, kv.ErrInvalidRequest)
	}
	known := m.recordEvaluated(c.ID)
	if commits := c.Decision.Verdict == kv.Commit; commits && (known == nil || known.decision.Verdict == kv.Undecided) {
		switch {
		case c.ID.Term > uint64(m.lead.term):
			return nil, kv.ErrNotLeader
		case c.ID.Term < uint64(m.lead.term):
			return nil, kv.ErrLeaderChanged // nobody can have it commit any more
		case known == nil || !known.prepared:
			return m.unknown(c.ID, known), nil
		}
	}
	return m.resolveRequest(c)
}

// unknown is where the participant stands with a transaction that it has not prepared.
func (m *Machine) unknown(id kv.TransactionID, known *record) *kv.CommitResponse {
	switch {
	case known != nil:
		return known.answer()
	case m.over(id):
		return &kv.CommitResponse{Standing: kv.StandingOver}
	}
	return &kv.CommitResponse{}
}

// resolveRequest acts on a decision (rule 21). What is resolved stays so, whatever else is said later. An abort of something that is not known is remembered:
// the prepare may be on its way.
func (m *Machine) resolveRequest(c *kv.CommitRequest) (*kv.CommitResponse, error) {
	if c.ID.Number == 0 { // it only says what is finished
		m.noteFinished(c.Finished)
		return &kv.CommitResponse{}, nil
	}
	known := m.recordEvaluated(c.ID)
	commits := c.Decision.Verdict == kv.Commit
	switch {
	case known != nil && known.decision.Verdict != kv.Undecided:
		m.noteFinished(c.Finished)
		return known.answer(), nil
	case known == nil && m.over(c.ID):
		return &kv.CommitResponse{Standing: kv.StandingOver}, nil
	case commits && (known == nil || !known.prepared || known.stamp == 0): // without a stamp it is in flight, and nobody was told
		return nil, fmt.Errorf("transaction %v is to commit, and shard %d has not prepared it: %w", c.ID, m.options.Shard, kv.ErrInvalidRequest)
	case commits && len(known.effects) > 0 && c.Decision.Revision <= known.stamp:
		return nil, fmt.Errorf("transaction %v is to commit at revision %d, and was prepared at %d: %w", c.ID, c.Decision.Revision, known.stamp, kv.ErrInvalidRequest)
	case known == nil:
		if err := m.mayKnow(); err != nil {
			return nil, err
		}
	}
	return m.resolve(c, known)
}

// resolve lets a transaction end in the overlaid state: its effects are in it, and its locks fall (rule 31).
func (m *Machine) resolve(c *kv.CommitRequest, known *record) (*kv.CommitResponse, error) {
	l := m.lead
	next := &record{id: c.ID, decision: c.Decision}
	if known != nil {
		next.participants = known.participants
		if c.Decision.Verdict == kv.Commit && len(known.effects) > 0 {
			if err := l.raise(c.Decision.Revision); err != nil {
				return nil, err
			}
			m.transactions.lastResolved = max(m.transactions.lastResolved, c.Decision.Revision)
			for i := range known.effects {
				e := numbered(&known.effects[i], c.Decision.Revision)
				l.overlay.addResolved(&e)
			}
		}
		if c.Decision.Verdict == kv.Commit && known.release != nil {
			m.dropReleased(known.release)
		}
		if known.holds() {
			l.contention.release(known)
			m.freed++
		}
	}
	l.contention.leavePatient(c.ID)
	l.overlay.addOp(op{kind: opResolve, record: next})
	m.noteFinished(c.Finished)
	m.followCompaction() // it may have waited for this one
	return next.answer(), nil
}

// raise makes the batch begin above a revision that was issued, to a transaction, before anything in the batch is numbered. What is provisional moves.
func (l *leadership) raise(rev kv.Revision) error {
	b := l.batch
	if rev <= b.base {
		return nil
	}
	if b.exact { // the sequencer here has not issued it: it is not the one any more
		return errUnnumbered
	}
	by := shift{above: b.base, by: rev - b.base}
	if !b.mayMove(by.by) {
		return errUnnumbered
	}
	by.overlay(l.overlay)
	for _, r := range b.responses {
		by.response(r)
	}
	l.revision += by.by
	b.base, b.room = rev, b.room-by.by
	return nil
}

// stateRequest says, at the anchor, what became of a transaction. Without a record an older leadership cannot have decided it, and will not: its prepare cannot
// come into the log any more, and Decide asks for the term. Whether the coordinator of this leadership is at it, the caller has found out before.
func (m *Machine) stateRequest(c *kv.CommitRequest) (*kv.CommitResponse, error) {
	if c.ID.Anchor != m.options.Shard {
		return nil, fmt.Errorf("shard %d is asked about a transaction of shard %d: %w", m.options.Shard, c.ID.Anchor, kv.ErrInvalidRequest)
	}
	if c.ID.Term > uint64(m.lead.term) {
		return nil, kv.ErrNotLeader
	}
	known := m.recordEvaluated(c.ID)
	answer := m.unknown(c.ID, known)
	if known == nil {
		answer.Decision = kv.Decision{Verdict: kv.Abort}
	}
	return answer, nil
}
