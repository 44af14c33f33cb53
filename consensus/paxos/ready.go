package paxos

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// HasReady implements consensus.Core. An idle core answers from one flag.
func (c *core) HasReady() bool {
	if c.failed() || !c.touched {
		return false
	}
	c.flush()
	c.touched = len(c.messages) > 0 || len(c.reads) > 0 || c.mustWrite() || c.mayHandOut() || len(c.after) > 0 ||
		c.roleChange() != c.reported
	return c.touched
}

// flush turns what is due into messages.
func (c *core) flush() {
	c.flushLeader()
	c.flushAck()
}

func (c *core) hardState() consensus.HardState {
	return consensus.HardState{Term: c.promised, Commit: c.decided}
}

func (c *core) mustWrite() bool {
	return len(c.toWrite) > 0 || c.cutFrom != 0 || c.install != nil || c.hardState() != c.hard
}

// Ready implements consensus.Core.
func (c *core) Ready() consensus.Ready {
	var rd consensus.Ready
	if c.failed() || !c.touched {
		return rd
	}
	c.flush()
	c.takeAppend(&rd.Append)
	rd.Messages, c.messages = c.messages, nil
	if len(c.after) > 0 {
		c.holdBack(&rd)
	}
	rd.Committed = c.takeCommitted()
	rd.Reads, c.reads = c.reads, nil
	if role := c.roleChange(); role != c.reported {
		c.reported = role
		rd.Role = new(role)
	}
	if c.failed() {
		return consensus.Ready{}
	}
	return rd
}

// takeAppend makes one durable write of what was accepted and promised.
func (c *core) takeAppend(a *consensus.Append) {
	if !c.mustWrite() {
		return
	}
	a.Snapshot, c.install = c.install, nil
	if a.Snapshot == nil {
		a.TruncateFrom = c.cutFrom
	}
	c.cutFrom = 0
	hard := c.hardState()
	a.Sync = len(c.toWrite) > 0 || a.Snapshot != nil || hard.Term != c.hard.Term
	if hard != c.hard {
		c.hard = hard
		a.HardState = new(hard)
	}
	c.marked = consensus.Mark{Term: c.promised, Seq: c.marked.Seq + 1}
	a.Mark = c.marked
	slices.Sort(c.toWrite)
	c.toWrite = slices.Compact(c.toWrite)
	if len(c.toWrite) > 0 {
		a.Entries = make([]consensus.Entry, 0, len(c.toWrite))
	}
	for _, i := range c.toWrite {
		s := c.window.at(i)
		s.write = c.marked.Seq
		a.Entries = append(a.Entries, toRecord(s.entry, s.ballot))
	}
	c.toWrite = again(c.toWrite)
	if a.Snapshot != nil {
		c.installing++
	}
	if a.Sync {
		c.writes = append(c.writes, write{mark: a.Mark, snapshot: a.Snapshot})
	}
}

// holdBack lets messages wait for the write they rest on: that of this Ready, the last one in flight,
// or none.
func (c *core) holdBack(rd *consensus.Ready) {
	switch {
	case rd.Append.Sync:
		rd.Append.AfterSync = c.after
	case len(c.writes) > 0:
		last := &c.writes[len(c.writes)-1]
		last.messages = append(last.messages, c.after...)
	default:
		rd.Messages = append(rd.Messages, c.after...)
	}
	c.after = nil
}

// next returns the next slot to be applied if it is decided and on the own disk, which is what may be handed
// out, and there is room.
func (c *core) next() *slot {
	if c.handed >= c.decided || c.installing > 0 || c.install != nil {
		return nil
	}
	s := c.window.at(c.handed + 1)
	if s == nil || s.write > c.acked || c.applyingBytes > 0 && c.applyingBytes+s.size > c.opts.MaxApplyBytes {
		return nil
	}
	return s
}

func (c *core) mayHandOut() bool { return c.next() != nil }

// takeCommitted hands out decided entries.
func (c *core) takeCommitted() (entries []consensus.Entry) {
	for s := c.next(); s != nil; s = c.next() {
		if !c.load(s) {
			return nil
		}
		c.handed++
		one := applying{position: position{index: c.handed, term: s.entry.Term}, size: s.size}
		if s.entry.Kind == consensus.EntryConfig {
			target, err := consensus.DecodeConfig(s.entry.Data)
			if err != nil {
				c.fail(fmt.Errorf("config entry %d: %w", c.handed, err))
				return nil
			}
			one.config = target
		}
		if entries == nil {
			entries = make([]consensus.Entry, 0, min(c.decided-s.entry.Index+1, 64))
		}
		entries = append(entries, s.entry)
		c.handedOut(one)
		c.applyingBytes += s.size
		c.window.advance(c.handed)
	}
	return entries
}

// handedOut notes that an entry was handed out. As in the window, the array is filled from its beginning again when it was empty.
func (c *core) handedOut(one applying) {
	if len(c.applying) == 0 {
		c.applying = c.applyingRoom
	}
	full := len(c.applying) == cap(c.applying)
	c.applying = append(c.applying, one)
	if full {
		c.applyingRoom = again(c.applying)
	}
}

// AckAppend implements consensus.Core.
func (c *core) AckAppend(mark consensus.Mark) {
	if c.failed() {
		return
	}
	if c.marked.Less(mark) {
		c.misused("the driver acknowledged the mark %v, the last one given out is %v", mark, c.marked)
		return
	}
	if mark.Seq <= c.acked {
		return
	}
	c.touched = true
	c.acked, c.ackedTerm = mark.Seq, max(c.ackedTerm, mark.Term)
	for len(c.writes) > 0 && !mark.Less(c.writes[0].mark) {
		done := c.writes[0]
		c.writes = slices.Delete(c.writes, 0, 1)
		if done.snapshot != nil {
			c.installed(done.snapshot)
		}
		c.messages = append(c.messages, done.messages...)
	}
	c.decide()
	c.decideLate()
	c.tryFinish()
}

// installed notes that the state machine now is what the snapshot says.
func (c *core) installed(s *consensus.SnapshotMeta) {
	c.installing--
	c.applied.index, c.applied.term = s.Index, s.Term
	if !s.Config.Equal(c.applied.config) {
		c.configApplied(s.Index, s.Config)
	}
}

// AckApplied implements consensus.Core. While a snapshot is being installed it has no effect:
// the snapshot covers everything.
func (c *core) AckApplied(index consensus.Index) {
	if c.failed() || c.installing > 0 || c.install != nil {
		return
	}
	if index > c.handed {
		c.misused("the driver applied %d, but only %d was handed out", index, c.handed)
		return
	}
	c.touched = true
	for len(c.applying) > 0 && c.applying[0].index <= index && !c.failed() {
		done := c.applying[0]
		c.applying[0] = applying{}
		c.applying = c.applying[1:]
		c.applyingBytes -= done.size
		if c.lead != nil && done.term == c.promised {
			c.lead.uncommitted = max(0, c.lead.uncommitted-done.size)
		}
		c.applied.index, c.applied.term = done.index, done.term
		if done.config.Voters != nil {
			c.configApplied(done.index, done.config)
		}
	}
	c.tryFinish()
}
