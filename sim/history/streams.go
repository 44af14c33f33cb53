package history

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// WatchRequest asks for a watch on a stream.
type WatchRequest struct {
	ID              int64 // 0: the store chooses
	Span            kv.Span
	Start           kv.Revision // 0: after the revision of the answer
	PrevKV          bool
	NoPut, NoDelete bool
	ProgressNotify  bool
}

// MessageKind says what a message on a stream is.
type MessageKind uint8

// The kinds of messages.
const (
	Created MessageKind = iota
	Canceled
	Events
	Progress
)

// NoWatch stands for no watch in particular: of a refused creation, or of progress of all.
const NoWatch = -1

// Message is what came on a stream.
type Message struct {
	Kind      MessageKind
	IDs       []int64
	Revision  kv.Revision // of the header
	Events    []kv.Event
	Compacted kv.Revision // of Canceled: the watch needs what is compacted
	Err       error       // of Created: the refusal
}

// Move is one thing that a client sent or got on a stream. Exactly one of the fields says what.
type Move struct {
	At      time.Duration
	Create  *WatchRequest
	Cancel  *int64
	Ask     bool // for progress
	Message *Message
}

// Stream is everything that happened on one stream of watches, in the order in which the client did and got it.
type Stream struct {
	Client, Node int
	Moves        []Move
}

// watched is a watch while its stream is looked through.
type watched struct {
	request *WatchRequest
	id      int64
	// next is the place in Full of the first event that the watch may still get; reached is the revision up to
	// which everything is delivered.
	next     int
	reached  kv.Revision
	canceled bool // the client asked for its end
	ended    bool
}

// asked is a request for a watch, and which identifiers the client asked to end since: if it gets one of them, that was meant for
// the watch before, but ends this one.
type asked struct {
	*WatchRequest
	canceled []int64
}

// streamCheck is the look through one stream.
type streamCheck struct {
	*checker
	stream  *Stream
	asked   []asked // without an answer yet
	byID    map[int64]*watched
	running []*watched
	asks    int // for progress, without an answer
}

// checkStream: what the watches of a stream delivered is exactly what happened, from where they begin, in order,
// each event once, no revision split over two messages; what they say about progress and compactions is true.
func (c *checker) checkStream(s *Stream) {
	k := &streamCheck{checker: c, stream: s, byID: map[int64]*watched{}}
	for i := range s.Moves {
		switch m := &s.Moves[i]; {
		case m.Create != nil:
			k.asked = append(k.asked, asked{WatchRequest: m.Create})
		case m.Cancel != nil:
			if w := k.byID[*m.Cancel]; w != nil {
				w.canceled = true
			}
			for j := range k.asked {
				k.asked[j].canceled = append(k.asked[j].canceled, *m.Cancel)
			}
		case m.Ask:
			k.asks++
		case m.Message != nil:
			c.Messages++
			if !k.message(m) {
				return
			}
		}
	}
}

func (k *streamCheck) fail(m *Move, format string, args ...any) bool {
	k.problem("stream of client %d at node %d, %v: "+format, append([]any{k.stream.Client, k.stream.Node, m.At}, args...)...)
	return false
}

func (k *streamCheck) message(m *Move) bool {
	message := m.Message
	if ceiling := k.times.ceiling(m.At); message.Revision > ceiling {
		return k.fail(m, "a message carries revision %d, the store was at %d", message.Revision, ceiling)
	}
	if message.Kind == Created {
		return k.created(m)
	}
	if message.Kind == Progress && len(message.IDs) == 1 && message.IDs[0] == NoWatch {
		return k.progressOfAll(m)
	}
	for _, id := range message.IDs {
		w := k.byID[id]
		if w == nil || w.ended {
			return k.fail(m, "a message for watch %d, which does not run", id)
		}
		var fine bool
		switch message.Kind {
		case Canceled:
			fine = k.ended(m, w)
		case Events:
			fine = k.events(m, w)
		case Progress:
			fine = k.progress(m, w)
			if fine && !w.request.ProgressNotify {
				return k.fail(m, "progress for watch %d, which did not ask for it", id)
			}
		}
		if !fine {
			return false
		}
	}
	return true
}

func (k *streamCheck) created(m *Move) bool {
	if len(k.asked) == 0 {
		return k.fail(m, "a watch was created that nobody asked for")
	}
	r := k.asked[0]
	k.asked = k.asked[1:]
	impossible := r.Span.Empty() || r.Start < 0
	taken := r.ID != 0 && k.byID[r.ID] != nil && !k.byID[r.ID].ended
	if m.Message.Err != nil {
		// What is not about the request itself is about limits or permissions.
		code := kv.CodeOf(m.Message.Err)
		if !impossible && !taken && (code == 0 || code == kv.ErrCompacted.Code) {
			return k.fail(m, "a watch from revision %d with the identifier %d was refused: %v", r.Start, r.ID, m.Message.Err)
		}
		return true
	}
	id := m.Message.IDs[0]
	switch {
	case impossible || taken:
		return k.fail(m, "a watch was created that must be refused: start %d, span [%q %q), identifier %d", r.Start, r.Span.Start, r.Span.End, r.ID)
	case k.byID[id] != nil && !k.byID[id].ended:
		return k.fail(m, "two watches have the identifier %d", id)
	case r.ID != 0 && r.ID != id:
		return k.fail(m, "watch %d was created, %d was asked for", id, r.ID)
	}
	start := r.Start
	if start == 0 {
		start = m.Message.Revision + 1
	}
	w := &watched{request: r.WatchRequest, id: id, reached: start - 1, canceled: slices.Contains(r.canceled, id)}
	w.next = k.firstFrom(start)
	k.byID[id] = w
	k.running = append(k.running, w)
	return true
}

// firstFrom is the place of the first event from a revision on.
func (k *streamCheck) firstFrom(start kv.Revision) int {
	for at := max(start, 1); at <= k.Final; at++ {
		if i := k.byRevision[at]; i.to > 0 {
			return i.from
		}
	}
	return len(k.Full)
}

// pending moves next to the first event that the watch wants.
func (k *streamCheck) pending(w *watched) *kv.Event {
	for ; w.next < len(k.Full); w.next++ {
		e := &k.Full[w.next]
		unwanted := e.Type == kv.EventPut && w.request.NoPut || e.Type == kv.EventDelete && w.request.NoDelete
		if !unwanted && w.request.Span.Contains(e.KV.Key) {
			return e
		}
	}
	return nil
}

func (k *streamCheck) events(m *Move, w *watched) bool {
	events := m.Message.Events
	if len(events) == 0 {
		return k.fail(m, "a message of events for watch %d has none", w.id)
	}
	for i := range events {
		got := &events[i]
		at := got.KV.ModRevision
		if i == 0 && at <= w.reached {
			return k.fail(m, "watch %d got an event at revision %d after everything up to %d was delivered: a repetition, or a revision that was split:%s",
				w.id, at, w.reached, describeEvents(events[:1], false))
		}
		if at > m.Message.Revision {
			return k.fail(m, "watch %d got an event at revision %d under the header of revision %d", w.id, at, m.Message.Revision)
		}
		want := k.pending(w)
		if want == nil {
			return k.fail(m, "watch %d got an event that never happened:%s", w.id, describeEvents(events[i:i+1], false))
		}
		if !equalEvents(got, want) {
			return k.fail(m, "watch %d got%s, the next event is%s", w.id, describeEvents(events[i:i+1], false), describeEvents([]kv.Event{*want}, false))
		}
		if !k.prevFits(m, w, got) {
			return false
		}
		w.next++
	}
	w.reached = events[len(events)-1].KV.ModRevision
	if rest := k.pending(w); rest != nil && rest.KV.ModRevision <= w.reached {
		return k.fail(m, "watch %d got a part of revision %d, the rest is missing in the message:%s", w.id, w.reached, describeEvents([]kv.Event{*rest}, false))
	}
	return true
}

// prevFits: the version before the change is told if it was asked for, unless it is compacted.
func (k *streamCheck) prevFits(m *Move, w *watched, got *kv.Event) bool {
	want := k.prev(w.next)
	if !w.request.PrevKV {
		want = nil
	}
	if got.Prev == nil && want != nil && k.mayBeCompacted(got.KV.ModRevision, m.At) {
		return true
	}
	if !equalPointers(got.Prev, want) {
		expected := *got
		expected.Prev = want
		return k.fail(m, "watch %d got%s, the next event is%s", w.id, describeEvents([]kv.Event{*got}, true), describeEvents([]kv.Event{expected}, true))
	}
	return true
}

// mayBeCompacted tells whether there may have been a compaction at the revision or above by then.
func (c *checker) mayBeCompacted(at kv.Revision, by time.Duration) bool {
	if c.Commits == nil {
		return true
	}
	for _, one := range c.compactions {
		if one.Compacted >= at && one.At <= by {
			return true
		}
	}
	return false
}

func (k *streamCheck) progressOfAll(m *Move) bool {
	if k.asks == 0 {
		return k.fail(m, "progress of all watches that nobody asked for")
	}
	k.asks--
	for _, w := range k.running {
		if !w.ended && !k.progress(m, w) {
			return false
		}
	}
	return true
}

func (k *streamCheck) progress(m *Move, w *watched) bool {
	at := m.Message.Revision
	if w.request.Start > at {
		return k.fail(m, "progress up to %d was told for watch %d, which starts at %d", at, w.id, w.request.Start)
	}
	if missing := k.pending(w); missing != nil && missing.KV.ModRevision <= at {
		return k.fail(m, "progress up to %d was told for watch %d, but not%s", at, w.id, describeEvents([]kv.Event{*missing}, false))
	}
	w.reached = max(w.reached, at)
	return true
}

func (k *streamCheck) ended(m *Move, w *watched) bool {
	w.ended = true
	compacted := m.Message.Compacted
	switch {
	case compacted == 0 && !w.canceled:
		return k.fail(m, "watch %d was canceled, though nobody asked for it", w.id)
	case compacted == 0:
	case w.reached+1 >= compacted:
		return k.fail(m, "watch %d was canceled because of the compaction at %d, but it needs nothing below: it has everything up to %d", w.id, compacted, w.reached)
	case k.Commits != nil && !k.mayBeCompacted(compacted, m.At):
		return k.fail(m, "watch %d was canceled because of a compaction at %d that never was", w.id, compacted)
	}
	return true
}
