package link

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Item is a call as its link sees it. What is exported is set before the link gets it, and not changed while the link has it; the rest is the
// link's.
type Item struct {
	Owner     any // of the shell
	Request   *kv.Request
	SizeBytes int           // of the request
	Expires   time.Duration // when nobody waits any more
	Read      bool          // it asks for no effect, and may be asked again
	// Revision is what a read is as of, if the shard is one of several: the state has to be complete up to it. 0: a read of the newest state.
	Revision kv.Revision

	state  state
	asked  bool  // in barriers.asked, not in barriers.waiting
	at     int32 // where in that list
	id     uint64
	sentTo kv.NodeID
}

type state uint8

const (
	idle    state = iota // with nobody here
	queued               // in the forwarder's queue
	sent                 // in its in-flight table
	barrier              // in barriers
)

// Options of a Link.
type Options struct {
	Self          kv.NodeID
	MaxFrameBytes int // a frame of requests is closed when it has reached this
	// LeaderGrace is how long an answer from a leader that was replaced is awaited.
	LeaderGrace time.Duration
	// BarrierTimeout is after how long an unanswered read barrier is asked for again.
	BarrierTimeout time.Duration
}

// Link leads to the leader of one shard. Not safe for concurrent use.
type Link struct {
	options  Options
	forward  forwarder
	barriers barriers
}

// New returns a link without calls.
func New(options Options) *Link {
	l := &Link{options: options}
	l.forward.sent = map[uint64]*Item{}
	return l
}

// Leader is what the replica on this node says of who leads.
type Leader struct {
	Node kv.NodeID // 0: unknown
	Term uint64
	// Serving: it is this replica, and it is ready.
	Serving bool
}

// Work is one thing to be done: Barrier, if it is not 0, or Calls.
type Work struct {
	To kv.NodeID // the leader; if that is Options.Self it is done here
	// Barrier is to be asked for; BarrierAnswered or BarrierFailed ends it.
	Barrier uint64
	// Revision, of a barrier, is the one up to which the state is to be complete that passes it. 0: none of its reads needs more than a barrier.
	Revision kv.Revision
	// Calls are to be sent in one frame; if that cannot be, Unsent takes them back. Those to be served here are the link's no more.
	Calls []*Item
}

// Ready returns what is to be done next.
func (l *Link) Ready(now time.Duration, leader Leader) (w Work, ok bool) {
	l.hear(now, leader)
	w.To = l.forward.leader
	if w.Barrier, w.Revision, ok = l.barriers.start(w.To, now); ok {
		return w, true
	}
	here := w.To == l.options.Self
	if here && !leader.Serving {
		return Work{}, false // it leads and is not ready
	}
	w.Calls = l.forward.take(l.options.MaxFrameBytes, here)
	return w, len(w.Calls) > 0
}

// Tick is to be called from time to time while the link is busy. What held calls and reads up is tried again. It returns the leaders that were
// replaced and whose answers are awaited no longer; NodeLost is to be called for each.
func (l *Link) Tick(now time.Duration, leader Leader) (gone []kv.NodeID) {
	l.hear(now, leader)
	gone = l.forward.tick(now)
	l.barriers.tick(l.forward.leader, now, l.options.BarrierTimeout)
	return gone
}

// Release has what was held up tried again.
func (l *Link) Release() { l.forward.held, l.barriers.held = false, false }

// hear takes the replica's word for who leads.
func (l *Link) hear(now time.Duration, leader Leader) {
	before := l.forward.leader
	l.forward.setLeader(leader.Node, leader.Term, now, l.options.LeaderGrace)
	if l.forward.leader != before {
		l.barriers.held = false
	}
}

// Enqueue takes a call that the leader is to answer.
func (l *Link) Enqueue(i *Item) { l.forward.enqueue(i) }

// Await takes a read that is to share a read barrier.
func (l *Link) Await(i *Item) { l.barriers.add(i) }

// Remove forgets a call, wherever it is.
func (l *Link) Remove(i *Item) {
	if i.state == barrier {
		l.barriers.remove(i)
	} else {
		l.forward.remove(i)
	}
}

// Unsent takes back calls that Ready gave out to be sent, and that did not leave. Nothing is sent until the next tick or another leader.
func (l *Link) Unsent(calls []*Item) { l.forward.unsent(calls) }

// Answered ends the wait of a call that was sent. Nil: nobody waits for that answer from that node any more.
func (l *Link) Answered(id uint64, from kv.NodeID) *Item { return l.forward.answered(id, from) }

// Refused takes back a call that a node did not evaluate, because it does not lead: it waits for its turn again. hint is who leads, if the node
// knows.
func (l *Link) Refused(i *Item, by, hint kv.NodeID) { l.forward.refused(i, by, hint, l.options.Self) }

// BarrierAnswered ends the barrier in flight and returns the reads it serves; they are the link's no more. An answer to an earlier barrier serves
// nobody.
func (l *Link) BarrierAnswered(id uint64, from kv.NodeID) []*Item { return l.barriers.done(id, from) }

// BarrierFailed has the reads of a barrier that did not reach the node, or that it refused, share the next one, after the next tick or with another
// leader.
func (l *Link) BarrierFailed(id uint64, from kv.NodeID) { l.barriers.failed(id, from, true) }

// NodeLost tells that what was sent to the node, and what it answered, may be lost. Reads are asked again. It returns the writes, whose outcome is
// unknown; they are the link's no more.
func (l *Link) NodeLost(node kv.NodeID) (unknown []*Item) {
	unknown = l.forward.lost(node)
	l.barriers.lost(node)
	return unknown
}

// Busy tells whether there is anything that Tick and NodeLost are for.
func (l *Link) Busy() bool { return l.forward.busy() || l.barriers.busy() }

// Figures are numbers about a link.
type Figures struct {
	Queued, Sent int
	SizeBytes    int // of the requests of both
}

// Figures of now.
func (l *Link) Figures() Figures {
	return Figures{Queued: l.forward.queued(), Sent: len(l.forward.sent), SizeBytes: l.forward.sizeBytes}
}
