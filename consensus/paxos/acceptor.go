package paxos

import (
	"bytes"

	"github.com/quoratedb/quorate/consensus"
)

// maxExtras bounds how many slots above a gap one response names.
const maxExtras = 512

// onPrepare promises to accept nothing below the ballot, and tells what was accepted and decided.
func (c *core) onPrepare(m *consensus.Message) {
	if m.Term < c.promised {
		c.send(consensus.Message{To: m.From, Kind: KindPromise, Reject: true, Term: m.Term, LogTerm: c.promised, Index: m.Index})
		return
	}
	if m.Term > c.promised {
		if m.Context == prepareElection && c.supports(m.From) {
			return
		}
		if m.Context == prepareTransfer && c.promised > m.LogTerm {
			return // who handed over does not lead any more, and its permission does not touch the leases of later leaders
		}
		c.promise(m.Term)
		c.becomeFollower(0)
	}
	c.electionElapsed = 0
	c.answerPrepare(m.From, m.Index)
}

// answerPrepare sends the promise that was made last, with what was accepted above the index.
func (c *core) answerPrepare(to consensus.ReplicaID, index consensus.Index) {
	promise := consensus.Message{
		To: to, Kind: KindPromise, Term: c.promised, Index: index, Commit: c.decided, Hint: c.firstRecord() - 1,
	}
	records, through, ok := c.acceptedAfter(index)
	if !ok {
		return
	}
	promise.Entries, promise.Context = records, uint64(through)
	c.sendAfterSync(promise)
}

// supports tells whether this replica hears a leader other than the one who asks.
func (c *core) supports(candidate consensus.ReplicaID) bool {
	return c.leader != 0 && c.leader != candidate && c.electionElapsed < c.opts.ElectionTicks
}

// acceptedAfter returns what was accepted after the index, as far as it fits into a message: through is the
// last slot it speaks for, or 0 if there are no more.
func (c *core) acceptedAfter(index consensus.Index) (records []consensus.Entry, through consensus.Index, ok bool) {
	size := 0
	add := func(record consensus.Entry) bool {
		if size += record.SizeBytes(); size > c.opts.MaxMessageBytes && len(records) > 0 {
			through = record.Index - 1
			return false
		}
		records = append(records, record)
		return true
	}
	// What is handed out lies in the log only.
	for from := max(index+1, c.firstRecord()); from <= c.window.base; {
		entries, err := c.readLog(from, c.window.base+1)
		if err != nil {
			return nil, 0, false
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if !add(e) {
				return records, through, true
			}
			from = e.Index + 1
		}
	}
	for i := max(index, c.window.base) + 1; i <= c.window.last(); i++ {
		s := c.window.at(i)
		if s == nil {
			continue
		}
		if !c.load(s) {
			return nil, 0, false
		}
		if !add(toRecord(s.entry, s.ballot)) {
			return records, through, true
		}
	}
	return records, 0, true
}

// onAccept accepts the entries under the leader's ballot.
func (c *core) onAccept(m *consensus.Message) {
	if !c.follow(m, KindAccepted) {
		return
	}
	for i := range m.Entries {
		c.accept(m.Entries[i], m.Term)
	}
	c.extendReceived()
	c.ackDue = true
	c.heardCommit(m)
}

// follow makes this replica a follower of the leader that sent the message, or refuses the message with the given
// kind of answer if its ballot is no longer good.
func (c *core) follow(m *consensus.Message, refusal consensus.MessageKind) bool {
	if m.Term < c.promised {
		c.send(consensus.Message{To: m.From, Kind: refusal, Reject: true, Term: m.Term, LogTerm: c.promised})
		return false
	}
	c.promise(m.Term)
	if c.leader != m.From || c.campaign != nil {
		c.becomeFollower(m.From)
	}
	c.electionElapsed = 0
	return true
}

// accept stores one entry under the ballot, unless the slot is settled.
func (c *core) accept(e consensus.Entry, ballot consensus.Term) {
	if e.Index <= c.decided || e.Index > c.decided+consensus.Index(c.opts.MaxWindowSlots) {
		return
	}
	if s := c.window.at(e.Index); s != nil {
		if s.ballot == ballot || s.decided {
			c.sameValue(s, &e)
			if s.ballot >= ballot {
				return
			}
		}
	}
	c.store(slot{entry: e, ballot: ballot})
}

// sameValue notices two values for one ballot, or a decided value that changes: somebody broke the protocol.
func (c *core) sameValue(s *slot, e *consensus.Entry) {
	if s.entry.Term != e.Term || s.entry.Kind != e.Kind || s.loaded && !bytes.Equal(s.entry.Data, e.Data) {
		c.misused("slot %d holds the entry of term %d under ballot %d (decided: %v), and now another one, of term %d, is to take its place",
			e.Index, s.entry.Term, s.ballot, s.decided, e.Term)
	}
}

// store puts a loaded slot into the window and the next write. A slot known to be decided stays so.
func (c *core) store(s slot) {
	s.loaded, s.size, s.write = true, s.entry.SizeBytes(), unwritten
	if before := c.window.at(s.entry.Index); before != nil && before.decided {
		s.decided = true
	}
	c.window.put(s)
	c.toWrite = append(c.toWrite, s.entry.Index)
}

// extendReceived moves the mark up to which everything is decided or accepted under the present ballot.
func (c *core) extendReceived() {
	c.received = max(c.received, c.decided)
	for s := c.window.at(c.received + 1); s != nil && s.ballot == c.promised; s = c.window.at(c.received + 1) {
		c.received++
	}
}

// durable tells up to where what was received is on the disk.
func (c *core) durable() consensus.Index {
	through := c.decided
	for through < c.received && c.window.at(through+1).write <= c.acked {
		through++
	}
	return through
}

// extras names the slots above the first gap that were accepted under the present ballot.
func (c *core) extras() (slots []consensus.Entry) {
	for i := c.received + 2; i <= c.window.last() && len(slots) < maxExtras; i++ {
		if s := c.window.at(i); s != nil && s.ballot == c.promised {
			slots = append(slots, consensus.Entry{Index: i})
		}
	}
	return slots
}

// flushAck acknowledges to the leader what was accepted. By the time the message leaves, everything
// accepted so far is durable.
func (c *core) flushAck() {
	if !c.ackDue {
		return
	}
	c.ackDue = false
	if c.leader == 0 || c.leader == c.self {
		return
	}
	c.sendAfterSync(consensus.Message{
		To: c.leader, Kind: KindAccepted, Term: c.promised,
		Index: c.received, Hint: c.received, Commit: c.decided, Entries: c.extras(),
	})
}

// onHeartbeat hears the leader and tells it what arrived. A heartbeat of a number that was answered before brings news of
// what is decided and asks nothing; that it was heard the leader learns from the next answer.
func (c *core) onHeartbeat(m *consensus.Message) {
	if !c.follow(m, KindHeartbeatResponse) {
		return
	}
	if m.Context <= c.heardBeat {
		c.heardCommit(m)
		return
	}
	c.heardBeat = m.Context
	c.asked.repeatable = true
	c.heardCommit(m)
	c.send(consensus.Message{
		To: m.From, Kind: KindHeartbeatResponse, Term: m.Term, Context: m.Context,
		Index: c.durable(), Hint: c.received, Commit: c.decided, Entries: c.extras(),
	})
}

// heardCommit learns from the leader that every slot up to its mark is decided. The values are known where
// they were accepted under the same ballot; the rest must be asked for.
func (c *core) heardCommit(m *consensus.Message) {
	if c.commitBallot != m.Term {
		c.commitBallot, c.commitMark = m.Term, 0
	}
	c.commitMark = max(c.commitMark, m.Commit)
	c.advance()
	if c.decided < c.commitMark {
		c.ask(m.From, c.commitMark)
	}
}

// advance moves the decided mark over what is known to be decided.
func (c *core) advance() {
	for {
		s := c.window.at(c.decided + 1)
		if s == nil || !(s.decided || s.ballot == c.commitBallot && s.entry.Index <= c.commitMark) {
			break
		}
		c.decideNext()
	}
	c.extendReceived()
}
