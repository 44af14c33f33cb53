package watch

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// progress is what a stream knows for telling how far its watches are. Guarded by the stream's lock, but for dueAt and at.
type progress struct {
	// A request waits until all feeds have dispatched what all wants and nothing lags.
	pending bool
	again   bool // it was made again while nobody knew yet what to wait for
	all     waiter
	told    kv.Revision // the highest: to all watches, or to some
	// future holds the watches that were not known to have begun when somebody last looked; no progress is told before all have.
	future map[*watcher]struct{}

	// Guarded by the hub's lock.
	at    time.Duration // of the next periodic progress
	dueAt int           // where it is in the hub's queue; negative: not there
}

func newProgress(s *Stream) progress {
	return progress{all: waiter{stream: s, at: -1}, future: map[*watcher]struct{}{}, dueAt: -1}
}

func (p *progress) add(w *watcher, dispatched kv.Revision) {
	if w.start > dispatched {
		p.future[w] = struct{}{}
	}
}

func (p *progress) remove(w *watcher) { delete(p.future, w) }

// RequestProgress asks for a batch of KindProgress with NoID. It comes when all watches of the
// stream have their events up to the store's revision of now; like in etcd never when one of them starts
// later than that, or when there is none.
func (s *Stream) RequestProgress(ctx context.Context) error {
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	if err := s.lock(); err != nil {
		return err
	}
	defer s.unlock()
	h, p := s.hub, &s.progress
	if h.only == nil {
		s.requestPresent()
		return nil
	}
	f := &h.only.feed
	f.sync()
	p.pending, p.all.want = true, h.present()
	h.unask(&p.all)
	if f.dispatched < p.all.want {
		f.await(&p.all)
		h.signal()
	}
	s.answerProgress()
	s.signal()
	return nil
}

// requestPresent asks for progress up to the present, as soon as that is known.
func (s *Stream) requestPresent() {
	h, p := s.hub, &s.progress
	switch {
	case len(s.watchers) == 0:
	case p.pending:
		p.again = true
	default:
		p.pending, p.all.want = true, endOfTime
		h.inquiry.want(&p.all)
		h.signal()
	}
}

// resume goes on when it is known which revision to wait for. The locks of the hub and of the stream are held.
func (w *waiter) resume() {
	if w.seat != nil {
		w.seat.feed.await(w)
		return
	}
	w.want = max(w.want, w.stream.progress.told)
	w.stream.answerProgress()
	w.stream.signal()
}

// answerProgress answers a pending request if its time has come. The locks of the hub and of the stream are held. It is called
// when a feed has dispatched what was asked for, and when the last group stopped lagging.
func (s *Stream) answerProgress() {
	p := &s.progress
	if s.closed || !p.pending || p.all.want == endOfTime {
		return
	}
	if p.told > p.all.want { // some watch is told more already, and its progress does not go back
		s.hub.unask(&p.all)
		p.all.want = p.told
	}
	reached := endOfTime
	for _, t := range s.seats.list {
		if t.feed.dispatched < p.all.want {
			t.feed.await(&p.all)
			return
		}
		reached = min(reached, t.feed.dispatched)
	}
	if s.seats.lagging > 0 {
		return
	}
	p.pending = false
	if s.hub.inquiry != nil {
		s.hub.unask(&p.all)
	}
	if len(s.watchers) > 0 && !s.startsAfter(reached) {
		p.told = reached
		s.outbox.push(&Batch{Kind: KindProgress, IDs: []ID{NoID}, Revision: reached})
	}
	if p.again {
		p.again = false
		s.requestPresent()
	}
}

// startsAfter tells whether some watch starts after the revision, which never goes back: each watch is looked at once.
func (s *Stream) startsAfter(reached kv.Revision) bool {
	for w := range s.progress.future { // in any order: it ends at the first that starts later
		s.hub.walked(1)
		if w.start > reached {
			return true
		}
		delete(s.progress.future, w)
	}
	return false
}

// notifyProgress tells the watches that asked for it, and got no events since the last time, how far they are.
func (t *seat) notifyProgress() {
	s, dispatched := t.stream, t.feed.dispatched
	var ids []ID
	for w := range t.notify { // sorted below
		idle := w.seen == w.group.count
		w.seen = w.group.count
		if idle && w.group.live && w.start <= dispatched {
			ids = append(ids, w.id)
		}
	}
	s.hub.walked(len(t.notify))
	slices.Sort(ids)
	// A consumer that is behind needs no reminders.
	if len(ids) > 0 && s.outbox.control < s.hub.options.MaxControl && s.meter.fits(s.outbox.heldBytes+batchCost(len(ids))) {
		s.progress.told = max(s.progress.told, dispatched)
		s.outbox.push(&Batch{Kind: KindProgress, IDs: ids, Revision: dispatched})
	}
}

// Tick does what is due at now, on any monotonic clock: periodic progress, finding out that the state was replaced, and having
// streams look whether there is memory for them, and shards asked about again.
func (h *Hub) Tick(now time.Duration) {
	h.starved.wake(now)
	for _, s := range h.inOrder {
		s.findReplacedState()
	}
	h.mu.Lock()
	for _, s := range h.periodic.due(now) {
		h.walked(1)
		s.mu.Lock()
		for _, t := range s.seats.list {
			t.beDue()
		}
		s.mu.Unlock()
		s.signal()
	}
	ask, wait := h.tickInquiry()
	h.mu.Unlock()
	h.ask(ask, wait)
}

// beDue tells the watches their progress, or does so when the feed has come to the present.
func (t *seat) beDue() {
	switch h := t.stream.hub; {
	case h.inquiry == nil:
		t.notifyProgress()
	case len(t.notify) > 0 && t.periodic.feed == nil:
		h.inquiry.want(&t.periodic)
	}
}

// periodic orders streams by when their watches are to be told their progress; of those due at once, the older comes first.
// Guarded by the hub's lock.
type periodic struct {
	fresh []*Stream // made since the last call of due; perhaps closed
	queue queue[*Stream]
}

func newPeriodic() periodic {
	less := func(a, b *Stream) bool {
		return cmp.Or(cmp.Compare(a.progress.at, b.progress.at), cmp.Compare(a.number, b.number)) < 0
	}
	return periodic{queue: newQueue(less, func(s *Stream) *int { return &s.progress.dueAt })}
}

// due returns the streams whose time has come, and plans their next one.
func (p *periodic) due(now time.Duration) (due []*Stream) {
	for _, s := range p.fresh {
		if !s.closed { // it changes only under the hub's lock
			p.plan(s, now)
		}
	}
	p.fresh = nil
	for p.queue.size() > 0 && p.queue.first().progress.at <= now {
		s := p.queue.first()
		p.queue.remove(s)
		p.plan(s, now)
		due = append(due, s)
	}
	return due
}

func (p *periodic) plan(s *Stream, now time.Duration) {
	s.progress.at = now + s.progressInterval
	p.queue.add(s)
}
