package watch

import (
	"context"
	"slices"
)

// turnsPerCatchUp: after so many batches taken, lagging groups get a step although more batches wait.
const turnsPerCatchUp = 16

// Next returns what is to be sent next; it waits until there is something, and until there is memory for it. What it
// returned before has been passed on: its memory is given back. An error ends the stream: the client is told to come back.
func (s *Stream) Next(ctx context.Context) (*Batch, error) {
	for {
		batch, again, err := s.try()
		if err != nil || batch != nil {
			return batch, err
		}
		if again {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		select {
		case <-s.wake:
		case <-s.closedC:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Poll is Next for whoever must not wait: nil means that there is nothing to be sent now.
func (s *Stream) Poll() (*Batch, error) {
	for {
		batch, again, err := s.try()
		if err != nil || batch != nil || !again {
			return batch, err
		}
	}
}

// try returns a batch, or does a step of catching up if it is time for one. again is false when there is nothing to be done before
// the stream is woken.
func (s *Stream) try() (batch *Batch, again bool, err error) {
	batch, behind, err := s.take()
	if err != nil || batch == nil && !behind {
		return nil, false, err
	}
	var short *shortage
	if batch != nil {
		batch, short, err = s.loadPrev(batch)
	} else {
		short, err = s.catchUp()
		again = short == nil || !s.drained() // without memory for a step, batches may still be sent
	}
	switch {
	case err != nil:
		return nil, false, err
	case short == nil:
		s.hunger = hunger{}
	case !again:
		err = s.await(short)
	}
	return batch, again, err
}

// take returns the oldest batch, or tells that it is time for a step of catching up.
func (s *Stream) take() (batch *Batch, behind bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	s.outbox.passedOn()
	defer func() { s.meter.trim(s.outbox.heldBytes) }()
	behind = s.seats.lagging > 0
	if behind && s.turns >= turnsPerCatchUp && s.outbox.sizeBytes < s.hub.options.StreamBytes/2 {
		s.turns = 0
		return nil, true, nil
	}
	for {
		batch = s.outbox.pop()
		if batch == nil {
			s.turns = 0
			return nil, behind, nil
		}
		if batch.Kind != KindEvents {
			select {
			case s.room <- struct{}{}:
			default:
			}
			break
		}
		s.release(batch)
		if len(batch.Events) > 0 { // all may have been retracted
			break
		}
		s.outbox.passedOn()
	}
	s.turns++
	return batch, behind, nil
}

// release makes sure that nobody adds events to a batch that was taken.
func (s *Stream) release(batch *Batch) {
	if w := s.watchers[batch.IDs[0]]; w != nil && w.group.open == batch {
		w.group.open = nil
	}
}

// drained tells whether nothing waits to be taken.
func (s *Stream) drained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outbox.empty()
}

// loadPrev looks previous versions up, in the consumer's time. What they take was guessed when the events came in; if there is
// no memory for what they take in truth, the batch ends before the revision that does not fit, and the rest goes
// back to the outbox.
func (s *Stream) loadPrev(b *Batch) (*Batch, *shortage, error) {
	if !b.PrevKV {
		return b, nil, nil
	}
	if b.wantedBytes > 0 && !s.cover(b, b.wantedBytes) { // nothing is looked up again in vain
		return s.cut(b, 0, b.wantedBytes)
	}
	b.wantedBytes = 0
	if slices.ContainsFunc(b.Events, (*Event).lacksPrev) {
		s.hub.readers.enter()
		defer s.hub.readers.leave()
	}
	loaded := int64(0)
	for i, event := range b.Events {
		event, err := event.withPrev()
		if err != nil {
			return nil, nil, err
		}
		loaded += event.prevCost()
		if more := loaded - b.prevBytes; more > 0 && !s.cover(b, more) {
			return s.cut(b, i, more)
		}
		b.Events[i] = event // which would be held, so only now
	}
	return b, nil, nil
}

// cover reserves more for a batch that was taken.
func (s *Stream) cover(b *Batch, more int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.meter.fits(s.outbox.heldBytes+more) {
		return false
	}
	s.outbox.grow(b, more)
	return true
}

// cut puts a batch back that was taken, from the revision of the i-th event on, for which more memory was needed.
// It returns what comes before; without that there is a shortage.
func (s *Stream) cut(b *Batch, i int, more int64) (*Batch, *shortage, error) {
	revision := b.Events[i].Revision()
	for i > 0 && b.Events[i-1].Revision() == revision {
		i--
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	if i == 0 {
		b.wantedBytes = more
		s.outbox.putBack(b)
		return nil, &shortage{revision: revision, bytes: b.heldBytes + more}, nil
	}
	s.outbox.putBack(s.outbox.split(b, i))
	return b, nil, nil
}
