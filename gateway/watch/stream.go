package watch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Stream is the watches of one client connection. Create, Cancel and RequestProgress put their
// answers into the same order as events, to be taken by Next. One goroutine
// calls Next; the others may be called from any.
type Stream struct {
	hub              *Hub
	number           uint64 // in the order of their making
	authorize        func(kv.Span) error
	progressInterval time.Duration
	wake             chan struct{} // something for Next
	room             chan struct{} // Next made room for control batches
	closedC          chan struct{}

	mu       sync.Mutex
	outbox   outbox
	watchers map[ID]*watcher
	seats    seats
	nextID   ID
	turns    int // batches taken since the last catch-up step
	closed   bool
	progress progress
	meter    meter
	step     step

	hunger   hunger
	starving bool // guarded by the lock of the hub's starved

	// Guarded by the hub's lock.
	held, touched bool
}

// NewStream returns a stream. authorize (nil: everything is allowed) is asked for every watch. What the stream holds for its client is
// reserved of memory (nil: nobody counts).
func (h *Hub) NewStream(authorize func(kv.Span) error, memory Memory) (*Stream, error) {
	interval := h.options.ProgressInterval
	s := &Stream{
		hub: h, authorize: authorize,
		progressInterval: interval + time.Duration(h.options.Jitter(int64(interval)/10)),
		wake:             make(chan struct{}, 1), room: make(chan struct{}, 1), closedC: make(chan struct{}),
		watchers: map[ID]*watcher{}, meter: meter{memory: memory},
	}
	s.progress = newProgress(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	h.lastNumber++
	s.number = h.lastNumber
	h.streams[s] = struct{}{}
	if h.only != nil {
		s.seats.take(s, &h.only.feed)
	}
	h.periodic.fresh = append(h.periodic.fresh, s)
	return s, nil
}

// Close frees everything; Next returns ErrClosed.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.closedC)
	h.watches -= len(s.watchers)
	delete(h.streams, s)
	h.unask(&s.progress.all)
	h.periodic.queue.remove(s)
	for _, seat := range slices.Clone(s.seats.list) {
		for _, g := range seat.liveGroups() {
			seat.feed.live.remove(g)
		}
		s.seats.leave(seat)
	}
	s.outbox.clear()
	s.meter.close()
	s.watchers = nil
	s.progress.future = nil
}

// Create adds a watch. The answer, or the refusal, comes as a batch; the returned ID is NoID when the watch was
// refused. It waits while too many answers are unsent.
func (s *Stream) Create(ctx context.Context, request CreateRequest) (ID, error) {
	if err := s.waitForRoom(ctx); err != nil {
		return NoID, err
	}
	if len(request.Span.Start) == 0 {
		request.Span.Start = []byte{0}
	}
	shards, refusal := s.check(request)
	if err := s.lock(); err != nil {
		return NoID, err
	}
	defer s.unlock()
	h := s.hub
	defer s.signal()
	present := h.present()
	if _, taken := s.watchers[request.ID]; refusal == nil && taken && request.ID != AutoID {
		refusal = ErrDuplicateID
	}
	if refusal == nil && h.watches >= h.options.MaxWatches {
		refusal = kv.ErrTooManyRequests
	}
	var seat *seat
	if refusal == nil {
		seat, refusal = s.seatFor(shards, watcherBytes+groupCost(request.Span))
	}
	if refusal != nil {
		s.outbox.push(&Batch{Kind: KindCreated, IDs: []ID{NoID}, Revision: present, Err: refusal})
		return NoID, nil
	}
	w := &watcher{id: s.takeID(request.ID), start: request.StartRevision, notify: request.ProgressNotify}
	s.watchers[w.id] = w
	s.progress.add(w, seat.feed.dispatched)
	h.watches++
	s.outbox.push(&Batch{Kind: KindCreated, IDs: []ID{w.id}, Revision: present})
	seat.enlist(w, request, present)
	seat.feed.listen()
	return w.id, nil
}

// check tells why a request is refused, whatever the state, and otherwise what shards it is about.
func (s *Stream) check(request CreateRequest) ([]*Shard, error) {
	switch {
	case request.StartRevision < 0:
		return nil, kv.ErrCompacted // etcd's answer
	case request.Span.Empty():
		return nil, ErrEmptyRange
	case s.authorize != nil:
		if err := s.authorize(request.Span); err != nil {
			return nil, err
		}
	}
	return s.hub.shardsOf(request.Span)
}

// seatFor returns the stream's seat on the feed of the shards, perhaps a new one, when there is memory for a watch that takes so many bytes.
func (s *Stream) seatFor(shards []*Shard, watchBytes int64) (*seat, error) {
	f, open := s.hub.feedOf(shards)
	seat := s.seats.find(f)
	if seat == nil {
		watchBytes += s.seats.cost()
	}
	if !s.meter.addWatch(watchBytes) {
		return nil, kv.ErrTooManyRequests
	}
	if seat == nil {
		if f == nil {
			f = open()
		}
		seat = s.seats.take(s, f)
	}
	return seat, nil
}

func (s *Stream) takeID(chosen ID) ID {
	if chosen != AutoID {
		return chosen
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	s.nextID++
	return s.nextID - 1
}

// Cancel ends a watch. There is no answer when there is no such watch.
func (s *Stream) Cancel(ctx context.Context, id ID) error {
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	if err := s.lock(); err != nil {
		return err
	}
	defer s.unlock()
	h := s.hub
	w := s.watchers[id]
	if w == nil {
		return nil
	}
	s.outbox.push(&Batch{Kind: KindCanceled, IDs: []ID{id}, Revision: h.present()})
	f := w.group.seat.feed
	s.forget(w)
	s.answerProgress() // nothing may be lagging any more
	f.listen()
	s.signal()
	return nil
}

// forget removes a watcher. The locks of the hub and of the stream are held.
func (s *Stream) forget(w *watcher) {
	seat := w.group.seat
	delete(s.watchers, w.id)
	s.hub.watches--
	s.progress.remove(w)
	s.meter.dropWatch(watcherBytes)
	w.group.leave(w)
	seat.remove(w)
	if len(w.group.watchers) == 0 {
		seat.dissolve(w.group)
	}
	if seat.watches == 0 && s.hub.only == nil {
		s.seats.leave(seat)
		s.meter.dropWatch(seat.bytes)
	}
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lock takes the hub's lock and the stream's, in that order, if the stream is not closed.
func (s *Stream) lock() error {
	s.hub.mu.Lock()
	s.mu.Lock()
	if s.closed {
		s.unlock()
		return ErrClosed
	}
	return nil
}

func (s *Stream) unlock() {
	s.mu.Unlock()
	s.hub.mu.Unlock()
}

// waitForRoom waits until the outbox takes control batches: there are few, and there is memory for one more.
func (s *Stream) waitForRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		full, closed := s.outbox.control >= s.hub.options.MaxControl, s.closed
		if !full && !closed && s.outbox.control >= freeAnswers {
			full = !s.meter.fits(s.outbox.heldBytes + batchCost(1))
		}
		s.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case !full:
			return nil
		}
		select {
		case <-s.room:
		case <-s.closedC:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
