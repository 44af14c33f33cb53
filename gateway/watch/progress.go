package watch

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// progress is what a stream knows for telling how far its watches are. Guarded by the stream's lock, but for dueAt and asking.
type progress struct {
	// A request waits until dispatched has reached want and nothing lags.
	pending bool
	want    kv.Revision // changed only under the hub's lock, too
	// future holds the watches that were not known to have begun when somebody last looked; no progress is told before all have.
	future map[*watcher]struct{}
	notify map[*watcher]struct{} // that asked for periodic progress

	// Guarded by the hub's lock.
	asking *list.Element // in the hub's list; nil: not there
	at     time.Duration // of the next periodic progress
	dueAt  int           // where it is in the hub's queue; negative: not there
}

func newProgress() progress {
	return progress{future: map[*watcher]struct{}{}, notify: map[*watcher]struct{}{}, dueAt: -1}
}

func (p *progress) add(w *watcher, dispatched kv.Revision) {
	if w.start > dispatched {
		p.future[w] = struct{}{}
	}
	if w.notify {
		p.notify[w] = struct{}{}
	}
}

func (p *progress) remove(w *watcher) {
	delete(p.future, w)
	delete(p.notify, w)
}

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
	h := s.hub
	h.sync()
	s.progress.pending, s.progress.want = true, h.options.Source.Revision()
	h.unask(s)
	if h.dispatched < s.progress.want {
		s.progress.asking = h.asking.PushBack(s)
		h.listen()
		h.signal()
	}
	s.answerProgress(h.dispatched)
	s.signal()
	return nil
}

// answerProgress answers a pending request if its time has come. The locks of the hub and of the stream are held. It is called
// when dispatched has reached the revision that was asked for, and when the last group stopped lagging.
func (s *Stream) answerProgress(dispatched kv.Revision) {
	p := &s.progress
	if s.closed || !p.pending || dispatched < p.want || len(s.lagging) > 0 {
		return
	}
	p.pending = false
	if len(s.watchers) == 0 || s.startsAfter(dispatched) {
		return
	}
	s.outbox.push(&Batch{Kind: KindProgress, IDs: []ID{NoID}, Revision: dispatched})
}

// startsAfter tells whether some watch starts after the revision. dispatched never goes back, so each watch is looked at once.
func (s *Stream) startsAfter(dispatched kv.Revision) bool {
	for w := range s.progress.future { // in any order: it ends at the first that starts later
		s.hub.walked(1)
		if w.start > dispatched {
			return true
		}
		delete(s.progress.future, w)
	}
	return false
}

// unask takes the stream out of those that the dispatcher has to answer.
func (h *Hub) unask(s *Stream) {
	if s.progress.asking != nil {
		h.asking.Remove(s.progress.asking)
		s.progress.asking = nil
	}
}

// answerProgress answers the requests that can be. Each waits for a revision that was the newest when it was made, and a request
// that is made again goes to the end: those whose revision was reached are in front. The hub's lock is held.
func (h *Hub) answerProgress() {
	if h.asking.Len() == 0 {
		return
	}
	h.sync()
	for first := h.asking.Front(); first != nil; first = h.asking.Front() {
		s := first.Value.(*Stream)
		h.walked(1)
		if s.progress.want > h.dispatched {
			return
		}
		h.unask(s)
		s.mu.Lock()
		s.answerProgress(h.dispatched) // or later, when nothing lags
		s.mu.Unlock()
		s.signal()
	}
}

// notifyProgress tells the watches that asked for it, and got no events since the last time, how far they are.
func (s *Stream) notifyProgress(dispatched kv.Revision) {
	var ids []ID
	for w := range s.progress.notify { // sorted below
		idle := w.seen == w.group.count
		w.seen = w.group.count
		if idle && w.group.live && w.start <= dispatched {
			ids = append(ids, w.id)
		}
	}
	s.hub.walked(len(s.progress.notify))
	slices.Sort(ids)
	// A consumer that is behind needs no reminders.
	if len(ids) > 0 && s.outbox.control < s.hub.options.MaxControl && s.meter.fits(s.outbox.heldBytes+batchCost(len(ids))) {
		s.outbox.push(&Batch{Kind: KindProgress, IDs: ids, Revision: dispatched})
	}
}

// Tick does what is due at now, on any monotonic clock: periodic progress, finding out that the state was replaced, and having
// streams look whether there is memory for them.
func (h *Hub) Tick(now time.Duration) {
	h.starved.wake(now)
	h.findReplacedState()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.periodic.due(now) {
		h.walked(1)
		s.mu.Lock()
		s.notifyProgress(h.dispatched)
		s.mu.Unlock()
		s.signal()
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
