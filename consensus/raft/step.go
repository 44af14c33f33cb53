package raft

import (
	"errors"
	"fmt"

	etcdraft "go.etcd.io/raft/v3"

	"github.com/quoratedb/quorate/consensus"
)

// Step implements consensus.Core. The library trusts its peers and panics on several messages that
// no correct one sends, so everything it relies on is checked here first.
func (c *core) Step(m consensus.Message) error {
	if c.failed() {
		return c.storage.failed
	}
	if err := c.validate(&m); err != nil {
		return err
	}
	if !c.heed(&m) {
		return nil
	}
	if m.Term == c.handed.term && m.Kind == KindAppendResponse {
		c.hearLate(&m)
		return nil
	}
	if m.Kind == KindAppend && len(m.Entries) > 0 {
		c.floor = min(c.floor, m.Index+consensus.Index(len(m.Entries)))
	}
	routine := c.routine(&m)
	err := c.node.Step(c.toMessage(&m))
	c.spoil()
	if routine {
		c.moved()
	} else {
		c.touched()
	}
	switch {
	case errors.Is(err, etcdraft.ErrStepPeerNotFound):
		return invalid(&m, "replica %d is not a member", m.From)
	case err != nil:
		return fmt.Errorf("raft: %w", err)
	case c.failed():
		return c.storage.failed
	}
	switch m.Kind {
	case KindAppendResponse, KindHeartbeatResponse:
		c.noteCommit(&m)
	case KindVoteResponse, KindPreVoteResponse:
		c.learnCommit(&m)
	case KindSnapshot:
		c.collectAhead() // whether the library took it must be known before the next acknowledgement
	}
	return nil
}

// noteCommit remembers how far the sender knows the commit index.
func (c *core) noteCommit(m *consensus.Message) {
	if c.lead.term == m.Term && m.Commit > c.lead.commits[m.From] {
		c.lead.commits[m.From] = m.Commit
	}
}

func invalid(m *consensus.Message, format string, args ...any) error {
	return fmt.Errorf("%w: kind %d from replica %d to %d in term %d: "+format,
		append([]any{ErrInvalidMessage, m.Kind, m.From, m.To, m.Term}, args...)...)
}

// validate tells what is wrong with a message.
func (c *core) validate(m *consensus.Message) error {
	switch {
	case m.Kind == 0 || m.Kind > KindHandOverVote:
		return invalid(m, "unknown kind; is the sender newer than this node?")
	case m.To != c.self:
		return invalid(m, "this is replica %d", c.self)
	case m.From == c.self || m.From == 0 || m.From > consensus.MaxReplicaID:
		return invalid(m, "this cannot be the sender")
	case m.Term == 0 || m.Term >= maxNumber:
		return invalid(m, "this cannot be a term")
	case m.LogTerm > m.Term:
		return invalid(m, "it is about an entry of the later term %d", m.LogTerm)
	case max(m.Index, m.Commit, m.Hint) >= maxNumber || m.LogTerm >= maxNumber:
		return invalid(m, "its numbers are out of range")
	case m.Class != classOf(m.Kind, m.Context):
		return invalid(m, "it claims to be of class %d", m.Class)
	case len(m.Entries) > 0 && m.Kind != KindAppend:
		return invalid(m, "it carries entries")
	case (m.Snapshot != nil) != (m.Kind == KindSnapshot):
		return invalid(m, "only a snapshot message carries a snapshot")
	}
	if err := (consensus.Known{Term: c.hard.Term, Last: c.last}).Judge(m); err != nil {
		return fmt.Errorf("%w: kind %d from replica %d: %w", ErrInvalidMessage, m.Kind, m.From, err)
	}
	switch m.Kind {
	case KindAppend, KindSnapshot, KindHeartbeat, KindTimeoutNow, KindHandOver:
		if err := c.validateLeader(m); err != nil {
			return err
		}
	}
	switch m.Kind {
	case KindAppend:
		return validateEntries(m)
	case KindSnapshot:
		return c.validateSnapshot(m)
	case KindHeartbeat:
		return c.validateHeartbeat(m)
	case KindAppendResponse, KindHeartbeatResponse:
		return c.validateResponse(m)
	}
	return nil
}

// validateLeader checks that what only leaders send comes from the leader, as far as that is known: a term has one. A hand-over is for who follows
// the leader now, so there it must be known.
func (c *core) validateLeader(m *consensus.Message) error {
	if known := &c.reported; known.Term == m.Term && known.Leader != 0 && known.Leader != m.From {
		return invalid(m, "replica %d leads", known.Leader)
	}
	if (m.Kind == KindTimeoutNow || m.Kind == KindHandOver) && m.Term >= c.term() && (m.Term > c.term() || consensus.ReplicaID(c.state().lead) != m.From) {
		return invalid(m, "this replica does not follow it")
	}
	return nil
}

// validateEntries checks that the entries are a piece of a log: they follow each other and the entry
// they are to be put after, and their terms never go down nor beyond the sender's.
func validateEntries(m *consensus.Message) error {
	index, term := m.Index, m.LogTerm
	for i := range m.Entries {
		e := &m.Entries[i]
		switch {
		case e.Index != index+1:
			return invalid(m, "entry %d follows entry %d", e.Index, index)
		case e.Term < term || e.Term > m.Term || e.Term == 0:
			return invalid(m, "entry %d of term %d follows one of term %d", e.Index, e.Term, term)
		}
		if err := validateEntry(m, e); err != nil {
			return err
		}
		index, term = e.Index, e.Term
	}
	return nil
}

func validateEntry(m *consensus.Message, e *consensus.Entry) error {
	switch e.Kind {
	case consensus.EntryCommand:
		if len(e.Data) == 0 {
			return invalid(m, "the command %d is empty", e.Index)
		}
	case consensus.EntryBarrier:
		if len(e.Data) != 0 {
			return invalid(m, "the barrier %d is not empty", e.Index)
		}
	case consensus.EntryConfig:
		if len(e.Data) == 0 {
			return nil
		}
		target, err := consensus.DecodeConfig(e.Data)
		if err == nil {
			err = validTarget(target)
		}
		if err != nil {
			return fmt.Errorf("%w: config entry %d: %w", ErrInvalidMessage, e.Index, err)
		}
	default:
		return invalid(m, "entry %d is of the unknown kind %d", e.Index, e.Kind)
	}
	return nil
}

func (c *core) validateSnapshot(m *consensus.Message) error {
	s := m.Snapshot
	if s.Index == 0 || s.Index >= maxNumber || s.Term == 0 || s.Term > m.Term {
		return invalid(m, "a snapshot at index %d and term %d", s.Index, s.Term)
	}
	if err := s.Config.Validate(); err != nil {
		return fmt.Errorf("%w: snapshot at index %d: %w", ErrInvalidMessage, s.Index, err)
	}
	return nil
}

// validateHeartbeat checks that what the leader declares committed is in the own log. A leader
// declares only what this replica once acknowledged, so otherwise entries were lost here. What was a leader in an earlier term declares nothing.
func (c *core) validateHeartbeat(m *consensus.Message) error {
	if m.Commit <= c.floor || m.Term < c.term() {
		return nil
	}
	c.collectAhead()
	if m.Commit > c.last {
		return fmt.Errorf("%w: %w: entry %d is committed and was acknowledged here, but the log ends at %d: this replica has lost entries; see \"A node that lost its data\" in docs/operations.md",
			ErrInvalidMessage, consensus.ErrLostEntries, m.Commit, c.last)
	}
	return nil
}

// validateResponse checks what a leader believes of a follower in its own term.
func (c *core) validateResponse(m *consensus.Message) error {
	if !c.isLeader() || m.Term != c.term() {
		return nil
	}
	switch {
	case m.Index > c.last:
		return invalid(m, "entry %d is acknowledged, the log ends at %d", m.Index, c.last)
	case m.Commit > c.last:
		return invalid(m, "entry %d is said to be committed, the log ends at %d", m.Commit, c.last)
	case m.Hint > m.Index:
		return invalid(m, "entry %d is refused with a hint at entry %d", m.Index, m.Hint)
	case m.Kind == KindHeartbeatResponse && m.Context > c.lead.readsIssued:
		return invalid(m, "read %d is confirmed, %d were asked for", m.Context, c.lead.readsIssued)
	}
	return nil
}
