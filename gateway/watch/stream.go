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
	groups   map[want][]*group
	nextID   ID
	lagging  []*group
	lagIndex index
	scan     uint64 // number of the running or last catch-up step
	turns    int    // batches taken since the last catch-up step
	closed   bool
	// A progress request waits until dispatched has reached progressWant and nothing lags.
	progressPending bool
	progressWant    kv.Revision
	progressAt      time.Duration // of periodic progress

	// Guarded by the hub's lock.
	held, touched, asking bool
}

// turnsPerCatchUp: after so many batches taken, lagging groups get a step although more batches wait.
const turnsPerCatchUp = 16

// NewStream returns a stream. authorize (nil: everything is allowed) is asked for every watch.
func (h *Hub) NewStream(authorize func(kv.Span) error) (*Stream, error) {
	interval := h.options.ProgressInterval
	s := &Stream{
		hub: h, authorize: authorize,
		progressInterval: interval + time.Duration(h.options.Jitter(int64(interval)/10)),
		wake:             make(chan struct{}, 1), room: make(chan struct{}, 1), closedC: make(chan struct{}),
		watchers: map[ID]*watcher{}, groups: map[want][]*group{},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	h.lastNumber++
	s.number = h.lastNumber
	h.streams[s] = struct{}{}
	h.progressAt = 0
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
		h.index.remove(g)
	}
	h.watches -= len(s.watchers)
	delete(h.streams, s)
	for i, other := range h.asking {
		if other == s {
			h.asking = append(h.asking[:i], h.asking[i+1:]...)
			break
		}
	}
	h.listen()
	s.outbox.clear()
	s.watchers, s.groups, s.lagging, s.lagIndex = nil, nil, nil, index{}
}

// Revision is the store's revision, for headers.
func (s *Stream) Revision() kv.Revision { return s.hub.options.Source.Revision() }

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
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return NoID, ErrClosed
	}
	defer s.signal()
	applied := h.options.Source.Revision()
	if _, taken := s.watchers[request.ID]; refusal == nil && taken && request.ID != AutoID {
		refusal = ErrDuplicateID
	}
	if refusal == nil && h.watches >= h.options.MaxWatches {
		refusal = kv.ErrTooManyRequests
	}
	if refusal != nil {
		s.outbox.push(&Batch{Kind: KindCreated, IDs: []ID{NoID}, Revision: applied, Err: refusal})
		return NoID, nil
	}
	w := &watcher{id: s.takeID(request.ID), start: request.StartRevision, notify: request.ProgressNotify}
	s.watchers[w.id] = w
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
	for _, g := range s.groups[want] {
		// A live group's next only says where it began.
		upToDate := live && g.live && g.next <= h.dispatched+1 && next == h.dispatched+1
		if upToDate || g.live == live && g.next == next {
			g.join(w)
			return
		}
	}
	h.lastNumber++
	g := &group{stream: s, number: h.lastNumber, want: want, next: next, live: live}
	g.span = kv.Span{Start: []byte(want.start), End: []byte(want.end)}
	g.join(w)
	s.groups[want] = append(s.groups[want], g)
	if live {
		h.index.add(g)
	} else {
		s.lag(g)
	}
}

func (g *group) join(w *watcher) {
	w.group, w.seen = g, g.count
	g.watchers = append(g.watchers, w)
	g.newIDs()
}

// newIDs follows a change of membership: batches made before keep their IDs and take no more events.
func (g *group) newIDs() {
	g.open = nil
	g.ids = make([]ID, len(g.watchers))
	for i, w := range g.watchers {
		g.ids[i] = w.id
	}
}

// lag notes a group as lagging.
func (s *Stream) lag(g *group) {
	g.scan = 0
	s.lagging = append(s.lagging, g)
	s.lagIndex.add(g)
}

// unlag is the opposite of lag.
func (s *Stream) unlag(g *group) {
	s.lagIndex.remove(g)
	for i, other := range s.lagging {
		if other == g {
			s.lagging = append(s.lagging[:i], s.lagging[i+1:]...)
			return
		}
	}
}

// liveGroups returns them in the order of their making.
func (s *Stream) liveGroups() (live []*group) {
	for _, groups := range s.groups { // sorted below
		for _, g := range groups {
			if g.live {
				live = append(live, g)
			}
		}
	}
	slices.SortFunc(live, func(a, b *group) int { return cmp.Compare(a.number, b.number) })
	return live
}

// Cancel ends a watch. There is no answer when there is no such watch.
func (s *Stream) Cancel(ctx context.Context, id ID) error {
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	w := s.watchers[id]
	if w == nil {
		return nil
	}
	s.outbox.push(&Batch{Kind: KindCanceled, IDs: []ID{id}, Revision: h.options.Source.Revision()})
	s.forget(w)
	h.listen()
	s.signal()
	return nil
}

// forget removes a watcher. The locks of the hub and of the stream are held.
func (s *Stream) forget(w *watcher) {
	delete(s.watchers, w.id)
	s.hub.watches--
	g := w.group
	for i, other := range g.watchers {
		if other == w {
			g.watchers = append(g.watchers[:i], g.watchers[i+1:]...)
			break
		}
	}
	g.newIDs()
	if len(g.watchers) == 0 {
		s.dissolve(g)
	}
}

// dissolve removes a group from everywhere.
func (s *Stream) dissolve(g *group) {
	if g.live {
		s.hub.index.remove(g)
	} else {
		s.unlag(g)
	}
	groups := s.groups[g.want]
	for i, other := range groups {
		if other == g {
			groups = append(groups[:i], groups[i+1:]...)
			break
		}
	}
	if len(groups) == 0 {
		delete(s.groups, g.want)
		return
	}
	s.groups[g.want] = groups
}

// RequestProgress asks for a batch of KindProgress with NoID. It comes when all watches of the
// stream have their events up to the store's revision of now; like in etcd never when one of them starts
// later than that, or when there is none.
func (s *Stream) RequestProgress(ctx context.Context) error {
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	h.sync()
	s.progressPending, s.progressWant = true, h.options.Source.Revision()
	if !s.answerProgress(h.dispatched) && !s.asking {
		s.asking = true
		h.asking = append(h.asking, s)
		h.listen()
		h.signal()
	}
	s.signal()
	return nil
}

// answerProgress answers a pending request and tells whether none is pending (any more).
func (s *Stream) answerProgress(dispatched kv.Revision) bool {
	if s.closed || !s.progressPending {
		return true
	}
	if dispatched < s.progressWant || len(s.lagging) > 0 {
		return false
	}
	s.progressPending = false
	if len(s.watchers) == 0 {
		return true
	}
	for _, w := range s.watchers {
		if w.start > dispatched {
			return true
		}
	}
	s.outbox.push(&Batch{Kind: KindProgress, IDs: []ID{NoID}, Revision: dispatched})
	return true
}

// notifyProgress tells the watches that asked for it, and got no events since the last time, how far they are.
func (s *Stream) notifyProgress(dispatched kv.Revision) {
	var ids []ID
	for _, groups := range s.groups {
		for _, g := range groups {
			for _, w := range g.watchers {
				idle := w.seen == g.count
				w.seen = g.count
				if w.notify && idle && g.live && w.start <= dispatched {
					ids = append(ids, w.id)
				}
			}
		}
	}
	slices.Sort(ids)
	// A consumer that is behind needs no reminders.
	if len(ids) > 0 && s.outbox.control < s.hub.options.MaxControl {
		s.outbox.push(&Batch{Kind: KindProgress, IDs: ids, Revision: dispatched})
	}
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// waitForRoom waits until the outbox takes control batches.
func (s *Stream) waitForRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		full, closed := s.outbox.control >= s.hub.options.MaxControl, s.closed
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

// Next returns what is to be sent next; it waits until there is something. An error ends the stream:
// the client is told to come back.
func (s *Stream) Next(ctx context.Context) (*Batch, error) {
	for {
		batch, behind, err := s.take()
		if err != nil {
			return nil, err
		}
		if batch != nil {
			return batch, batch.loadPrev()
		}
		if behind {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err := s.catchUp(); err != nil {
				return nil, err
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
		batch, behind, err := s.take()
		if err != nil {
			return nil, err
		}
		if batch != nil {
			return batch, batch.loadPrev()
		}
		if !behind {
			return nil, nil
		}
		if err := s.catchUp(); err != nil {
			return nil, err
		}
	}
}

// take returns the oldest batch, or tells that it is time for a step of catching up.
func (s *Stream) take() (batch *Batch, behind bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	behind = len(s.lagging) > 0
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

// loadPrev looks up previous versions, in the consumer's time.
func (b *Batch) loadPrev() error {
	if !b.PrevKV {
		return nil
	}
	for _, event := range b.Events {
		if err := event.loadPrev(); err != nil {
			return err
		}
	}
	return nil
}
