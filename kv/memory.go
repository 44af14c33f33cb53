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

// Tally reserves memory for something that grows. It is for one goroutine. In a nil Tally everything fits, and nothing is counted.
type Tally struct {
	memory   Memory
	ahead    int64 // may be added without reserving more
	reserved int64
}

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
