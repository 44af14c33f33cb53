package kv

import "unsafe"

// Memory is what somebody may make a node hold. Implementations are safe for concurrent use.
type Memory interface {
	// Reserve takes bytes, or none and returns false: there is no room.
	Reserve(bytes int64) bool
	// Release gives back a part of what was reserved.
	Release(bytes int64)
}

// KeyValueBytes is what a KeyValue takes in memory beside its key and value.
const KeyValueBytes = int64(unsafe.Sizeof(KeyValue{}))

// MemoryBytes is what keys and values take in memory.
func MemoryBytes(kvs []KeyValue) int64 {
	sum := int64(len(kvs)) * KeyValueBytes
	for i := range kvs {
		sum += int64(len(kvs[i].Key) + len(kvs[i].Value))
	}
	return sum
}

// What a Tally reserves ahead, so that not every little thing is reserved by itself: little at first, for most answers are small.
const (
	tallyFreeBytes  = 1 << 10 // whoever has a request here has room for as much
	tallyFirstBytes = 12 << 10
	tallyStepBytes  = 64 << 10
)

// Tally reserves memory for something that grows, and bounds how much is looked at for it. It is for one goroutine. In a nil Tally everything
// fits, and nothing is counted.
type Tally struct {
	memory   Memory
	ahead    int64 // may be added without reserving more
	reserved int64

	looked int64
	limits Looks
}

// Looks bounds what a Tally lets be looked at. It counts rows, whether they end up in an answer or not, and one more for each KiB of a
// value that is read.
type Looks struct {
	Limit   int64 // 0: none
	Refused error // what Look returns beyond the limit
	// Stop (nil: never) is asked now and then; if it says so, Look returns ErrTimeout.
	Stop func() bool
}

// lookStep is after how many rows Stop is asked: they take about a millisecond.
const lookStep = 1 << 10

// NewTally returns a tally of nothing. Without a memory (nil) everything fits.
func NewTally(memory Memory) Tally { return Tally{memory: memory, ahead: tallyFreeBytes} }

// Add is called before so many bytes are held. It returns ErrTooManyRequests if there is no room for them.
func (t *Tally) Add(bytes int64) error {
	if t == nil {
		return nil
	}
	if t.ahead -= bytes; t.ahead >= 0 || t.memory == nil {
		return nil
	}
	step := int64(tallyStepBytes)
	if t.reserved == 0 {
		step = tallyFirstBytes
	}
	more := max(-t.ahead, step)
	if !t.memory.Reserve(more) {
		t.ahead += bytes
		return ErrTooManyRequests
	}
	t.ahead += more
	t.reserved += more
	return nil
}

// Bound has the looks from now on counted and bounded.
func (t *Tally) Bound(limits Looks) { t.looked, t.limits = 0, limits }

// StopIf has stop asked now and then, and leaves the other bounds.
func (t *Tally) StopIf(stop func() bool) { t.limits.Stop = stop }

// Look is called when so many rows were looked at. An error means that the caller should end.
func (t *Tally) Look(rows int64) error {
	if t == nil {
		return nil
	}
	before := t.looked
	t.looked += rows
	if t.limits.Limit > 0 && t.looked > t.limits.Limit {
		return t.limits.Refused
	}
	if t.limits.Stop != nil && before/lookStep != t.looked/lookStep && t.limits.Stop() {
		return ErrTimeout
	}
	return nil
}

// LookAt is Look for one row with a value of so many bytes that is read.
func (t *Tally) LookAt(valueBytes int) error { return t.Look(1 + int64(valueBytes)>>10) }

// Looked is how much was looked at since Bound.
func (t *Tally) Looked() int64 {
	if t == nil {
		return 0
	}
	return t.looked
}

// Forget takes note that a part of what was added is not held any more. What was reserved for it serves for what is added next; what is much
// is given back at once.
func (t *Tally) Forget(bytes int64) {
	if t == nil {
		return
	}
	t.ahead += bytes
	if spare := min(t.reserved, t.ahead-tallyStepBytes); spare >= tallyStepBytes {
		t.ahead -= spare
		t.reserved -= spare
		t.memory.Release(spare)
	}
}

// HeldBytes is what was added and not forgotten.
func (t *Tally) HeldBytes() int64 {
	if t == nil {
		return 0
	}
	return t.reserved + tallyFreeBytes - t.ahead
}

// Rewind forgets everything that was added since the tally held so many bytes.
func (t *Tally) Rewind(heldBytes int64) { t.Forget(t.HeldBytes() - heldBytes) }

// Counts tells whether there is a memory that could refuse anything.
func (t *Tally) Counts() bool { return t != nil && t.memory != nil }

// Release gives everything back: nothing of what was added is held any more.
func (t *Tally) Release() {
	if t == nil {
		return
	}
	if t.reserved > 0 {
		t.memory.Release(t.reserved)
	}
	t.ahead, t.reserved = tallyFreeBytes, 0
}
