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

// append adds an event to the group's open batch, or to a new one. A batch that is large enough
// takes no further revision.
func (o *outbox) append(g *group, event *Event, batchBytes int) {
	b, revision, size := g.open, event.Revision(), event.sizeBytes()
	if b == nil || g.openEpoch != o.epoch || b.sizeBytes >= batchBytes && b.Revision != revision {
		b = &Batch{Kind: KindEvents, IDs: g.listIDs(), PrevKV: g.want.prevKV, Fragment: g.want.fragment}
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
