package paxos

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// The kinds of messages. They are on the wire: add, never renumber. docs/protocols/paxos.md is their table.
const (
	KindProbe             consensus.MessageKind = 64
	KindProbeResponse     consensus.MessageKind = 65
	KindPrepare           consensus.MessageKind = 66
	KindPromise           consensus.MessageKind = 67
	KindAccept            consensus.MessageKind = 68
	KindAccepted          consensus.MessageKind = 69
	KindHeartbeat         consensus.MessageKind = 70
	KindHeartbeatResponse consensus.MessageKind = 71
	KindLearn             consensus.MessageKind = 72
	KindLearned           consensus.MessageKind = 73
	KindSnapshot          consensus.MessageKind = 74
	KindTakeOver          consensus.MessageKind = 75
	KindHandOver          consensus.MessageKind = 76
)

// What a prepare is for, in its Context.
const (
	prepareElection uint64 = iota
	prepareTransfer        // on behalf of the leader, which hands over
	prepareExtend          // by the leader itself, in a new membership
)

// classOf is what the driver must know of a message.
func classOf(m *consensus.Message) consensus.Class {
	switch {
	case m.Kind == KindProbe, m.Kind == KindPrepare && m.Context == prepareElection:
		return consensus.ClassElection
	case m.Kind == KindPrepare && m.Context == prepareTransfer:
		return consensus.ClassForced
	case m.Kind == KindSnapshot:
		return consensus.ClassSnapshot
	}
	return consensus.ClassNormal
}

// Step implements consensus.Core.
func (c *core) Step(m consensus.Message) error {
	if c.failed() {
		return c.failure
	}
	if err := c.validate(&m); err != nil {
		return err
	}
	c.touched = true
	switch m.Kind {
	case KindProbe:
		c.onProbe(&m)
	case KindProbeResponse:
		c.onProbeResponse(&m)
	case KindPrepare:
		c.onPrepare(&m)
	case KindPromise:
		c.onPromise(&m)
	case KindAccept:
		c.onAccept(&m)
	case KindAccepted:
		c.onAccepted(&m)
	case KindHeartbeat:
		c.onHeartbeat(&m)
	case KindHeartbeatResponse:
		c.onHeartbeatResponse(&m)
	case KindLearn:
		c.onLearn(&m)
	case KindLearned:
		c.onLearned(&m)
	case KindSnapshot:
		return c.onSnapshot(&m)
	case KindTakeOver:
		c.onTakeOver(&m)
	case KindHandOver:
		c.onHandOver(&m)
	}
	if c.failed() {
		return c.failure
	}
	return nil
}

func invalid(m *consensus.Message, format string, args ...any) error {
	return fmt.Errorf("%w: kind %d from replica %d to %d under ballot %d: "+format,
		append([]any{ErrInvalidMessage, m.Kind, m.From, m.To, m.Term}, args...)...)
}

// validate tells what is wrong with a message.
func (c *core) validate(m *consensus.Message) error {
	switch {
	case m.Kind < KindProbe || m.Kind > KindHandOver:
		return invalid(m, "unknown kind; is the sender newer than this node, or does it use another protocol?")
	case m.To != c.self:
		return invalid(m, "this is replica %d", c.self)
	case m.From == c.self || m.From == 0 || m.From > maxReplica:
		return invalid(m, "this cannot be the sender")
	case m.Term == 0 || m.Term >= maxNumber || m.LogTerm >= maxNumber:
		return invalid(m, "this cannot be a ballot")
	case max(m.Index, m.Commit, m.Hint) >= maxNumber:
		return invalid(m, "its numbers are out of range")
	case m.Class != classOf(m):
		return invalid(m, "it claims to be of class %d", m.Class)
	case (m.Snapshot != nil) != (m.Kind == KindSnapshot):
		return invalid(m, "only a snapshot message carries a snapshot")
	}
	known := consensus.Known{Term: c.highestSeen, Last: max(c.decided, c.window.last())}
	if err := known.Judge(m); err != nil {
		return fmt.Errorf("%w: kind %d from replica %d: %w", ErrInvalidMessage, m.Kind, m.From, err)
	}
	switch m.Kind {
	case KindPrepare:
		if m.Context > prepareExtend {
			return invalid(m, "unknown purpose %d", m.Context)
		}
	case KindPromise, KindAccept, KindLearned:
		if err := c.validateRecords(m); err != nil {
			return err
		}
	case KindAccepted, KindHeartbeatResponse:
		if err := c.validateResponse(m); err != nil {
			return err
		}
	case KindSnapshot:
		return c.validateSnapshot(m)
	default:
		if len(m.Entries) > 0 {
			return invalid(m, "it carries entries")
		}
	}
	switch m.Kind {
	case KindPrepare, KindAccept, KindHeartbeat, KindTakeOver, KindHandOver:
		if proposerOf(m.Term) != m.From {
			return invalid(m, "the ballot belongs to replica %d", proposerOf(m.Term))
		}
	}
	if m.Kind == KindHandOver && (proposerOf(m.LogTerm) != c.self || m.LogTerm <= m.Term) {
		return invalid(m, "ballot %d cannot be the next one of replica %d", m.LogTerm, c.self)
	}
	return nil
}

// validateRecords checks entries with values: they ascend, and each is what somebody may have accepted.
func (c *core) validateRecords(m *consensus.Message) error {
	before := consensus.Index(0)
	if m.Kind != KindAccept {
		before = m.Index
	}
	for i := range m.Entries {
		e, ballot, err := fromRecord(m.Entries[i])
		switch {
		case err != nil:
			return invalid(m, "%v", err)
		case e.Index <= before || e.Index >= maxNumber:
			return invalid(m, "entry %d follows entry %d", e.Index, before)
		case e.Term == 0 || ballot > m.Term && m.Kind == KindPromise:
			return invalid(m, "entry %d of term %d under ballot %d", e.Index, e.Term, ballot)
		case ballot > max(c.highestSeen, m.Term)+consensus.MaxStep:
			return fmt.Errorf("%w: entry %d under ballot %d: %w", ErrInvalidMessage, e.Index, ballot, consensus.ErrAbsurd)
		case m.Kind == KindAccept && (m.Entries[i].Kind&underLaterBallot != 0 || e.Term > m.Term):
			return invalid(m, "entry %d of term %d", e.Index, e.Term)
		case m.Kind == KindLearned && e.Index != before+1:
			return invalid(m, "entry %d follows entry %d", e.Index, before)
		case m.Kind == KindLearned && e.Index > m.Commit:
			return invalid(m, "entry %d is beyond the decided mark %d", e.Index, m.Commit)
		}
		if err := c.validateEntry(m, &e); err != nil {
			return err
		}
		before = e.Index
	}
	return nil
}

func (c *core) validateEntry(m *consensus.Message, e *consensus.Entry) error {
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
		target, err := consensus.DecodeConfig(e.Data)
		if err == nil {
			err = c.quorums.validate(target)
		}
		if err != nil {
			return fmt.Errorf("%w: config entry %d: %w", ErrInvalidMessage, e.Index, err)
		}
	default:
		return invalid(m, "entry %d is of the unknown kind %d", e.Index, e.Kind)
	}
	return nil
}

// validateResponse checks what a leader believes of a follower under its own ballot.
func (c *core) validateResponse(m *consensus.Message) error {
	before := consensus.Index(0)
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Index <= before || len(e.Data) > 0 {
			return invalid(m, "slot %d follows slot %d", e.Index, before)
		}
		before = m.Entries[i].Index
	}
	if c.lead == nil || m.Term != c.promised || m.Reject {
		return nil
	}
	switch {
	case max(m.Index, m.Hint, before) > max(c.lead.last, m.Commit):
		return invalid(m, "slot %d is acknowledged, the last one proposed is %d", max(m.Index, m.Hint, before), c.lead.last)
	case m.Kind == KindHeartbeatResponse && m.Context > c.lead.beat:
		return invalid(m, "heartbeat %d is answered, %d were sent", m.Context, c.lead.beat)
	}
	return nil
}

func (c *core) validateSnapshot(m *consensus.Message) error {
	s := m.Snapshot
	if s.Index == 0 || s.Index >= maxNumber || s.Term == 0 || s.Term >= maxNumber {
		return invalid(m, "a snapshot at index %d and term %d", s.Index, s.Term)
	}
	if err := c.quorums.validate(s.Config); err != nil {
		return fmt.Errorf("%w: snapshot at index %d: %w", ErrInvalidMessage, s.Index, err)
	}
	if len(m.Entries) > 0 {
		return invalid(m, "it carries entries")
	}
	return nil
}

// known tells whether the replica is a member as far as this one knows.
func (c *core) known(id consensus.ReplicaID) bool { return c.config().Contains(id) }

func hasVoter(config *consensus.Config, id consensus.ReplicaID) bool {
	return slices.Contains(config.Voters, id)
}
