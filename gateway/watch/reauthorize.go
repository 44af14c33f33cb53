package watch

import (
	"maps"
	"slices"
)

// Reauthorize has all watches authorized again, for what allows them has changed. Those that are not allowed any more end, with the reason in Batch.Err. It
// comes before anything is handed out that is applied after the call. It may be called from any goroutine.
func (h *Hub) Reauthorize() {
	h.doubted.Store(true)
	h.signal()
}

// reauthorize does so. The hub's lock is held.
func (h *Hub) reauthorize() {
	for _, s := range h.ordered() {
		s.mu.Lock()
		s.reauthorize()
		s.mu.Unlock()
	}
}

// reauthorize ends what is not allowed any more. The locks of the hub and of the stream are held.
func (s *Stream) reauthorize() {
	if s.closed || s.authorize == nil {
		return
	}
	ended := false
	for _, id := range slices.Sorted(maps.Keys(s.watchers)) {
		w := s.watchers[id]
		refusal := s.authorize(w.group.span)
		if refusal == nil {
			continue
		}
		ended = true
		s.outbox.push(&Batch{Kind: KindCanceled, IDs: []ID{id}, Revision: s.hub.present(), Err: refusal})
		f := w.group.seat.feed
		s.forget(w)
		f.listen()
	}
	if ended {
		s.answerProgress() // nothing may be lagging any more
		s.signal()
	}
}
