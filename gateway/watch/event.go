package watch

import (
	"sync"
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// eventOverheadBytes is what an event costs beside its key and value, roughly.
const eventOverheadBytes = 160

// Event is one change, shared by all watchers that get it: its previous version is looked up
// at most once and its encodings are made at most once (or rarely twice, in a race), when first asked for.
type Event struct {
	effect *mvcc.Effect
	feed   *feed
	// shared: the ring keeps the event. It must not keep what is much larger than the change itself.
	shared bool

	prevOnce sync.Once
	prev     *kv.KeyValue
	prevErr  error
	// prevHeld is what the previous version takes of memory, with its encoding, and one more; 0: nobody has looked yet.
	prevHeld atomic.Int64

	encoded, encodedWithPrev atomic.Pointer[[]byte]
}

// NewEvent returns an event that belongs to no feed: for those who play one. prev is the version before, if it is to be told.
func NewEvent(effect *mvcc.Effect, prev *kv.KeyValue) *Event {
	e := &Event{effect: effect, prev: prev}
	e.prevOnce.Do(func() {}) // there is nothing to look up
	return e
}

// Revision is the revision of the change.
func (e *Event) Revision() kv.Revision { return e.effect.At.Rev }

// Key is the key that changed.
func (e *Event) Key() []byte { return e.effect.Key }

func (e *Event) sizeBytes() int { return effectBytes(e.effect) }

func effectBytes(effect *mvcc.Effect) int {
	return len(effect.Key) + len(effect.Value) + eventOverheadBytes
}

// deletion tells whether the change deleted the key.
func deletion(effect *mvcc.Effect) bool { return effect.Version == 0 }

// cost is what the event takes of a client's memory with its encoding, and the part of it for the previous version.
func (e *Event) cost(withPrev bool) (all, prev int64) {
	all = int64(e.sizeBytes() + len(e.effect.Key) + len(e.effect.Value) + encodingBytes)
	if withPrev {
		prev = e.prevCost()
	}
	return all + prev, prev
}

// prevCost is what the previous version takes, with its encoding: as much as the new one does, before somebody has looked.
func (e *Event) prevCost() int64 {
	switch held := e.prevHeld.Load(); {
	case held > 0:
		return held - 1
	case !e.effect.PrevLive:
		return 0
	}
	return prevValueBytes + 2*int64(len(e.effect.Key)+len(e.effect.Value))
}

// Event returns the change in package kv's words. A batch with PrevKV has looked the
// previous version up before Next returned it.
func (e *Event) Event(withPrev bool) kv.Event {
	out := kv.Event{Type: kv.EventPut, KV: kv.KeyValue{
		Key: e.effect.Key, Value: e.effect.Value, CreateRevision: e.effect.Create,
		ModRevision: e.effect.At.Rev, Version: e.effect.Version, Lease: e.effect.Lease,
	}}
	if deletion(e.effect) {
		out = kv.Event{Type: kv.EventDelete, KV: kv.KeyValue{Key: e.effect.Key, ModRevision: e.effect.At.Rev}}
	}
	if withPrev && e.loadPrev() == nil {
		out.Prev = e.prev
	}
	return out
}

// Encoded returns the event in the encoding of the hub's Encode option. The bytes are shared.
func (e *Event) Encoded(withPrev bool) []byte {
	slot := &e.encoded
	if withPrev {
		slot = &e.encodedWithPrev
	}
	if have := slot.Load(); have != nil {
		return *have
	}
	event := e.Event(withPrev)
	encoded := e.feed.hub.options.Encode(nil, &event, withPrev)
	slot.Store(&encoded)
	return encoded
}

// lacksPrev tells whether the previous version must be looked up before it can be told.
func (e *Event) lacksPrev() bool { return e.effect.PrevLive && e.prevHeld.Load() == 0 }

// withPrev returns the event with its previous version looked up: itself, or a copy for one batch if that version is larger than the
// change and would stay in the ring.
func (e *Event) withPrev() (*Event, error) {
	if !e.shared || !e.lacksPrev() {
		return e, e.loadPrev()
	}
	own := &Event{effect: e.effect, feed: e.feed}
	if err := own.loadPrev(); err != nil {
		return nil, err
	}
	if own.prev != nil && len(own.prev.Value) > e.sizeBytes() {
		return own, nil
	}
	e.prevOnce.Do(func() {
		e.prev = own.prev
		e.prevHeld.Store(own.prevHeld.Load())
	})
	return e, nil
}

// loadPrev looks the previous version up. Like in etcd there is none when the key did not
// exist, and when the revision before the change is compacted.
func (e *Event) loadPrev() error {
	e.prevOnce.Do(func() {
		held := int64(0)
		defer func() { e.prevHeld.Store(held + 1) }()
		if !e.effect.PrevLive {
			return
		}
		source := e.feed.sourceOf(e.effect.Key)
		if e.effect.At.Rev <= source.Compacted() {
			return
		}
		row, found, err := source.Replaced(e.effect.Prev)
		if err != nil {
			e.prevErr = err
			return
		}
		if found {
			e.prev = &row
			held = prevValueBytes + 2*int64(len(row.Key)+len(row.Value))
		}
	})
	return e.prevErr
}
