package watch

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// errEnough ends the reading of history before a revision for which there is no memory.
var errEnough = errors.New("watch: as much history was read as there is memory for")

// reading is what a step of catching up has read of history: as much as was set aside for it, in whole revisions. The first one may take
// more, if there is memory for it. It belongs to the consumer's goroutine.
type reading struct {
	seat    *seat
	granted int64 // set aside for the step
	bytes   int64 // what the events take
	events  []wanted
	next    kv.Revision // after errEnough: the first revision that was not read
	short   *shortage   // after errEnough: for next
}

// wanted is an event that groups of the stream need.
type wanted struct {
	*Event
	prev  bool  // some with its previous version
	bytes int64 // what counts for it
}

// add takes a change of the history.
func (r *reading) add(effect *mvcc.Effect) error {
	event := &Event{effect: effect, feed: r.seat.feed}
	plain, prev := r.seat.needs(event)
	if !plain && !prev {
		return nil
	}
	r.events = append(r.events, wanted{Event: event, prev: prev, bytes: pointerBytes + needed(event, plain, prev)})
	return r.count(len(r.events)-1, r.events[len(r.events)-1].bytes)
}

// needed is what an event takes for groups with and without previous versions.
func needed(event *Event, plain, prev bool) (bytes int64) {
	if plain {
		all, _ := event.cost(false)
		bytes += all
	}
	if prev {
		all, _ := event.cost(true)
		bytes += all
	}
	return bytes
}

// loadPrev looks previous versions up, so that what counts for them is true.
func (r *reading) loadPrev() error {
	for i := range r.events {
		w := &r.events[i]
		if !w.prev {
			continue
		}
		guess := w.prevCost()
		if err := w.Event.loadPrev(); err != nil {
			return err
		}
		more := w.prevCost() - guess
		w.bytes += more
		if err := r.count(i, more); err != nil {
			return err
		}
	}
	return nil
}

// count counts more bytes for the i-th event. If there is no memory for them, the reading ends before its revision.
func (r *reading) count(i int, bytes int64) error {
	r.bytes += bytes
	if r.bytes <= r.granted {
		return nil
	}
	revision, first := r.events[i].Revision(), i
	for first > 0 && r.events[first-1].Revision() == revision {
		first--
	}
	if first == 0 {
		// A revision is never split: it gets what it needs, or it waits.
		more := r.seat.stream.setMoreAside(r.bytes - r.granted)
		if r.granted += more; more > 0 {
			return nil
		}
		r.short = &shortage{revision: revision, bytes: r.bytes}
	}
	clear(r.events[first:])
	r.events, r.next = r.events[:first], revision
	return errEnough
}

func (s *Stream) setMoreAside(bytes int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meter.setMoreAside(bytes)
}

// needs tells whether groups that take part in the step need the event, with its previous version and without.
func (t *seat) needs(event *Event) (plain, prev bool) {
	s := t.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step.spots = t.lagIndex.match(event.Key(), s.step.spots[:0])
	for _, spot := range s.step.spots {
		s.hub.walked(len(spot.groups))
		for _, g := range spot.groups {
			if g.scan >= t.scan && event.Revision() >= g.next && !g.rejects(event) {
				plain = plain || !g.want.prevKV
				prev = prev || g.want.prevKV
			}
		}
	}
	return plain, prev
}
