package sim

import (
	"math/rand/v2"

	"github.com/quoratedb/quorate/gateway/watch"
)

// streamMemory is that of a client whose connection is now and then short of memory for its watches. Watches themselves are let in: whoever is refused
// one asks for another, for ever.
type streamMemory struct {
	node     *node
	random   *rand.Rand
	odds     int
	reserved int64
}

var _ watch.Memory = (*streamMemory)(nil)

// smallReservation is the least that a stream reserves for what it sends.
const smallReservation = 16 << 10

// Reserve implements watch.Memory.
func (m *streamMemory) Reserve(bytes int64) bool {
	if bytes >= smallReservation && m.node.w.healed == 0 && m.random.IntN(m.odds) == 0 {
		m.node.w.mark("stream without memory")
		return false
	}
	m.reserved += bytes
	return true
}

// ReserveAmply implements watch.Memory. There is never more than what is needed.
func (m *streamMemory) ReserveAmply(int64) bool { return false }

// Release implements watch.Memory.
func (m *streamMemory) Release(bytes int64) {
	m.reserved -= bytes
	if m.reserved < 0 {
		m.node.w.fail(Correctness, "node %d: a stream of watches has given back %d bytes more than it had", m.node.id, -m.reserved)
	}
}

// streamMemory is what a new stream at the node reserves of; nil: nobody counts.
func (n *node) streamMemory() watch.Memory {
	odds := n.w.plan.Limits.Bounds.PoorStreams
	if odds == 0 {
		return nil
	}
	return &streamMemory{node: n, random: n.chance, odds: odds}
}
