package watch

import (
	"cmp"
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
	groups   groups
	nextID   ID
	lagging  []*group // in no order
	lagPrev  int      // how many of them want previous versions
	lagIndex index
	scan     uint64 // number of the running or last catch-up step
	turns    int    // batches taken since the last catch-up step
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
		watchers: map[ID]*watcher{}, groups: newGroups(), progress: newProgress(), meter: meter{memory: memory},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	h.lastNumber++
	s.number = h.lastNumber
	h.streams[s] = struct{}{}
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
	for _, g := range s.liveGroups() {
		h.live.remove(g)
	}
	h.watches -= len(s.watchers)
	delete(h.streams, s)
	h.unask(s)
	h.periodic.queue.remove(s)
	h.listen()
	s.outbox.clear()
	s.meter.close()
	s.watchers, s.groups, s.lagging, s.lagIndex = nil, groups{}, nil, index{}
	s.progress.future, s.progress.notify = nil, nil
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
	refusal := s.check(request)
	if err := s.lock(); err != nil {
		return NoID, err
	}
	defer s.unlock()
	h := s.hub
	defer s.signal()
	applied := h.options.Source.Revision()
	if _, taken := s.watchers[request.ID]; refusal == nil && taken && request.ID != AutoID {
		refusal = ErrDuplicateID
	}
	if refusal == nil && h.watches >= h.options.MaxWatches {
		refusal = kv.ErrTooManyRequests
	}
	if refusal == nil && !s.meter.addWatch(watcherBytes+groupCost(request.Span)) {
		refusal = kv.ErrTooManyRequests
	}
	if refusal != nil {
		s.outbox.push(&Batch{Kind: KindCreated, IDs: []ID{NoID}, Revision: applied, Err: refusal})
		return NoID, nil
	}
	w := &watcher{id: s.takeID(request.ID), start: request.StartRevision, notify: request.ProgressNotify}
	s.watchers[w.id] = w
	s.progress.add(w, h.dispatched)
	h.watches++
	s.outbox.push(&Batch{Kind: KindCreated, IDs: []ID{w.id}, Revision: applied})
	s.enlist(w, request, applied)
	h.listen()
	return w.id, nil
}

// check tells why a request is refused, whatever the state.
func (s *Stream) check(request CreateRequest) error {
	switch {
	case request.StartRevision < 0:
		return kv.ErrCompacted // etcd's answer
	case request.Span.Empty():
		return ErrEmptyRange
	case s.authorize != nil:
		return s.authorize(request.Span)
	}
	return nil
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

// enlist puts the watcher into a group that wants the same, or into a new one: a live group when
// all it needs is yet to be dispatched.
func (s *Stream) enlist(w *watcher, request CreateRequest, applied kv.Revision) {
	h := s.hub
	h.sync()
	next := request.StartRevision
	if next == 0 {
		next = applied + 1
	}
	live := next > h.dispatched
	want := want{
		start: string(request.Span.Start), end: string(request.Span.End),
		filters: request.Filters, prevKV: request.PrevKV, fragment: request.Fragment,
	}
	if g := s.groups.find(origin{want, next, live}, h.dispatched); g != nil {
		g.join(w)
		s.meter.dropWatch(groupCost(request.Span)) // the group's own was reserved when it was made
		return
	}
	h.lastNumber++
	g := &group{stream: s, number: h.lastNumber, want: want, next: next, waitAt: -1}
	g.span = kv.Span{Start: []byte(want.start), End: []byte(want.end)}
	g.join(w)
	s.groups.all[g] = struct{}{}
	if live {
		s.goLive(g)
	} else {
		s.lag(g)
	}
}

// goLive puts a group into the feed. The locks of the hub and of the stream are held.
func (s *Stream) goLive(g *group) {
	g.live = true
	s.hub.live.add(g, s.hub.dispatched)
	s.groups.list(g)
	if g.next <= s.hub.dispatched+1 {
		s.groups.listCurrent(g)
	}
}

// lag notes a group as lagging.
func (s *Stream) lag(g *group) {
	g.live, g.scan, g.lagAt = false, 0, len(s.lagging)
	s.step.short = nil
	s.lagPrev += kindOf(g)
	s.lagging = append(s.lagging, g)
	s.lagIndex.add(g)
	s.groups.list(g)
}

// unlag is the opposite of lag. It moves the last lagging group into the gap.
func (s *Stream) unlag(g *group) {
	s.groups.unlist(g)
	s.step.short = nil
	s.lagPrev -= kindOf(g)
	s.lagIndex.remove(g)
	last := len(s.lagging) - 1
	s.lagging[g.lagAt] = s.lagging[last]
	s.lagging[g.lagAt].lagAt = g.lagAt
	s.lagging[last] = nil
	s.lagging = s.lagging[:last]
}

// advance notes that a lagging group has got everything below next.
func (s *Stream) advance(g *group, next kv.Revision) {
	if next > g.next {
		s.groups.unlist(g)
		g.next = next
		s.groups.list(g)
	}
}

// liveGroups returns them in the order of their making.
func (s *Stream) liveGroups() (live []*group) {
	for g := range s.groups.all { // sorted below
		if g.live {
			live = append(live, g)
		}
	}
	s.hub.walked(len(s.groups.all))
	slices.SortFunc(live, func(a, b *group) int { return cmp.Compare(a.number, b.number) })
	return live
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
	s.outbox.push(&Batch{Kind: KindCanceled, IDs: []ID{id}, Revision: h.options.Source.Revision()})
	s.forget(w)
	s.answerProgress(h.dispatched) // nothing may be lagging any more
	h.listen()
	s.signal()
	return nil
}

// forget removes a watcher. The locks of the hub and of the stream are held.
func (s *Stream) forget(w *watcher) {
	delete(s.watchers, w.id)
	s.hub.watches--
	s.progress.remove(w)
	s.meter.dropWatch(watcherBytes)
	w.group.leave(w)
	if len(w.group.watchers) == 0 {
		s.dissolve(w.group)
	}
}

// dissolve removes a group from everywhere.
func (s *Stream) dissolve(g *group) {
	if g.live {
		s.hub.live.remove(g)
		s.groups.unlist(g)
	} else {
		s.unlag(g)
	}
	delete(s.groups.all, g)
	s.meter.dropWatch(groupCost(g.span))
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
