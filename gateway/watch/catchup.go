package watch

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// step is what the steps of a stream's catching up keep at hand. Guarded by the stream's lock.
type step struct {
	left    int64  // of what was granted to the running one
	served  bool   // the running one has put something into the outbox
	costing uint64 // number of the last reckoning of what a revision costs

	// Scratch.
	spots  []*spot
	offers []offer
}

// catchUp does one bounded step for the lagging groups of a feed that are farthest behind, and for all others there that the
// same changes serve. It runs in the consumer's goroutine, so only a consumer that asks for more causes work.
// With a shortage nothing was done.
func (s *Stream) catchUp() (*shortage, error) {
	s.hub.readers.enter()
	defer s.hub.readers.leave()
	t, granted, short := s.beginStep()
	if t == nil {
		return short, nil
	}
	defer s.endStep(t)
	from, done, short := t.catchUpFromMemory(0, granted)
	if done {
		return short, nil
	}
	view, err := t.feed.freeze()
	if err != nil {
		return nil, fmt.Errorf("watch: open the history for a watch that is behind: %w", err)
	}
	defer view.Close()
	if from < view.compacted {
		_, _, short := t.catchUpFromMemory(view.compacted, granted)
		return short, nil
	}
	if view.completeTo < from {
		return nil, nil // the feed was ahead of the view; the next step finds it in the ring
	}
	return t.catchUpFromHistory(view, from, granted)
}

// beginStep chooses a seat with lagging groups, and reserves what a step may read, before anything is looked at. Without a seat there is nothing to do,
// or a shortage.
func (s *Stream) beginStep() (t *seat, granted int64, short *shortage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.seats.behind(); t == nil {
		return nil, 0, nil
	}
	if short = t.short; short == nil {
		short = &shortage{}
	}
	if short.bytes <= smallBytes {
		short = &shortage{} // any step would do
	}
	ample := 2 * int64(s.hub.options.ChunkBytes) // encodings are as large as what they encode
	if t.lagPrev > 0 {
		ample *= 2
	}
	if granted = s.meter.setAside(ample, short.bytes); granted == 0 {
		return nil, 0, short
	}
	return t, granted, nil
}

// endStep has the next step begin with another seat, unless this one got no room for something.
func (s *Stream) endStep(t *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.short == nil {
		s.seats.turn = t.at + 1
	}
	s.meter.useAside()
	s.meter.trim(s.outbox.heldBytes)
}

// catchUpFromMemory ends watches that need compacted changes, serves the rest from the ring if that reaches back
// far enough, and lets those that are up to date rejoin the feed. Otherwise it begins a step from history: from is
// the first revision it must read.
func (t *seat) catchUpFromMemory(compacted kv.Revision, granted int64) (from kv.Revision, done bool, short *shortage) {
	s, f := t.stream, t.feed
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer f.listen()
	f.sync()
	t.endCompacted(max(compacted, f.compacted()))
	t.rejoin()
	if len(t.lagging) == 0 {
		s.answerProgress()
		return 0, true, nil
	}
	h.walked(len(t.lagging))
	from = t.lagging[0].next
	for _, g := range t.lagging {
		from = min(from, g.next)
	}
	h.feedMu.Lock()
	records, ok := f.ring.from(from, dispatchRecords, nil)
	h.feedMu.Unlock()
	if !ok {
		t.scan++
		for _, g := range t.lagging {
			g.scan = t.scan
		}
		return from, false, nil
	}
	h.metrics.ringReads.Add(1)
	short = t.serveFromRing(records, from, granted)
	t.rejoin()
	s.answerProgress()
	return 0, true, short
}

// endCompacted ends the watches of lagging groups that need changes below the compacted revision.
func (t *seat) endCompacted(compacted kv.Revision) {
	s := t.stream
	s.hub.walked(len(t.lagging))
	for i := len(t.lagging) - 1; i >= 0; i-- {
		g := t.lagging[i]
		if g.next >= compacted {
			continue
		}
		s.outbox.push(&Batch{
			Kind: KindCanceled, IDs: g.listIDs(), Revision: s.hub.present(), CompactRevision: compacted,
		})
		for len(g.watchers) > 0 {
			s.forget(g.watchers[len(g.watchers)-1])
		}
	}
}

// rejoin puts the groups that need nothing of what was dispatched back into the feed.
func (t *seat) rejoin() {
	t.stream.hub.walked(len(t.lagging))
	for i := len(t.lagging) - 1; i >= 0; i-- {
		if g := t.lagging[i]; g.next > t.feed.dispatched {
			t.unlag(g)
			t.goLive(g)
		}
	}
}

// serveFromRing hands records to the lagging groups, not beyond what was dispatched, until a chunk is full or there is no memory for the
// next revision. With a shortage that one is from, the first.
func (t *seat) serveFromRing(records []*record, from kv.Revision, granted int64) *shortage {
	s := t.stream
	s.beginServing(granted)
	sizeBytes := 0
	end := kv.Revision(0) // everything up to it was looked at
	var short *shortage
	for _, rec := range records {
		if rec.first > t.feed.dispatched || sizeBytes >= s.hub.options.ChunkBytes || short != nil {
			break
		}
		var size int
		size, end, short = t.serveRecord(rec)
		sizeBytes += size
	}
	return t.advanceAll(from, end+1, 0, short)
}

// serveRecord hands a record to the lagging groups, up to end.
func (t *seat) serveRecord(rec *record) (sizeBytes int, end kv.Revision, short *shortage) {
	s, dispatched := t.stream, t.feed.dispatched
	for at := (position{}); ; {
		revision, ok := rec.revisionAt(at)
		if !ok || revision > dispatched {
			break
		}
		at = rec.eachOfRevision(at, func(p *part, i int) {
			s.step.spots = t.lagIndex.match(p.effects[i].Key, s.step.spots[:0])
			if len(s.step.spots) > 0 {
				s.collect(s.step.spots, p.event(i), 0)
			}
		})
		size, short := s.serveOffers(revision)
		if short != nil {
			return sizeBytes, revision - 1, short
		}
		sizeBytes += size
	}
	return sizeBytes, min(rec.last, dispatched), nil
}

// offer is an event and a group that is to get it.
type offer struct {
	group *group
	event *Event
}

// collect adds to the stream's offers those of an event to the groups of the spots that still need it and, if scan is not 0, take part
// in that step.
func (s *Stream) collect(spots []*spot, event *Event, scan uint64) {
	for _, spot := range spots {
		s.hub.walked(len(spot.groups))
		for _, g := range spot.groups {
			if g.scan >= scan && event.Revision() >= g.next && !g.rejects(event) {
				s.step.offers = append(s.step.offers, offer{g, event})
			}
		}
	}
}

// beginServing makes what was set aside for a step available to what the step puts into the outbox.
func (s *Stream) beginServing(granted int64) {
	s.meter.useAside()
	s.step.left, s.step.served = granted, false
}

// serveOffers puts what was collected, which is one revision's, into the outbox, if what was granted to the step suffices for all of it. The
// first revision of a step may take more, if there is memory. It returns the bytes.
func (s *Stream) serveOffers(revision kv.Revision) (sizeBytes int, short *shortage) {
	defer s.clearOffers()
	if len(s.step.offers) == 0 {
		return 0, nil
	}
	cost := s.cost(s.step.offers)
	if s.step.served && cost > s.step.left || !s.meter.fits(s.outbox.heldBytes+cost) {
		return 0, &shortage{revision: revision, bytes: cost}
	}
	s.step.served = true
	s.step.left -= cost
	for _, o := range s.step.offers {
		s.outbox.append(o.group, o.event, s.hub.options.BatchBytes)
		s.hub.metrics.deliveries.Add(1)
		sizeBytes += o.event.sizeBytes()
	}
	return sizeBytes, nil
}

// clearOffers forgets what was collected, and the room for it after a large revision.
func (s *Stream) clearOffers() {
	const keep = 1024
	clear(s.step.offers)
	if s.step.offers = s.step.offers[:0]; cap(s.step.offers) > keep {
		s.step.offers = nil
	}
}

// cost is what the offers, of one revision, will take in the outbox, and rather more than less.
func (s *Stream) cost(offers []offer) (cost int64) {
	s.step.costing++
	var last [2]*Event
	for _, o := range offers {
		cost += pointerBytes
		if o.group.costed != s.step.costing && s.outbox.opens(o.group, o.event.Revision(), s.hub.options.BatchBytes) {
			o.group.costed = s.step.costing
			cost += batchCost(len(o.group.watchers))
		}
		if kind := kindOf(o.group); last[kind] != o.event {
			bytes, _ := o.event.cost(o.group.want.prevKV)
			last[kind] = o.event
			cost += bytes
		}
	}
	return cost
}

// advanceAll notes that the lagging groups that took part in the step, which began at from, have got everything below next. The next
// step begins with what there was no memory for. That is a shortage only if this one has brought nothing.
func (t *seat) advanceAll(from, next kv.Revision, scan uint64, short *shortage) *shortage {
	for _, g := range t.lagging {
		if g.scan >= scan {
			t.advance(g, next)
		}
	}
	t.short = short
	if next > from {
		return nil
	}
	return short
}

// catchUpFromHistory reads a chunk of history and hands it to the groups that took part in the step from its beginning.
func (t *seat) catchUpFromHistory(view *frozen, from kv.Revision, granted int64) (*shortage, error) {
	s := t.stream
	s.hub.metrics.historyReads.Add(1)
	r := reading{seat: t, granted: granted}
	// What was set aside is for the changes, their encodings and more, which are not there yet: what is read ahead is covered by it.
	chunk := int64(s.hub.options.ChunkBytes)
	next, err := view.history(from, chunk, min(chunk, granted/4), r.add)
	if err == nil {
		err = r.loadPrev()
	}
	if errors.Is(err, errEnough) {
		next, err = r.next, nil
	}
	if err != nil {
		return nil, fmt.Errorf("watch: read history from revision %d: %w", from, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginServing(r.granted)
	short := r.short
	for i := 0; i < len(r.events); {
		revision := r.events[i].Revision()
		for ; i < len(r.events) && r.events[i].Revision() == revision; i++ {
			s.step.spots = t.lagIndex.match(r.events[i].Key(), s.step.spots[:0])
			s.collect(s.step.spots, r.events[i].Event, t.scan)
		}
		if _, refused := s.serveOffers(revision); refused != nil {
			next, short = revision, refused
			break
		}
	}
	return t.advanceAll(from, next, t.scan, short), nil
}
