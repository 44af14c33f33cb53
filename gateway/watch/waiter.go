package watch

import (
	"cmp"
	"math"

	"github.com/quoratedb/quorate/kv"
)

// endOfTime is a revision that is never reached.
const endOfTime kv.Revision = math.MaxInt64

// waiter waits for a feed to come to a revision, so that a stream's progress can be told: that of the watches of a seat, or that of all its
// watches, which is the case when all of its feeds have come there. With several shards it waits first to be told which revision that is.
// Guarded by the hub's lock; want also by the stream's.
type waiter struct {
	stream *Stream
	seat   *seat // nil: of all
	want   kv.Revision

	question uint64 // of the inquiry, whose answer it waits for; 0: of none
	listed   bool   // among those who wait for answers
	feed     *feed  // whose dispatched it waits for; nil: of none
	asked    uint64 // in the order in which they began to wait for a feed
	at       int    // where it is in the feed's queue; negative: not there
}

func (w *waiter) before(other *waiter) bool {
	return cmp.Or(cmp.Compare(w.want, other.want), cmp.Compare(w.asked, other.asked)) < 0
}

func (w *waiter) asks(f *feed) bool { return w.feed == f && w.at >= 0 }

// eachFeed calls fn with the feeds whose progress it needs.
func (w *waiter) eachFeed(fn func(*feed)) {
	if w.seat != nil {
		fn(w.seat.feed)
		return
	}
	for _, seat := range w.stream.seats.list {
		fn(seat.feed)
	}
}

// await has the waiter wait for the feed.
func (f *feed) await(w *waiter) {
	h := f.hub
	if w.feed == f {
		return
	}
	h.unask(w)
	h.lastNumber++
	w.feed, w.asked = f, h.lastNumber
	f.asking.add(w)
	if h.inquiry != nil {
		h.inquiry.seek(f)
	}
	h.feedMu.Lock()
	h.freshen(f) // it may be there already
	h.feedMu.Unlock()
	f.listen()
}

// unask has the waiter wait no more.
func (h *Hub) unask(w *waiter) {
	if w.feed != nil {
		w.feed.asking.remove(w)
		w.feed = nil
	}
	if h.inquiry != nil {
		h.inquiry.unwant(w)
	}
}

// answerProgress answers the requests that can be. The hub's lock is held.
func (f *feed) answerProgress() {
	if f.asking.size() == 0 {
		return
	}
	h := f.hub
	f.sync()
	for f.asking.size() > 0 {
		w := f.asking.first()
		h.walked(1)
		if w.want > f.dispatched {
			return
		}
		h.unask(w)
		w.stream.mu.Lock()
		if w.seat != nil {
			w.seat.notifyProgress()
		} else {
			w.stream.answerProgress() // or later, when nothing lags, or another feed is there
		}
		w.stream.mu.Unlock()
		w.stream.signal()
	}
}
