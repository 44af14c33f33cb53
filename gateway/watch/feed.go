package watch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
)

// feed is changes in the order of their revisions, and those who want them as they come. The changes are those of one shard, or those of several,
// merged. Guarded by the hub's lock, but for the ring.
type feed struct {
	hub    *Hub
	shards []*Shard // whose changes these are
	merger *merger  // who fills the ring; nil: the only shard does

	ring       ring        // guarded by the hub's feedMu
	fresh      bool        // in the hub's list of feeds that the dispatcher has to look at; guarded by feedMu
	dispatched kv.Revision // every change up to here is in the outboxes of the live groups
	live       liveGroups
	seats      []*seat        // in no order
	asking     queue[*waiter] // who waits for dispatched
	seeking    bool           // in the inquiry's list

	// listening: somebody waits for changes, so the dispatcher is to be woken.
	listening atomic.Bool
}

func newFeed(h *Hub, shards []*Shard) feed {
	return feed{hub: h, shards: shards, live: newLiveGroups(), asking: newQueue((*waiter).before, func(w *waiter) *int { return &w.at })}
}

// gone tells whether the feed was dropped.
func (f *feed) gone() bool { return f.merger != nil && f.merger.dropped }

// sourceOf is where the shard is read that has the key.
func (f *feed) sourceOf(key []byte) Source {
	if len(f.shards) > 1 {
		if ids := f.hub.options.Shards(kv.Span{Start: key}); len(ids) > 0 {
			if s := f.hub.shards[ids[0]]; s != nil {
				return s.source
			}
		}
	}
	return f.shards[0].source
}

// compacted is up to where history was compacted, in some shard or as far as anybody has said: a compaction is one of the whole store, which its
// shards follow. The hub's lock is held.
func (f *feed) compacted() (compacted kv.Revision) {
	if q := f.hub.inquiry; q != nil {
		compacted = q.compacted
	}
	for _, s := range f.shards {
		compacted = max(compacted, s.source.Compacted())
	}
	return compacted
}

// dispatchRecords is how many records are handed out under one hold of the lock.
const dispatchRecords = 256

// advance hands out what is new, a bounded piece, and tells whether there may be more. The hub's lock is held.
func (f *feed) advance() (more bool) {
	if f.merger != nil {
		more = f.merger.release()
	}
	more = f.dispatch() || more
	f.answerProgress()
	f.listen()
	return more
}

func (f *feed) dispatch() (more bool) {
	h := f.hub
	h.feedMu.Lock()
	first, last := f.ring.first(), f.ring.last
	records, ok := f.ring.from(f.dispatched+1, dispatchRecords, h.records[:0])
	h.feedMu.Unlock()
	if f.live.size() == 0 {
		f.dispatched = max(f.dispatched, last)
		return false
	}
	if !ok {
		f.gap(first - 1)
		return true
	}
	for _, rec := range records {
		for at := (position{}); at.part < len(rec.parts); {
			at = f.dispatchRevision(rec, at)
		}
		f.dispatched = rec.last
	}
	clear(records)
	h.records = records[:0]
	return f.dispatched < last
}

// dispatchRevision hands out the changes of one revision, beginning with the one at a spot, and returns where the next
// one begins. Streams it touches stay locked until all are in: a consumer never sees a part.
func (f *feed) dispatchRevision(rec *record, begin position) (next position) {
	h := f.hub
	revision, _ := rec.revisionAt(begin)
	f.live.begin(revision)
	next = rec.eachOfRevision(begin, func(p *part, i int) {
		if revision <= f.dispatched {
			return
		}
		h.metrics.events.Add(1)
		h.spots = f.live.index.match(p.effects[i].Key, h.spots[:0])
		for _, spot := range h.spots {
			event := p.event(i)
			// From the end: a group that falls behind is replaced by the last one.
			h.walked(len(spot.groups))
			for at := len(spot.groups) - 1; at >= 0; at-- {
				f.offer(spot.groups[at], event)
			}
		}
	})
	for at, s := range h.held {
		s.held = false
		s.mu.Unlock()
		h.touch(s)
		h.held[at] = nil
	}
	h.held = h.held[:0]
	return next
}

// offer puts the event into the outbox of the group's stream, or detaches the group when that is full or there is no memory.
func (f *feed) offer(g *group, event *Event) {
	if g.rejects(event) {
		return
	}
	h, s := f.hub, g.seat.stream
	if !s.held {
		s.held = true
		s.mu.Lock()
		h.held = append(h.held, s)
	}
	full := !s.outbox.empty() && s.outbox.sizeBytes+event.sizeBytes() > h.options.StreamBytes
	if full || !s.meter.fits(s.outbox.heldBytes+s.outbox.costOf(g, event, h.options.BatchBytes)) {
		s.outbox.retract(g, event.Revision())
		f.detach(g, event.Revision())
		return
	}
	s.outbox.append(g, event, h.options.BatchBytes)
	h.metrics.deliveries.Add(1)
}

// detach takes a live group out of the feed: it lags, and needs everything from the revision on.
// The locks of the hub and of its stream are held.
func (f *feed) detach(g *group, from kv.Revision) {
	f.live.remove(g)
	g.seat.groups.unlist(g)
	g.open, g.next = nil, max(g.next, from)
	g.seat.lag(g)
	f.hub.metrics.lagging.Add(1)
	f.hub.options.Listener.Lagging(len(g.watchers))
}

// gap detaches all live groups, because the ring does not hold what comes after dispatched any
// more; it continues after last.
func (f *feed) gap(last kv.Revision) {
	h := f.hub
	h.metrics.gaps.Add(1)
	h.options.Listener.Gap(f.dispatched+1, last)
	for _, seat := range f.ordered() {
		s := seat.stream
		s.mu.Lock()
		for _, g := range seat.liveGroups() {
			if g.next <= last {
				f.detach(g, f.dispatched+1)
			}
		}
		s.mu.Unlock()
		h.touch(s)
	}
	f.dispatched = last
}

// ordered returns the seats in the order in which their streams were made, so that equal inputs have equal outputs.
func (f *feed) ordered() []*seat {
	seats := slices.Clone(f.seats)
	f.hub.walked(len(seats))
	slices.SortFunc(seats, func(a, b *seat) int { return cmp.Compare(a.stream.number, b.stream.number) })
	return seats
}

// listen decides whether the dispatcher must hear of changes. The hub's lock is held. A change that came just
// before the decision woke nobody, so the dispatcher looks once.
func (f *feed) listen() {
	if f.merger != nil {
		return // its shards wake whoever wants to hear of them
	}
	listening := f.live.size() > 0 || f.asking.size() > 0 || len(f.shards[0].mergers) > 0
	if f.listening.Swap(listening) != listening && listening {
		f.look()
	}
}

// look has the dispatcher look at the feed.
func (f *feed) look() {
	h := f.hub
	h.feedMu.Lock()
	h.freshen(f)
	h.feedMu.Unlock()
	h.signal()
}

// sync lets dispatched follow the ring when nobody watches live. The hub's lock is held.
func (f *feed) sync() {
	if f.live.size() > 0 {
		return
	}
	f.hub.feedMu.Lock()
	f.dispatched = max(f.dispatched, f.ring.last)
	f.hub.feedMu.Unlock()
}

// goal is up to where somebody wants the shards of the feed to be closed. The locks of the hub and of the rings are held.
func (f *feed) goal() (goal kv.Revision) {
	if f.asking.size() > 0 {
		goal = f.asking.first().want
	}
	if f.merger != nil {
		goal = max(goal, f.merger.heard())
	}
	return goal
}

// horizon is how far a shard is closed, and by what: its own log up to byLog, beyond that by a question.
type horizon struct{ byLog, closed kv.Revision }

// horizons are those of the feed's shards.
func (f *feed) horizons() []horizon {
	f.hub.feedMu.Lock()
	defer f.hub.feedMu.Unlock()
	out := make([]horizon, len(f.shards))
	for i, s := range f.shards {
		out[i] = horizon{s.byLog, s.ring.last}
	}
	return out
}

// completeTo is up to where a state that its log has closed at the revision, and that was frozen after the horizon was looked at, has everything.
func (h horizon) completeTo(closed kv.Revision) kv.Revision {
	if closed >= h.byLog {
		return max(closed, h.closed)
	}
	return closed
}

// check returns an error if the feed contradicts itself. The locks of the hub and of the rings are held.
func (f *feed) check() error {
	if f.dispatched > f.ring.last {
		return fmt.Errorf("changes were dispatched up to %d, and heard of up to %d", f.dispatched, f.ring.last)
	}
	if len(f.shards) == 0 || (len(f.shards) == 1) != (f.merger == nil) {
		return errors.New("the feed has no shards, or more than it merges")
	}
	if f.asking.size() > 0 && !f.asking.first().asks(f) {
		return errors.New("somebody asks a feed and does not know of it")
	}
	return f.ring.check()
}
