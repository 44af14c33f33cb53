package link

import (
	"cmp"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// forwarder decides what becomes of the calls that the leader must answer, on whichever node it is.
//
// Invariant: sizeBytes is the sum over queue and sent.
type forwarder struct {
	leader kv.NodeID // to send to; 0: unknown
	// What the replica said last. A hint may know more than it does, until it says something else.
	saidLeader kv.NodeID
	saidTerm   uint64
	// held: the leader refused or could not be reached. Nothing is sent until the next tick or another leader.
	held bool

	queue     []*Item // with the gaps of those that have ended
	gaps      int
	sent      map[uint64]*Item
	lastID    uint64
	sizeBytes int

	// replaced are the leaders before, if anything was sent, and until when their answers are awaited.
	replaced []replacedLeader
}

type replacedLeader struct {
	node  kv.NodeID
	until time.Duration
}

// enqueue takes a call that is to be sent.
func (f *forwarder) enqueue(i *Item) {
	i.state = queued
	f.queue = append(f.queue, i)
	f.sizeBytes += i.SizeBytes
}

// setLeader tells who leads. Sent calls wait for the answer of the leader before until now+grace.
func (f *forwarder) setLeader(leader kv.NodeID, term uint64, now, grace time.Duration) {
	if term < f.saidTerm || leader == f.saidLeader && term == f.saidTerm {
		return
	}
	if term > f.saidTerm {
		f.held = false // whoever refused did not lead then
	}
	f.saidLeader, f.saidTerm = leader, term
	if leader != f.leader {
		f.held = false
		if f.leader != 0 && len(f.sent) > 0 {
			f.replaced = append(f.replaced, replacedLeader{node: f.leader, until: now + grace})
		}
		f.replaced = slices.DeleteFunc(f.replaced, func(r replacedLeader) bool { return r.node == leader })
	}
	f.leader = leader
}

// take moves the next calls, of about maxBytes, from the queue into flight to the leader. If it is here, nothing flies: they are let go.
func (f *forwarder) take(maxBytes int, here bool) (calls []*Item) {
	if f.leader == 0 || f.held || len(f.queue) == 0 {
		return nil
	}
	n, sizeBytes := 0, 0
	for n < len(f.queue) && sizeBytes < maxBytes {
		i := f.queue[n]
		n++
		if i.state != queued {
			f.gaps--
			continue
		}
		sizeBytes += i.SizeBytes
		if here {
			f.sizeBytes -= i.SizeBytes
			i.state = idle
		} else {
			f.lastID++
			i.state, i.id, i.sentTo = sent, f.lastID, f.leader
			f.sent[i.id] = i
		}
		calls = append(calls, i)
	}
	f.cut(n)
	f.closeGaps()
	return calls
}

func (f *forwarder) cut(n int) {
	clear(f.queue[:n])
	f.queue = f.queue[n:]
	if len(f.queue) == 0 {
		f.queue = nil
	}
}

// unsent takes back calls that take gave out and that did not leave.
func (f *forwarder) unsent(calls []*Item) {
	back := make([]*Item, 0, len(calls)+len(f.queue))
	for _, i := range calls {
		if f.sent[i.id] == i { // not ended in between
			delete(f.sent, i.id)
			i.state, i.sentTo = queued, 0
			back = append(back, i)
		}
	}
	f.queue = append(back, f.queue...)
	f.held = true
}

// answered ends the wait for an answer. nil: nobody waits for it from that node any more.
func (f *forwarder) answered(id uint64, from kv.NodeID) *Item {
	i := f.sent[id]
	if i == nil || i.sentTo != from {
		return nil
	}
	f.remove(i)
	return i
}

// refused: the node answered that it does not lead, so the call was not proposed; it waits for its turn again.
func (f *forwarder) refused(i *Item, by, hint, self kv.NodeID) {
	f.enqueue(i)
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
func (f *forwarder) lost(node kv.NodeID) (unknown []*Item) {
	var again []*Item
	for _, i := range f.sent {
		if i.sentTo != node {
			continue
		}
		if i.Read {
			again = append(again, i)
		} else {
			unknown = append(unknown, i)
		}
	}
	byID := func(a, b *Item) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(again, byID)
	slices.SortFunc(unknown, byID)
	for _, i := range unknown {
		f.remove(i)
	}
	for _, i := range again {
		f.remove(i)
		f.enqueue(i)
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
func (f *forwarder) remove(i *Item) {
	switch i.state {
	case queued:
		defer f.closeGaps()
		f.gaps++
	case sent:
		delete(f.sent, i.id)
	default:
		return
	}
	f.sizeBytes -= i.SizeBytes
	i.state, i.sentTo = idle, 0
}

// queued is the number of calls in the queue.
func (f *forwarder) queued() int { return len(f.queue) - f.gaps }

// closeGaps is worth its time when half of the queue has ended. A call that ended never comes back.
func (f *forwarder) closeGaps() {
	if 2*f.gaps <= len(f.queue) {
		return
	}
	f.queue = slices.DeleteFunc(f.queue, func(i *Item) bool { return i.state != queued })
	f.gaps = 0
}

// busy tells whether there is something to wait for: an answer, a leader, the next tick.
func (f *forwarder) busy() bool {
	return len(f.queue) > 0 || len(f.sent) > 0 || len(f.replaced) > 0 || f.held
}
