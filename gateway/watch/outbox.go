package watch

import "github.com/quoratedb/quorate/kv"

// batchOverheadBytes is what a batch counts against the outbox's bound beside its events.
const batchOverheadBytes = 64

// outbox is what a stream has yet to send, oldest first. Not safe for concurrent use.
type outbox struct {
	batches   []*Batch
	head      int
	sizeBytes int
	control   int // batches without events
	// epoch counts progress batches. A batch of an older epoch takes no more events: what comes
	// after a progress notification in the order of revisions must leave after it.
	epoch uint64
}

func (o *outbox) empty() bool { return o.head == len(o.batches) }

func (o *outbox) push(b *Batch) {
	b.sizeBytes += batchOverheadBytes
	o.sizeBytes += b.sizeBytes
	if b.Kind != KindEvents {
		o.control++
	}
	if b.Kind == KindProgress {
		o.epoch++
	}
	o.batches = append(o.batches, b)
}

// pop takes the oldest batch; nil when there is none.
func (o *outbox) pop() *Batch {
	if o.empty() {
		return nil
	}
	b := o.batches[o.head]
	o.batches[o.head] = nil
	o.head++
	o.sizeBytes -= b.sizeBytes
	if b.Kind != KindEvents {
		o.control--
	}
	if o.head == len(o.batches) {
		o.batches, o.head = o.batches[:0], 0
	} else if o.head > 64 && o.head*2 > len(o.batches) {
		n := copy(o.batches, o.batches[o.head:])
		clear(o.batches[n:])
		o.batches, o.head = o.batches[:n], 0
	}
	return b
}

func (o *outbox) clear() { *o = outbox{} }

// watcher is one watch.
type watcher struct {
	id    ID
	start kv.Revision // as asked for
	group *group
	// For periodic progress: seen is the group's event count when the watcher was last found idle or not.
	notify bool
	seen   uint64
}

// want is what the watchers of a group have in common.
type want struct {
	start, end string // the span
	filters    Filter
	prevKV     bool
	fragment   bool
}

// group is the watchers of one stream that want the same, from the same revision on.
//
// Invariant: every event below next that the group wants is in the outbox or was taken from it.
type group struct {
	stream *Stream
	number uint64 // in the order of their making
	want   want
	span   kv.Span

	watchers []*watcher
	ids      []ID // of watchers; shared with batches, so replaced and never changed
	next     kv.Revision
	live     bool   // in the hub's index; otherwise lagging, in the stream's
	scan     uint64 // the stream's catch-up step that serves the group; 0: none yet

	spot   *spot // where it is in its index
	spotAt int

	open      *Batch // the last batch, while it may take more events
	openEpoch uint64
	count     uint64 // events so far
}

// rejects tells whether the group filters the event out.
func (g *group) rejects(event *Event) bool {
	if g.want.filters == 0 {
		return false
	}
	if deletion(event.effect) {
		return g.want.filters&FilterNoDelete != 0
	}
	return g.want.filters&FilterNoPut != 0
}

// append adds an event to the group's open batch, or to a new one. A batch that is large enough
// takes no further revision.
func (o *outbox) append(g *group, event *Event, batchBytes int) {
	b, revision, size := g.open, event.Revision(), event.sizeBytes()
	if b == nil || g.openEpoch != o.epoch || b.sizeBytes >= batchBytes && b.Revision != revision {
		b = &Batch{Kind: KindEvents, IDs: g.ids, PrevKV: g.want.prevKV, Fragment: g.want.fragment}
		g.open, g.openEpoch = b, o.epoch
		o.push(b)
	}
	b.Events = append(b.Events, event)
	b.Revision = revision
	b.sizeBytes += size
	o.sizeBytes += size
	g.count++
}

// retract takes the events of the revision back, which must be the newest of the group.
func (o *outbox) retract(g *group, revision kv.Revision) {
	b := g.open
	if b == nil || b.Revision != revision {
		return
	}
	n := len(b.Events)
	for n > 0 && b.Events[n-1].Revision() == revision {
		n--
		size := b.Events[n].sizeBytes()
		b.Events[n] = nil
		b.sizeBytes -= size
		o.sizeBytes -= size
		g.count--
	}
	b.Events = b.Events[:n]
	if n > 0 {
		b.Revision = b.Events[n-1].Revision()
	}
	g.open = nil
}
