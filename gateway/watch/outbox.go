package watch

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

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

	lastNumber uint64 // of batches
	heldBytes  int64  // what the batches take of the client's memory, with those that were taken and not passed on yet
	takenBytes int64  // of heldBytes: of those
	last       [2]counted
}

// counted is the event that was added last, without its previous version or with it, and the batch in which it counts: the last of
// those that hold it, for it is held until that one is passed on.
type counted struct {
	event       *Event
	batch       *Batch
	bytes, prev int64
}

func (o *outbox) empty() bool { return o.head == len(o.batches) }

func (o *outbox) push(b *Batch) {
	b.sizeBytes += batchOverheadBytes
	o.sizeBytes += b.sizeBytes
	o.lastNumber++
	b.number = o.lastNumber
	b.heldBytes = batchCost(len(b.IDs))
	o.heldBytes += b.heldBytes
	if b.Kind != KindEvents {
		o.control++
	}
	if b.Kind == KindProgress {
		o.epoch++
	}
	o.batches = append(o.batches, b)
}

// pop takes the oldest batch; nil when there is none. It is held until passedOn is called.
func (o *outbox) pop() *Batch {
	if o.empty() {
		return nil
	}
	b := o.batches[o.head]
	o.batches[o.head] = nil
	o.head++
	o.sizeBytes -= b.sizeBytes
	o.takenBytes += b.heldBytes
	o.last = [2]counted{}
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

// passedOn: what was taken is held no more.
func (o *outbox) passedOn() {
	o.heldBytes -= o.takenBytes
	o.takenBytes = 0
}

// grow counts more previous versions for a batch that was taken.
func (o *outbox) grow(b *Batch, bytes int64) {
	b.heldBytes += bytes
	b.prevBytes += bytes
	o.heldBytes += bytes
	o.takenBytes += bytes
}

// putBack makes a batch of events that was taken the oldest one again.
func (o *outbox) putBack(b *Batch) {
	o.sizeBytes += b.sizeBytes
	o.takenBytes -= b.heldBytes
	if o.head > 0 {
		o.head--
		o.batches[o.head] = b
		return
	}
	o.batches = slices.Insert(o.batches, 0, b)
}

// split cuts a batch that was taken before its n-th event, with which a revision begins, and returns the rest.
func (o *outbox) split(b *Batch, n int) *Batch {
	rest := &Batch{
		Kind: b.Kind, IDs: b.IDs, Revision: b.Revision, Events: b.Events[n:], PrevKV: b.PrevKV, Fragment: b.Fragment,
		sizeBytes: batchOverheadBytes, number: b.number,
	}
	b.Events, b.Revision = b.Events[:n:n], b.Events[n-1].Revision()
	for _, event := range rest.Events {
		rest.sizeBytes += event.sizeBytes()
		bytes, prev := event.cost(b.PrevKV)
		rest.heldBytes += bytes + pointerBytes
		rest.prevBytes += prev
	}
	// Events that count in another batch did not count in this one.
	rest.heldBytes = min(rest.heldBytes, b.heldBytes-batchCost(len(b.IDs)))
	rest.prevBytes = min(rest.prevBytes, b.prevBytes)
	b.sizeBytes -= rest.sizeBytes - batchOverheadBytes
	b.heldBytes -= rest.heldBytes
	b.prevBytes -= rest.prevBytes
	rest.heldBytes += batchCost(len(b.IDs))
	o.heldBytes += batchCost(len(b.IDs))
	o.takenBytes += batchCost(len(b.IDs))
	return rest
}

func (o *outbox) clear() { *o = outbox{} }

// opens tells whether an event of the group needs a new batch.
func (o *outbox) opens(g *group, revision kv.Revision, batchBytes int) bool {
	b := g.open
	return b == nil || g.openEpoch != o.epoch || b.sizeBytes >= batchBytes && b.Revision != revision
}

// costOf is what append adds to heldBytes.
func (o *outbox) costOf(g *group, event *Event, batchBytes int) int64 {
	cost := int64(pointerBytes)
	if o.opens(g, event.Revision(), batchBytes) {
		cost += batchCost(len(g.watchers))
	}
	if o.last[kindOf(g)].event != event {
		bytes, _ := event.cost(g.want.prevKV)
		cost += bytes
	}
	return cost
}

// kindOf is where the event is noted that was added last for groups like this one.
func kindOf(g *group) int {
	if g.want.prevKV {
		return 1
	}
	return 0
}

// append adds an event to the group's open batch, or to a new one. A batch that is large enough
// takes no further revision.
func (o *outbox) append(g *group, event *Event, batchBytes int) {
	b, revision, size := g.open, event.Revision(), event.sizeBytes()
	if o.opens(g, revision, batchBytes) {
		b = &Batch{Kind: KindEvents, IDs: g.listIDs(), PrevKV: g.want.prevKV, Fragment: g.want.fragment}
		g.open, g.openEpoch = b, o.epoch
		o.push(b)
	}
	b.Events = append(b.Events, event)
	b.Revision = revision
	b.sizeBytes += size
	o.sizeBytes += size
	g.count++
	o.count(g, event, b)
}

// count counts the event in the batch, unless it does already in a later one.
func (o *outbox) count(g *group, event *Event, b *Batch) {
	b.heldBytes += pointerBytes
	o.heldBytes += pointerBytes
	last := &o.last[kindOf(g)]
	if last.event != event {
		bytes, prev := event.cost(g.want.prevKV)
		*last = counted{event, b, bytes, prev}
		b.heldBytes += bytes
		b.prevBytes += prev
		o.heldBytes += bytes
		return
	}
	if b.number > last.batch.number {
		last.batch.heldBytes -= last.bytes
		last.batch.prevBytes -= last.prev
		b.heldBytes += last.bytes
		b.prevBytes += last.prev
		last.batch = b
	}
}

// retract takes the events of the revision back, which must be the newest of the group. Their memory is given back with that of the batch:
// other groups' batches may hold them.
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
