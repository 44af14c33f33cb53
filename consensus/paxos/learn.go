package paxos

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// question is the request for decided values that is under way.
type question struct {
	to         consensus.ReplicaID
	from       consensus.Index // the decided mark when it was asked
	repeatable bool            // long enough ago to be lost
}

// ask asks the replica, which knows that everything up to commit is decided, for what is missing here. It asks once,
// until something comes or enough time has passed.
func (c *core) ask(to consensus.ReplicaID, commit consensus.Index) {
	if c.decided >= commit || c.install != nil {
		return
	}
	if c.asked.to == to && c.asked.from == c.decided && !c.asked.repeatable {
		return
	}
	c.asked = question{to: to, from: c.decided}
	c.send(consensus.Message{To: to, Kind: KindLearn, Term: max(c.promised, 1), Index: c.decided})
}

// onLearn gives decided values, from any replica that has them; a snapshot if the log no longer does.
func (c *core) onLearn(m *consensus.Message) {
	if m.Index >= c.decided {
		return
	}
	entries, err := c.decidedAfter(m.Index)
	switch {
	case err != nil:
		c.ship(m.From)
	case len(entries) > 0:
		c.send(consensus.Message{
			To: m.From, Kind: KindLearned, Term: c.promised, Index: m.Index, Commit: c.decided, Entries: entries,
		})
	}
}

// errTrimmed: the log does not hold all that was asked for.
var errTrimmed = errors.New("paxos: the log does not reach back that far")

// decidedAfter returns decided records that follow the index without a gap, up to the size of a message.
func (c *core) decidedAfter(index consensus.Index) ([]consensus.Entry, error) {
	if index+1 < c.firstRecord() {
		return nil, errTrimmed
	}
	if index >= c.window.base {
		return c.decidedInWindow(index), nil
	}
	entries, err := c.readLog(index+1, min(c.decided, c.window.base)+1)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].Index != index+1+consensus.Index(i) {
			entries = entries[:i]
			break
		}
	}
	if len(entries) == 0 {
		return nil, errTrimmed // a hole that a snapshot covered
	}
	return entries, nil
}

func (c *core) decidedInWindow(index consensus.Index) (records []consensus.Entry) {
	size := 0
	for i := index + 1; i <= c.decided; i++ {
		s := c.window.at(i)
		if s == nil || !c.load(s) {
			return nil
		}
		if size += s.size; size > c.opts.MaxMessageBytes && len(records) > 0 {
			break
		}
		records = append(records, toRecord(s.entry, s.ballot))
	}
	return records
}

// readLog reads records in [lo, hi), as many as fit into a message. None is an answer: there are only holes.
func (c *core) readLog(lo, hi consensus.Index) ([]consensus.Entry, error) {
	entries, err := c.log.Entries(lo, hi, c.opts.MaxMessageBytes)
	switch {
	case err == nil:
		return entries, nil
	case errors.Is(err, consensus.ErrUnavailable):
		return nil, nil
	case errors.Is(err, consensus.ErrCompacted):
		return nil, errTrimmed
	}
	c.fail(fmt.Errorf("reading entries from %d to %d: %w", lo, hi-1, err))
	return nil, c.failure
}

// ship sends a snapshot of the applied state, unless one is on its way.
func (c *core) ship(to consensus.ReplicaID) {
	if c.failed() || c.applied.index == 0 || c.shipping[to] || c.installing > 0 || c.install != nil {
		return
	}
	c.shipping[to] = true
	c.send(consensus.Message{
		To: to, Kind: KindSnapshot, Term: c.promised,
		Snapshot: &consensus.SnapshotMeta{
			Index: c.applied.index, Term: max(c.applied.term, consensus.BootstrapTerm), Config: c.applied.config.Clone(),
		},
	})
}

// learn takes a value that is known to be decided. Its record may not be under a lower ballot than the one that
// decided it, and nothing lower may be accepted here any more.
func (c *core) learn(s slot) {
	i := s.entry.Index
	if i <= c.decided || i > c.decided+consensus.Index(c.opts.MaxWindowSlots) {
		return
	}
	if s.ballot > c.promised {
		c.promise(s.ballot)
		if c.lead != nil || c.campaign != nil {
			c.becomeFollower(0) // somebody else leads under a higher ballot
		} else if c.leader != 0 && proposerOf(s.ballot) != c.leader {
			c.leader = 0
		}
	}
	if known := c.window.at(i); known != nil && (known.decided || known.ballot == s.ballot) {
		c.sameValue(known, &s.entry)
		known.decided = true
		return
	}
	s.decided = true
	c.store(s)
}

func (c *core) onLearned(m *consensus.Message) {
	before := c.decided
	for _, record := range m.Entries {
		if e, ballot, err := fromRecord(record); err == nil {
			c.learn(slot{entry: e, ballot: ballot, loaded: true})
		}
	}
	c.advance()
	c.progressed(before)
	if len(m.Entries) == 0 {
		c.asked.repeatable = true
	}
	if c.decided < m.Commit && (c.decided > before || len(m.Entries) == 0) {
		c.ask(m.From, m.Commit)
	}
}

// tellVoters says how much is decided. A replica without a vote that hears no leader may be the only one to know of
// the change that took its vote away, so that nobody else knows who is to elect.
func (c *core) tellVoters() {
	c.resetTimer()
	for _, id := range c.config().Voters {
		c.send(consensus.Message{To: id, Kind: KindLearned, Term: c.promised, Index: c.decided, Commit: c.decided})
	}
}

// progressed goes on with what waited for the decided mark to move.
func (c *core) progressed(before consensus.Index) {
	if c.decided == before {
		return
	}
	c.asked.repeatable = true
	c.decide()
	c.tryFinish()
}

// onSnapshot takes the state in place of everything before it. What was accepted above it stays.
func (c *core) onSnapshot(m *consensus.Message) error {
	s := m.Snapshot
	if s.Index <= c.decided {
		return nil
	}
	for i := s.Index + 1; i <= c.window.last(); i++ {
		if kept := c.window.at(i); kept != nil && !c.load(kept) { // before the log is emptied
			return c.failure
		}
	}
	if m.Term > c.promised {
		c.promise(m.Term)
		if c.lead != nil || c.campaign != nil || c.leader != 0 && proposerOf(m.Term) != c.leader {
			c.becomeFollower(0)
		}
	}
	meta := consensus.SnapshotMeta{Index: s.Index, Term: s.Term, Config: s.Config.Clone()}
	c.install = &meta
	c.window.advance(s.Index)
	c.toWrite = c.toWrite[:0]
	for i := s.Index + 1; i <= c.window.last(); i++ {
		if kept := c.window.at(i); kept != nil {
			kept.write = unwritten
			c.toWrite = append(c.toWrite, i)
		}
	}
	c.decided, c.handed = s.Index, s.Index
	c.decidedTerm = s.Term
	c.received = c.decided
	c.applying, c.applyingBytes = nil, 0
	c.asked.repeatable = true
	c.advance()
	return nil
}
