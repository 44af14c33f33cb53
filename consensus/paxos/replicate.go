package paxos

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// peer is what a leader knows of another replica.
type peer struct {
	id      consensus.ReplicaID
	learner bool
	match   consensus.Index          // it has, durably, all slots up to here, under this ballot or decided
	extra   map[consensus.Index]bool // and these
	decided consensus.Index          // it knows to be decided
	told    consensus.Index          // decided mark it was sent
	next    consensus.Index          // to send for the first time
	beat    uint64                   // latest heartbeat answered
	active  bool                     // answered since the last check
	unsure  bool                     // what was sent may be lost: until it answers again, the group does not fall quiet

	inflight      []sent // ascending
	inflightBytes int
	inflightCount int // messages
}

// sent is a slot that was sent and not acknowledged.
type sent struct {
	index consensus.Index
	size  int
	beat  uint64 // the last heartbeat before it
	ends  bool   // the last slot of its message
}

// sender returns the peer that an answer to this leader comes from.
func (c *core) sender(m *consensus.Message) *peer {
	if m.Reject {
		c.refused(m)
		return nil
	}
	if c.lead == nil || m.Term != c.promised {
		return nil
	}
	p := c.lead.peer(m.From)
	if p != nil {
		p.active, p.unsure = true, false
		p.decided = max(p.decided, m.Commit)
	}
	return p
}

func (c *core) onAccepted(m *consensus.Message) {
	c.acceptedLate(m)
	p := c.sender(m)
	if p == nil {
		return
	}
	p.match = max(p.match, m.Index)
	for i := range m.Entries {
		if index := m.Entries[i].Index; index > p.match {
			p.extra[index] = true
		}
	}
	c.acknowledged(p)
	c.decide()
}

// acknowledged takes what is acknowledged out of what is in flight.
func (c *core) acknowledged(p *peer) {
	for p.extra[p.match+1] {
		p.match++
	}
	for index := range p.extra { // the order does not matter
		if index <= p.match {
			delete(p.extra, index)
		}
	}
	p.next = max(p.next, p.match+1)
	p.inflight = slices.DeleteFunc(p.inflight, func(s sent) bool {
		done := s.index <= p.match || p.extra[s.index]
		if done {
			p.release(s)
		}
		return done
	})
}

func (p *peer) release(s sent) {
	p.inflightBytes -= s.size
	if s.ends {
		p.inflightCount--
	}
}

// onHeartbeatResponse hears what arrived: what was sent before the heartbeat and did not is sent again.
func (c *core) onHeartbeatResponse(m *consensus.Message) {
	p := c.sender(m)
	if p == nil {
		return
	}
	p.match = max(p.match, m.Index)
	p.beat = max(p.beat, m.Context)
	c.acknowledged(p)
	c.decide()
	if c.lead == nil {
		return
	}
	c.confirmReads()
	arrived := make(map[consensus.Index]bool, len(m.Entries))
	for i := range m.Entries {
		arrived[m.Entries[i].Index] = true
	}
	var lost []consensus.Index
	kept := p.inflight[:0]
	for _, s := range p.inflight {
		missing := s.beat < m.Context && s.index > m.Hint && !arrived[s.index] && s.index <= c.reach(p)
		switch {
		case missing && s.index <= c.window.base:
			p.release(s) // it asks for what is decided
			continue
		case missing:
			lost = append(lost, s.index)
			s.beat = c.lead.beat
		}
		kept = append(kept, s)
	}
	p.inflight = kept
	for len(lost) > 0 {
		n, entries := c.pack(lost)
		if n == 0 {
			return
		}
		c.sendAccept(p, entries)
		lost = lost[n:]
	}
}

// pack collects entries of as many of the slots as fit into a message.
func (c *core) pack(slots []consensus.Index) (n int, entries []consensus.Entry) {
	size := 0
	entries = make([]consensus.Entry, 0, len(slots))
	for _, i := range slots {
		s := c.window.at(i)
		if s == nil || !c.load(s) {
			return 0, nil
		}
		if size += s.size; size > c.opts.MaxMessageBytes && n > 0 {
			break
		}
		entries = append(entries, s.entry)
		n++
	}
	return n, entries
}

func (c *core) sendAccept(p *peer, entries []consensus.Entry) {
	p.told = max(p.told, c.decided)
	c.send(consensus.Message{To: p.id, Kind: KindAccept, Term: c.promised, Entries: entries, Commit: c.decided, News: true})
}

// flushLeader sends what is due: new slots, the decided mark, heartbeats.
func (c *core) flushLeader() {
	l := c.lead
	if l == nil {
		return
	}
	beat := l.beatDue
	if l.beatDue {
		l.beat++
		l.beatDue = false
	}
	for _, p := range l.peers {
		if beat {
			c.sendHeartbeat(p, false)
		}
		c.sendNew(p)
		if p.told < c.decided {
			c.sendHeartbeat(p, true)
		}
	}
	c.confirmReads() // the only voter needs no answers
}

// sendHeartbeat sends the number of the last heartbeat that was due, or, again, as a notice of what is decided.
func (c *core) sendHeartbeat(p *peer, notice bool) {
	p.told = c.decided
	c.send(consensus.Message{To: p.id, Kind: KindHeartbeat, Term: c.promised, Commit: c.decided, Context: c.lead.beat, Notice: notice, News: notice})
}

// sendNew sends slots for the first time, as far as flow control allows. Those that have left the window
// are decided, and the peer asks for them when it hears so.
func (c *core) sendNew(p *peer) {
	p.next = max(p.next, c.window.base+1)
	last := min(c.lead.last, c.reach(p))
	for p.next <= last && p.inflightCount < c.opts.MaxInflightMessages && p.inflightBytes < c.opts.MaxInflightBytes {
		slots := again(c.sending)
		room := c.opts.MaxMessageBytes
		for i := p.next; i <= last && (room > 0 || len(slots) == 0); i++ {
			slots = append(slots, i)
			room -= c.window.at(i).size
		}
		c.sending = slots
		n, entries := c.pack(slots)
		if n == 0 {
			return
		}
		c.sendAccept(p, entries)
		for i := range entries {
			s := sent{index: entries[i].Index, size: entries[i].SizeBytes(), beat: c.lead.beat, ends: i == n-1}
			p.inflight = append(p.inflight, s)
			p.inflightBytes += s.size
		}
		p.inflightCount++
		p.next += consensus.Index(n)
	}
}

// reach is the last slot that the peer would accept.
func (c *core) reach(p *peer) consensus.Index {
	return p.decided + consensus.Index(c.opts.MaxWindowSlots)
}
