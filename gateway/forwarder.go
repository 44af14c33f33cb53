package gateway

import (
	"cmp"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// forwarder decides what becomes of the calls that the leader must answer, on whichever node it is. Pure.
//
// A call is either queued, and then certainly not proposed anywhere, or sent to exactly one
// node under an id that is never used again.
//
// Invariant: sizeBytes is the sum over queue and sent.
type forwarder struct {
	leader kv.NodeID // to send to; 0: unknown
	// What the replica said last. A hint may know more than it does, until it says something else.
	saidLeader kv.NodeID
	saidTerm   uint64
	// held: the leader refused or could not be reached. Nothing is sent until the next tick or another leader.
	held bool

	queue     []*Call // with the gaps of those that have ended
	gaps      int
	sent      map[uint64]*Call
	lastID    uint64
	sizeBytes int

	// replaced is the leader before, and until when its answers are awaited.
	replaced []replacedLeader
}

type replacedLeader struct {
	node  kv.NodeID
	until time.Duration
}

// enqueue takes a call that is to be sent.
func (f *forwarder) enqueue(c *Call) {
	c.state = callQueued
	f.queue = append(f.queue, c)
	f.sizeBytes += c.sizeBytes
}

// setLeader tells who leads. Sent calls wait for the answer of the leader before until now+grace.
func (f *forwarder) setLeader(leader kv.NodeID, term uint64, now, grace time.Duration) {
	if term < f.saidTerm || leader == f.saidLeader && term == f.saidTerm {
		return
	}
	f.saidLeader, f.saidTerm = leader, term
	if leader != f.leader {
		f.held = false
		if f.leader != 0 {
			f.replaced = append(f.replaced, replacedLeader{node: f.leader, until: now + grace})
		}
		f.replaced = slices.DeleteFunc(f.replaced, func(r replacedLeader) bool { return r.node == leader })
	}
	f.leader = leader
}

// take moves the next calls, of about maxBytes, from the queue into flight to the leader.
func (f *forwarder) take(maxBytes int) (to kv.NodeID, calls []*Call) {
	if f.leader == 0 || f.held || len(f.queue) == 0 {
		return 0, nil
	}
	n, sizeBytes := 0, 0
	for n < len(f.queue) && sizeBytes < maxBytes {
		c := f.queue[n]
		n++
		if c.state != callQueued {
			f.gaps--
			continue
		}
		if c.answered.Load() {
			f.sizeBytes -= c.sizeBytes
			c.state = callIdle
			continue
		}
		sizeBytes += c.sizeBytes
		f.lastID++
		c.state, c.id, c.sentTo = callSent, f.lastID, f.leader
		f.sent[c.id] = c
		calls = append(calls, c)
	}
	f.cut(n)
	f.closeGaps()
	return f.leader, calls
}

func (f *forwarder) cut(n int) {
	clear(f.queue[:n])
	f.queue = f.queue[n:]
	if len(f.queue) == 0 {
		f.queue = nil
	}
}

// unsent takes back calls that take gave out and that did not leave.
func (f *forwarder) unsent(calls []*Call) {
	back := make([]*Call, 0, len(calls)+len(f.queue))
	for _, c := range calls {
		if f.sent[c.id] == c { // not ended in between
			delete(f.sent, c.id)
			c.state, c.sentTo = callQueued, 0
			back = append(back, c)
		}
	}
	f.queue = append(back, f.queue...)
	f.held = true
}

// answered ends the wait for an answer. nil: nobody waits for it from that node any more.
func (f *forwarder) answered(id uint64, from kv.NodeID) *Call {
	c := f.sent[id]
	if c == nil || c.sentTo != from {
		return nil
	}
	f.remove(c)
	return c
}

// refused: the node answered that it does not lead, so the call was not proposed; it waits for its turn again.
func (f *forwarder) refused(c *Call, by, hint, self kv.NodeID) {
	f.enqueue(c)
	if by != f.leader {
		return
	}
	f.held = true
	if hint != 0 && hint != by && hint != self {
		f.leader, f.held = hint, false
	}
}

// lost: what was sent to the node may or may not have arrived. Reads are queued again; writes
// are returned, their outcome is unknown.
func (f *forwarder) lost(node kv.NodeID) (unknown []*Call) {
	var again []*Call
	for _, c := range f.sent {
		if c.sentTo != node {
			continue
		}
		if c.read {
			again = append(again, c)
		} else {
			unknown = append(unknown, c)
		}
	}
	byID := func(a, b *Call) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(again, byID)
	slices.SortFunc(unknown, byID)
	for _, c := range unknown {
		f.remove(c)
	}
	for _, c := range again {
		f.remove(c)
		f.enqueue(c)
	}
	return unknown
}

// tick lets held calls try again, and gives up on leaders that were replaced.
func (f *forwarder) tick(now time.Duration) (gone []kv.NodeID) {
	f.held = false
	f.replaced = slices.DeleteFunc(f.replaced, func(r replacedLeader) bool {
		if r.until > now {
			return false
		}
		gone = append(gone, r.node)
		return true
	})
	return gone
}

// remove forgets a call that is queued or sent.
func (f *forwarder) remove(c *Call) {
	switch c.state {
	case callQueued:
		defer f.closeGaps()
		f.gaps++
	case callSent:
		delete(f.sent, c.id)
	default:
		return
	}
	f.sizeBytes -= c.sizeBytes
	c.state, c.sentTo = callIdle, 0
}

// queued is the number of calls in the queue.
func (f *forwarder) queued() int { return len(f.queue) - f.gaps }

// closeGaps is worth its time when half of the queue has ended. A call that ended never comes back.
func (f *forwarder) closeGaps() {
	if 2*f.gaps <= len(f.queue) {
		return
	}
	f.queue = slices.DeleteFunc(f.queue, func(c *Call) bool { return c.state != callQueued })
	f.gaps = 0
}
