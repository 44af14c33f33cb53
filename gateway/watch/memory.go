package watch

import (
	"math"

	"github.com/quoratedb/quorate/kv"
)

// Memory is what the client behind a stream may make the node hold. Implementations are safe for concurrent use.
type Memory interface {
	// Reserve takes bytes, or none and returns false: there is no room.
	Reserve(bytes int64) bool
	// ReserveAmply is Reserve for what is only wanted to be faster: it leaves room for what is needed.
	ReserveAmply(bytes int64) bool
	// Release gives back a part of what was reserved.
	Release(bytes int64)
}

const (
	// freeBytes may wait in a stream without being reserved: a connection's stream has reserved that much already.
	freeBytes = 4 << 10
	// smallBytes is what is reserved at a time: for the queue, and for a step of catching up when memory is short. It is the
	// largest reservation that may use what is kept for small ones.
	smallBytes = 16 << 10
	// freeAnswers may wait in an outbox although there is no memory.
	freeAnswers = 8
)

// What things take, roughly and rather too much; TestWatchCosts measures the first two.
const (
	watcherBytes   = 256
	groupBytes     = 1280
	seatBytes      = 1024
	keyCopies      = 3 // of a group's span: what the group wants, the span itself, and the index's key
	batchBytes     = 256
	idBytes        = 8
	pointerBytes   = 16 // of an event in a batch, with room to grow
	encodingBytes  = 96 // of an encoded event, beside its key and value
	prevValueBytes = 128
)

// groupCost is what a group with the span takes.
func groupCost(span kv.Span) int64 {
	return groupBytes + keyCopies*int64(len(span.Start)+len(span.End))
}

// batchCost is what a batch takes beside its events.
func batchCost(ids int) int64 { return batchBytes + idBytes*int64(ids) }

// meter is what a stream has reserved of its client's memory. Guarded by the stream's lock.
//
// Invariant: reserved+watches is what the memory gave and did not get back; both are 0 without a memory, and after close.
type meter struct {
	memory   Memory // nil: nobody counts
	reserved int64  // for what waits or was taken, and for the running step of catching up
	aside    int64  // of reserved: for that step, so that nothing else uses it
	watches  int64  // for watches and their groups
	closed   bool
}

// reserve asks the memory.
func (m *meter) reserve(bytes int64) bool {
	return !m.closed && m.memory.Reserve(bytes)
}

// addWatch reserves for a watch; dropWatch gives that back, or a part of it.
func (m *meter) addWatch(bytes int64) bool {
	if m.memory == nil {
		return true
	}
	if !m.reserve(bytes) {
		return false
	}
	m.watches += bytes
	return true
}

func (m *meter) dropWatch(bytes int64) {
	if m.memory == nil || m.closed {
		return
	}
	m.memory.Release(bytes)
	m.watches -= bytes
}

// fits makes room for so many bytes in all that wait or were taken. Usually there is room, and the memory is not asked.
func (m *meter) fits(held int64) bool {
	short := held - freeBytes - (m.reserved - m.aside)
	if short <= 0 || m.memory == nil {
		return true
	}
	short = max(short, smallBytes)
	if !m.reserve(short) {
		return false
	}
	m.reserved += short
	return true
}

// trim gives back what is not needed for so many bytes. A little more is kept, so that a queue which grows and shrinks does not ask
// the memory each time; nothing is kept for one that is nearly empty.
func (m *meter) trim(held int64) {
	need := max(0, held-freeBytes)
	spare := m.reserved - m.aside - need
	if need > 0 {
		if spare < 2*smallBytes {
			return
		}
		spare -= smallBytes
	}
	if spare > 0 {
		m.memory.Release(spare)
		m.reserved -= spare
	}
}

// setAside reserves for a step of catching up and returns how many bytes: ample, if that leaves room for others; otherwise a
// small step; never less than least. Without a memory a step may be of any size. 0: there is no room.
func (m *meter) setAside(ample, least int64) (bytes int64) {
	switch {
	case m.memory == nil:
		return math.MaxInt64
	case m.closed:
		return 0
	}
	bytes = max(ample, least)
	if !m.memory.ReserveAmply(bytes) {
		bytes = max(min(ample, smallBytes), least)
		if !m.reserve(bytes) {
			return 0
		}
	}
	m.reserved += bytes
	m.aside += bytes
	return bytes
}

// setMoreAside reserves at least so many bytes more for the running step, and returns how many; 0: there is no room.
func (m *meter) setMoreAside(bytes int64) int64 {
	bytes = max(bytes, smallBytes)
	if !m.reserve(bytes) {
		return 0
	}
	m.reserved += bytes
	m.aside += bytes
	return bytes
}

// useAside makes what was set aside part of what the queue has.
func (m *meter) useAside() { m.aside = 0 }

// close gives everything back; nothing is reserved any more.
func (m *meter) close() {
	if all := m.reserved + m.watches; all > 0 {
		m.memory.Release(all)
	}
	m.reserved, m.aside, m.watches, m.closed = 0, 0, 0, true
}
