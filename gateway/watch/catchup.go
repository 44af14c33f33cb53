package watch

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// catchUp does one bounded step for the lagging groups that are farthest behind, and for all others that the
// same changes serve. It runs in the consumer's goroutine, so only a consumer that asks for more causes work.
func (s *Stream) catchUp() error {
	from, done := s.catchUpFromMemory(0)
	if done {
		return nil
	}
	view, err := s.hub.options.Source.View()
	if err != nil {
		return fmt.Errorf("watch: open the history for a watch that is behind: %w", err)
	}
	defer view.Close()
	if from < view.Compacted() {
		s.catchUpFromMemory(view.Compacted())
		return nil
	}
	if view.Revision() < from {
		return nil // the feed was ahead of the view; the next step finds it in the ring
	}
	return s.catchUpFromHistory(view, from)
}

// catchUpFromMemory ends watches that need compacted changes, serves the rest from the ring if that reaches back
// far enough, and lets those that are up to date rejoin the feed. Otherwise it begins a step from history: from is
// the first revision it must read.
func (s *Stream) catchUpFromMemory(compacted kv.Revision) (from kv.Revision, done bool) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer h.listen()
	h.sync()
	s.endCompacted(max(compacted, h.options.Source.Compacted()))
	s.rejoin()
	if len(s.lagging) == 0 {
		s.answerProgress(h.dispatched)
		return 0, true
	}
	h.walked(len(s.lagging))
	from = s.lagging[0].next
	for _, g := range s.lagging {
		from = min(from, g.next)
	}
	h.feedMu.Lock()
	records, ok := h.feed.from(from, dispatchRecords, nil)
	h.feedMu.Unlock()
	if !ok {
		s.scan++
		for _, g := range s.lagging {
			g.scan = s.scan
		}
		return from, false
	}
	h.metrics.ringReads.Add(1)
	s.serveFromRing(records)
	s.rejoin()
	s.answerProgress(h.dispatched)
	return 0, true
}

// endCompacted ends the watches of lagging groups that need changes below the compacted revision.
func (s *Stream) endCompacted(compacted kv.Revision) {
	s.hub.walked(len(s.lagging))
	for i := len(s.lagging) - 1; i >= 0; i-- {
		g := s.lagging[i]
		if g.next >= compacted {
			continue
		}
		s.outbox.push(&Batch{
			Kind: KindCanceled, IDs: g.listIDs(), Revision: s.hub.options.Source.Revision(), CompactRevision: compacted,
		})
		for len(g.watchers) > 0 {
			s.forget(g.watchers[len(g.watchers)-1])
		}
	}
}

// rejoin puts the groups that need nothing of what was dispatched back into the feed.
func (s *Stream) rejoin() {
	h := s.hub
	h.walked(len(s.lagging))
	for i := len(s.lagging) - 1; i >= 0; i-- {
		if g := s.lagging[i]; g.next > h.dispatched {
			s.unlag(g)
			s.goLive(g)
		}
	}
}

// serveFromRing hands records to the lagging groups, not beyond what was dispatched, until a chunk is full.
func (s *Stream) serveFromRing(records []*record) {
	h := s.hub
	var spots []*spot
	sizeBytes := 0
	end := kv.Revision(0) // everything up to it was looked at
	for _, rec := range records {
		if rec.first > h.dispatched || sizeBytes >= h.options.ChunkBytes {
			break
		}
		for i := range rec.effects {
			if rec.effects[i].At.Rev > h.dispatched {
				break
			}
			spots = s.lagIndex.match(rec.effects[i].Key, spots[:0])
			for _, spot := range spots {
				sizeBytes += s.offerLagging(spot, rec.event(h, i), 0)
			}
		}
		end = min(rec.last, h.dispatched)
	}
	for _, g := range s.lagging {
		s.advance(g, end+1)
	}
}

// offerLagging gives an event to the groups of the spot that still need it and, if scan is not 0, take part
// in that step. It returns the bytes put into the outbox.
func (s *Stream) offerLagging(spot *spot, event *Event, scan uint64) (sizeBytes int) {
	s.hub.walked(len(spot.groups))
	for _, g := range spot.groups {
		if g.scan < scan || event.Revision() < g.next || g.rejects(event) {
			continue
		}
		s.outbox.append(g, event, s.hub.options.BatchBytes)
		s.hub.metrics.deliveries.Add(1)
		sizeBytes += event.sizeBytes()
	}
	return sizeBytes
}

// catchUpFromHistory reads a chunk of history and hands it to the groups that took part in the step from its beginning.
func (s *Stream) catchUpFromHistory(view View, from kv.Revision) error {
	s.hub.metrics.historyReads.Add(1)
	var events []*Event
	var spots []*spot
	next, err := view.History(from, view.Revision(), int64(s.hub.options.ChunkBytes), func(effect *mvcc.Effect) error {
		s.mu.Lock()
		spots = s.lagIndex.match(effect.Key, spots[:0])
		s.mu.Unlock()
		if len(spots) > 0 {
			events = append(events, &Event{effect: effect, hub: s.hub})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("watch: read history from revision %d: %w", from, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range events {
		spots = s.lagIndex.match(event.Key(), spots[:0])
		for _, spot := range spots {
			s.offerLagging(spot, event, s.scan)
		}
	}
	for _, g := range s.lagging {
		if g.scan >= s.scan {
			s.advance(g, next)
		}
	}
	return nil
}
