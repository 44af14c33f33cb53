package sequencer

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Ticket stands for all reads that arrived between two frames. Later ones are higher.
type Ticket uint64

// reads counts frames over all sessions: a ticket is the number of the next frame when the read arrived. Whatever is answered to that frame or
// a later one was read after the arrival (rule 17), so reads need no list.
type reads struct {
	asked  Ticket // the highest that a read holds
	sent   Ticket // the last frame
	base   Ticket // the last frame before this session
	served Ticket // up to here an answer has come
}

func (r *reads) ask() Ticket {
	r.asked = r.sent + 1
	return r.asked
}

// waiting tells whether a read is not served.
func (r *reads) waiting() bool { return r.asked > r.served }

// due tells whether a read waits for which no frame of this session is on its way.
func (r *reads) due() bool { return r.asked > r.sent || r.waiting() && r.sent == r.base }

func (r *reads) reached(counter uint64) { r.served = r.base + Ticket(counter) }

func (r *reads) restart() { r.base = r.sent }

// Read asks for the present revision on behalf of a read that has arrived. It is served when AskerReady.Served reaches the ticket.
func (a *Asker) Read() Ticket {
	defer a.attend()
	return a.reads.ask()
}

// Frontier is what the sequencer says of several shards at one moment (rule 16): a shard that is closed at its Last is closed at Now, if it is clean.
type Frontier struct {
	// ID is what Asker.Frontier returned to those who are answered.
	ID     uint64
	Now    kv.Revision
	Shards []ShardFrontier
}

// frontiers has at most one question on its way; what is asked meanwhile is gathered for the next.
type frontiers struct {
	wanted []ShardGeneration
	place  map[kv.ShardID]int // in wanted
	asked  []ShardGeneration  // on its way
	next   uint64             // ID of what is being gathered
	since  uint64             // ID of what is on its way
}

func newFrontiers() frontiers { return frontiers{place: make(map[kv.ShardID]int), next: 1} }

// want adds shards, each once, in the newest generation that anybody named.
func (f *frontiers) want(shards []ShardGeneration) {
	f.wanted = slices.Grow(f.wanted, len(shards))
	for _, s := range shards {
		if at, ok := f.place[s.Shard]; ok {
			f.wanted[at].Generation = max(f.wanted[at].Generation, s.Generation)
			continue
		}
		f.place[s.Shard] = len(f.wanted)
		f.wanted = append(f.wanted, s)
	}
}

func (f *frontiers) due() bool { return len(f.asked) == 0 && len(f.wanted) > 0 }

// ask takes what the next frame is to ask for, nil if nothing.
func (f *frontiers) ask() []ShardGeneration {
	if !f.due() {
		return nil
	}
	f.asked, f.wanted = f.wanted, nil
	clear(f.place)
	f.since = f.next
	f.next++
	return f.asked
}

func (f *frontiers) answered(r *Reply) *Frontier {
	f.asked = nil
	return &Frontier{ID: f.since, Now: r.Now, Shards: r.Frontier}
}

// restart asks again for what was not answered, under a new ID.
func (f *frontiers) restart() {
	again := f.asked
	f.asked = nil
	f.want(again)
}

// Frontier asks what the sequencer says of these shards. The answer has at least the ID that is returned, and was given after the call. It is refused
// if it would make more shards than one frame may ask for.
func (a *Asker) Frontier(shards []ShardGeneration) (id uint64, ok bool) {
	if len(shards)+len(a.frontiers.wanted)+len(a.frontiers.asked) > maxFrontier {
		return 0, false
	}
	a.frontiers.want(shards)
	a.attend()
	return a.frontiers.next, true
}

// quiet notices that the sequencer cannot be reached.
type quiet struct {
	awaited bool          // an answer is
	since   time.Duration // no word has come although one is awaited
	poked   time.Duration // when the session was begun, the last word came, or a sign of life was asked for
	pinged  bool          // it was
	ping    bool          // the next frame is to leave even if nothing else is to be said
}

func (q *quiet) heard(now time.Duration) { q.since, q.poked, q.pinged = now, now, false }

func (q *quiet) restart(now time.Duration) { q.poked, q.pinged, q.ping = now, false, false }

// attend takes note of whether an answer is awaited.
func (a *Asker) attend() {
	awaited := a.outstanding > 0 || len(a.multis.list) > 0 || a.reads.waiting() || len(a.frontiers.asked)+len(a.frontiers.wanted) > 0 || a.talk.reached < a.talk.sent
	if awaited && !a.quiet.awaited {
		a.quiet.since, a.quiet.poked = a.now, a.now
	}
	a.quiet.awaited = awaited
}

// Tick lets the time pass. A sequencer that is silent although it is asked something is asked for a sign of life, which shows whether a frame was
// lost; then the session is given up. After an election timeout the shards led here are to be handed over, again each election timeout.
func (a *Asker) Tick(now time.Duration) {
	a.now = now
	q := &a.quiet
	if !q.awaited {
		return
	}
	if now-q.since >= a.options.ElectionTimeout {
		q.since = now
		a.ready.HandOver = a.leads()
	}
	if a.talk.with == 0 || a.talk.sent == 0 {
		return
	}
	switch {
	case now-q.poked < a.options.Patience:
	case q.pinged:
		a.hangUp()
	default:
		q.ping, q.pinged, q.poked = true, true, now
	}
}
