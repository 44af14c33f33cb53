package raft

import (
	"encoding/binary"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// HasReady implements consensus.Core. An idle core answers from one flag.
func (c *core) HasReady() bool {
	if c.failed() {
		return false
	}
	if len(c.queue) > 0 || len(c.outbox) > 0 || len(c.failedReads) > 0 {
		return true
	}
	return c.workWaiting()
}

// Ready implements consensus.Core.
func (c *core) Ready() consensus.Ready {
	if c.failed() {
		return consensus.Ready{}
	}
	var rd consensus.Ready
	if len(c.queue) > 0 {
		rd = c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
	} else if c.view.work != workNone {
		rd = c.collect()
	}
	rd.Messages = append(rd.Messages, c.outbox...)
	rd.Reads = append(rd.Reads, c.failedReads...)
	c.outbox, c.failedReads = nil, nil
	if c.failed() {
		return consensus.Ready{}
	}
	return rd
}

// collectAhead takes the library's work before the driver asks for it, when the core must know exactly
// where it stands.
func (c *core) collectAhead() {
	if c.node.HasReady() {
		c.queue = append(c.queue, c.collect())
	}
}

// collect takes the work out of the library.
func (c *core) collect() consensus.Ready {
	rd := c.node.Ready()
	var out consensus.Ready
	before := c.hard
	if rd.HardState != nil {
		c.hard = fromHardState(rd.HardState)
	}
	c.collected()
	c.noteLeadership(rd.Entries)
	c.takeReads(&out, rd.ReadStates)
	c.takeAppend(&out.Append, &rd, before)
	toSelf := c.takeMessages(&out, rd.Messages)
	out.Committed = c.takeCommitted(rd.CommittedEntries)
	if out.Append.Snapshot != nil {
		c.supersede(out.Append.Snapshot)
	}
	for _, m := range toSelf {
		c.ownStep(m)
	}
	if role := c.role(); role != c.reported && len(toSelf) == 0 {
		c.reported = role
		out.Role = new(role)
	}
	c.floor = c.last
	return out
}

// noteLeadership notices the beginning and the end of the own leadership. A replica that lost it
// and won again in between did so in another term. entries are those about to be handed out.
func (c *core) noteLeadership(entries []*raftpb.Entry) {
	term := c.term()
	if c.lead.term != 0 && (!c.isLeader() || c.lead.term != term) {
		c.failReads()
		c.led, c.lead = c.lead.term, leadership{}
	}
	if !c.isLeader() {
		return
	}
	if c.lead.term == 0 {
		c.lead = leadership{term: term, commits: make(map[consensus.ReplicaID]consensus.Index)}
	}
	for _, e := range entries {
		index := consensus.Index(e.GetIndex())
		if c.lead.barrier == 0 && consensus.Term(e.GetTerm()) == term {
			c.lead.barrier = index // a leader's first entry
			c.lead.confIndex = index
		}
		if e.GetType() == raftpb.EntryConfChangeV2 {
			c.lead.confIndex = max(c.lead.confIndex, index)
		}
	}
}

// failReads answers every waiting barrier with "failed".
func (c *core) failReads() {
	for _, id := range c.lead.reads {
		c.failedReads = append(c.failedReads, consensus.ReadState{ID: id})
	}
	c.lead.reads = nil
}

// takeReads hands out the confirmed barriers. Those that were answered as failed before stay so.
func (c *core) takeReads(out *consensus.Ready, states []etcdraft.ReadState) {
	for _, s := range states {
		id := consensus.ReadID(binary.LittleEndian.Uint64(s.RequestCtx))
		if at := slices.Index(c.lead.reads, id); at >= 0 {
			c.lead.reads = slices.Delete(c.lead.reads, at, at+1)
			out.Reads = append(out.Reads, consensus.ReadState{ID: id, Index: consensus.Index(s.Index)})
		}
	}
}

// takeAppend makes the durable write out of what the library wants stored.
func (c *core) takeAppend(a *consensus.Append, rd *etcdraft.Ready, before consensus.HardState) {
	if c.hard != before {
		a.HardState = new(c.hard)
	}
	if !etcdraft.IsEmptySnap(rd.Snapshot) {
		a.Snapshot = fromSnapshot(rd.Snapshot)
		c.last, c.lastTerm = a.Snapshot.Index, a.Snapshot.Term
		c.recent = recent{}
	}
	if len(rd.Entries) > 0 {
		a.Entries = c.recent.add(rd.Entries)
		if first := a.Entries[0].Index; first <= c.last {
			a.TruncateFrom = first
		}
		end := &a.Entries[len(a.Entries)-1]
		c.last, c.lastTerm = end.Index, end.Term
	}
	a.Sync = len(a.Entries) > 0 || a.Snapshot != nil || c.hard.Term != before.Term || c.hard.Vote != before.Vote
	if a.Sync || a.HardState != nil {
		c.marked = consensus.Mark{Term: c.hard.Term, Seq: c.marked.Seq + 1}
		a.Mark = c.marked
	}
}

// takeMessages sorts the library's messages: those that may leave at once, those that wait for
// the write in out.Append, and those that wait for an earlier write that is still in flight. It
// returns the messages to this replica itself that wait for nothing.
//
// A response that is not predicated on anything new (an answer to a commit notice, say) needs no
// sync of its own: it waits for the writes in flight, and if there are none it leaves at once.
func (c *core) takeMessages(out *consensus.Ready, messages []*raftpb.Message) (toSelf []*raftpb.Message) {
	var after []consensus.Message
	out.Messages = room(messages, func(m *raftpb.Message) bool { return kindOf(m.GetType()) != 0 })
	for _, m := range messages {
		switch m.GetType() {
		case raftpb.MsgStorageApply: // takeCommitted reads the same entries from the Ready
		case raftpb.MsgStorageAppend:
			toSelf, after = c.takeResponses(m.GetResponses())
		case raftpb.MsgHeartbeatResp:
			if len(m.GetContext()) == len(restartMarker) {
				continue // nobody asked, see LeaderLost
			}
			out.Messages = append(out.Messages, c.fromMessage(m))
		default:
			if kindOf(m.GetType()) != 0 {
				out.Messages = append(out.Messages, c.fromMessage(m))
			}
		}
	}
	switch {
	case out.Append.Sync:
		out.Append.AfterSync = after
		c.appends = append(c.appends, pendingAppend{mark: out.Append.Mark, toSelf: toSelf, snapshot: out.Append.Snapshot})
		return nil
	case len(c.appends) > 0:
		last := &c.appends[len(c.appends)-1]
		last.toSelf = append(last.toSelf, toSelf...)
		last.others = append(last.others, after...)
		return nil
	}
	out.Messages = append(out.Messages, after...)
	return toSelf
}

// takeResponses tells what is to be told when a write is done: to this replica itself, and to others. The responses are ours; those to this
// replica stay in their slice.
func (c *core) takeResponses(responses []*raftpb.Message) (toSelf []*raftpb.Message, after []consensus.Message) {
	after = room(responses, func(r *raftpb.Message) bool { return consensus.ReplicaID(r.GetTo()) != c.self })
	toSelf = responses[:0]
	for _, r := range responses {
		if consensus.ReplicaID(r.GetTo()) == c.self {
			toSelf = append(toSelf, r)
		} else {
			after = append(after, c.fromMessage(r))
		}
	}
	clear(responses[len(toSelf):])
	return toSelf, after
}

// room returns an empty slice for the messages that count, nil if there are none.
func room(messages []*raftpb.Message, counts func(*raftpb.Message) bool) []consensus.Message {
	n := 0
	for _, m := range messages {
		if counts(m) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return make([]consensus.Message, 0, n)
}

// takeCommitted hands out committed entries. A config entry leaves with the membership that results
// from it; the core itself follows when the entry is applied.
func (c *core) takeCommitted(pb []*raftpb.Entry) []consensus.Entry {
	if len(pb) == 0 {
		return nil
	}
	entries := c.fromEntries(pb)
	if slices.ContainsFunc(entries, func(e consensus.Entry) bool { return e.Kind == consensus.EntryConfig }) {
		entries = c.planChanges(entries)
	}
	if len(c.applying) == 0 {
		c.applying = slices.Clip(pb) // the library's; appending makes a copy
	} else {
		c.applying = append(c.applying, pb...)
	}
	c.committed = entries[len(entries)-1].Index
	return entries
}

// planChanges returns the entries with the resulting membership in each config entry.
func (c *core) planChanges(entries []consensus.Entry) []consensus.Entry {
	entries = slices.Clone(entries)
	for i := range entries {
		if entries[i].Kind == consensus.EntryConfig {
			planned := planChange(c.plannedConfig(), entries[i])
			c.changes = append(c.changes, planned)
			entries[i].Data = consensus.AppendConfig(nil, planned.config)
		}
	}
	return entries
}

// supersede notes that a snapshot takes the place of everything handed out for applying: the library,
// which works with the membership of the snapshot from now on, need not wait for the rest.
func (c *core) supersede(s *consensus.SnapshotMeta) {
	if len(c.applying) > 0 {
		c.ackApplying(len(c.applying))
	}
	c.changes = nil
	c.active = s.Config
	c.committed = s.Index
	c.installing = true
}

// AckAppend implements consensus.Core.
func (c *core) AckAppend(mark consensus.Mark) {
	if c.failed() {
		return
	}
	if c.marked.Less(mark) {
		c.misused("acknowledged the mark %v, the last one given out is %v", mark, c.marked)
		return
	}
	for len(c.appends) > 0 && !mark.Less(c.appends[0].mark) {
		done := c.appends[0]
		c.appends = slices.Delete(c.appends, 0, 1)
		if done.snapshot != nil {
			c.installed(done.snapshot)
		}
		for _, m := range done.toSelf {
			c.ownStep(m)
		}
		c.outbox = append(c.outbox, done.others...)
	}
	if c.acked.Less(mark) {
		c.acked = mark
	}
}

// installed notes that the state machine now is what the snapshot says.
func (c *core) installed(s *consensus.SnapshotMeta) {
	*c.applied() = position{index: s.Index, term: s.Term, config: s.Config}
	c.installing = slices.ContainsFunc(c.appends, func(a pendingAppend) bool { return a.snapshot != nil })
}

// AckApplied implements consensus.Core. While a snapshot is being installed it has no effect:
// the snapshot covers everything.
func (c *core) AckApplied(index consensus.Index) {
	if c.failed() || c.installing {
		return
	}
	if index > c.committed {
		c.misused("applied %d, but only %d was handed out", index, c.committed)
		return
	}
	for len(c.applying) > 0 && consensus.Index(c.applying[0].GetIndex()) <= index {
		c.ackUpToChange(index)
	}
	c.recent.forget(index)
}

// ackUpToChange acknowledges entries up to the index, but not beyond the next config entry, which
// takes effect before the library hears that it is applied.
func (c *core) ackUpToChange(index consensus.Index) {
	var next *change
	if len(c.changes) > 0 && c.changes[0].index <= index {
		next = &c.changes[0]
		index = next.index
	}
	first := consensus.Index(c.applying[0].GetIndex())
	n := int(index-first) + 1
	*c.applied() = position{index: index, term: consensus.Term(c.applying[n-1].GetTerm()), config: c.applied().config}
	if next != nil {
		c.applyChange(next)
		c.changes = c.changes[1:]
	}
	c.ackApplying(n)
}

// ackApplying tells the library that the first n of the entries handed out are applied.
func (c *core) ackApplying(n int) {
	done := c.applying[:n:n]
	c.applying = c.applying[n:]
	if len(c.applying) == 0 {
		c.applying = nil
	}
	// With nothing left to hand out the library has nothing to do either, except to leave a joint membership.
	idle := c.view.work == workNone && c.committed == c.hard.Commit && !c.active.Joint()
	c.ownStep(c.library(raftpb.MsgStorageApplyResp, consensus.ReplicaID(etcdraft.LocalApplyThread), done))
	c.spoil()
	if idle {
		c.collected()
	}
}
