package gateway

import (
	"sync"

	"github.com/quoratedb/quorate/kv"
)

// guests counts what is being served for other nodes. Each may have as much in flight here as it may take from its own clients, so
// a node that keeps its own limits is never refused, except for requests that it has given up waiting for.
type guests struct {
	maxCalls, maxBytes int

	mu    sync.Mutex
	nodes map[kv.NodeID]guest
}

type guest struct{ calls, bytes int }

func newGuests(l Limits) *guests {
	return &guests{maxCalls: l.MaxCalls, maxBytes: l.MaxForwardedBytes, nodes: map[kv.NodeID]guest{}}
}

// enter takes room for a request of the node, or for a barrier, which has no bytes; false if there is none.
func (g *guests) enter(node kv.NodeID, sizeBytes int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.nodes[node]
	if held.calls >= g.maxCalls || held.bytes > 0 && sizeBytes > 0 && held.bytes+sizeBytes > g.maxBytes {
		return false
	}
	g.nodes[node] = guest{held.calls + 1, held.bytes + sizeBytes}
	return true
}

// leave gives the room back.
func (g *guests) leave(node kv.NodeID, sizeBytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.nodes[node]
	g.nodes[node] = guest{held.calls - 1, held.bytes - sizeBytes}
}

// loan is the memory of one request, which is given back as a whole. It implements kv.Memory.
type loan struct {
	lender kv.Memory // nil: nobody counts

	mu     sync.Mutex
	used   int64
	repaid bool
}

// Reserve takes memory; none once the request has been answered.
func (l *loan) Reserve(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.repaid || l.lender != nil && !l.lender.Reserve(bytes) {
		return false
	}
	l.used += bytes
	return true
}

// Release gives a part back.
func (l *loan) Release(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes = min(bytes, l.used) // nothing is left of a loan that was repaid
	l.used -= bytes
	if l.lender != nil {
		l.lender.Release(bytes)
	}
}

// usedBytes is what is reserved.
func (l *loan) usedBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// end takes nothing more. What is used stays so, and is given back by the lender's owner.
func (l *loan) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repaid = true
}

// repay gives everything back, for good.
func (l *loan) repay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lender != nil {
		l.lender.Release(l.used)
	}
	l.used, l.repaid = 0, true
}
