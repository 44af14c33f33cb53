package gateway

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/shard"
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

// enter takes room for a request of the node; false if there is none.
func (g *guests) enter(node kv.NodeID, sizeBytes int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.nodes[node]
	if held.calls >= g.maxCalls || held.bytes > 0 && held.bytes+sizeBytes > g.maxBytes {
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

// repay gives everything back, for good.
func (l *loan) repay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lender != nil {
		l.lender.Release(l.used)
	}
	l.used, l.repaid = 0, true
}

// serve does what a peer forwarded, unless nobody there waits for it any more when it is its turn. It is never forwarded again. What is asked of a client's request at the node that takes it is asked
// of it here once more: this node's limits are the ones that count while it leads, and whoever reaches the port could send anything.
func (g *Gateway) serve(from kv.NodeID, instance, id uint64, left time.Duration, body []byte) {
	// An answer given later comes from the driver, which may flush by itself; one given at once does not.
	var later atomic.Bool
	answer := func(resp *kv.Response, applied uint64, err error) {
		g.answer(from, instance, id, resp, applied, err)
		if !later.Load() || !g.options.DriverFlushes {
			g.options.Sender.Kick(from)
		}
	}
	defer later.Store(true)
	if !g.guests.enter(from, len(body)) {
		g.metrics.refused.Add(1)
		answer(nil, 0, kv.ErrTooManyRequests)
		return
	}
	memory := &loan{lender: g.options.GuestMemory(from)}
	done := func(resp *kv.Response, applied uint64, err error) {
		g.guests.leave(from, len(body))
		if limit := g.options.Limits.MaxAnswerBytes; err == nil && memory.usedBytes() > int64(limit)/2 && etcdwire.ResponseSize(resp) > limit {
			resp, err = nil, kv.ErrOutcomeUnknown // that it cannot be told is told, and it is not encoded in vain
		}
		answer(resp, applied, err)
		memory.repay() // the answer is in the transport's buffer now
	}
	req, err := g.admitForwarded(from, body, memory)
	if err != nil {
		g.metrics.refused.Add(1)
		done(nil, 0, err)
		return
	}
	g.metrics.served.Add(1)
	switch {
	case !g.shard.IsLeader():
		done(nil, 0, kv.ErrNotLeader)
	case leaderOnly(req):
		g.serveRead(req, done)
	case g.serveRenewal(req, done):
	default:
		expires := g.now.Load() + int64(left)
		g.shard.Propose(req, func() bool { return g.now.Load() < expires }, done)
	}
}

// admitForwarded decodes a forwarded request and tells why it is not served.
func (g *Gateway) admitForwarded(from kv.NodeID, body []byte, memory *loan) (*kv.Request, error) {
	if g.stopped.Load() {
		return nil, kv.ErrNotLeader // so that it looks for another one
	}
	tally := kv.NewTally(memory)
	req, err := etcdwire.DecodeRequest(body, etcdwire.Limits{TxnOps: g.options.Limits.MaxTxnOps, Memory: &tally})
	switch {
	case errors.Is(err, kv.ErrTooManyOps) || errors.Is(err, kv.ErrTooManyRequests):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", kv.ErrInvalidRequest, err)
	}
	req.Memory = memory
	if err := g.admit(req); err != nil {
		return nil, err
	}
	return req, forwardable(from, req)
}

// forwardable tells why no node forwards such a request, which is well formed.
func forwardable(from kv.NodeID, req *kv.Request) error {
	switch {
	case req.Kind == kv.KindAssignReplica:
		return fmt.Errorf("only the leader itself says which disk a replica is on: %w", kv.ErrInvalidRequest)
	case req.Kind == kv.KindPublishNode && req.PublishNode.ID != from:
		return fmt.Errorf("node %v publishes the record of node %v: %w", from, req.PublishNode.ID, kv.ErrInvalidRequest)
	case shard.IsReadOnly(req) && !leaderOnly(req) && (req.Kind != kv.KindTxn || !shard.IsNested(req.Txn)): // earlier versions do forward those
		return fmt.Errorf("a read is answered by the node that takes it: %w", kv.ErrInvalidRequest)
	}
	return nil
}

// serveRenewal answers a keep-alive that needs nothing of the log.
func (g *Gateway) serveRenewal(req *kv.Request, done func(*kv.Response, uint64, error)) bool {
	resp, ok := g.renewed(req)
	if ok {
		done(resp, g.shard.Applied(), nil) // the other node may not have applied the revision of the answer yet
	}
	return ok
}

// serveRead answers a read that only the leader can answer.
func (g *Gateway) serveRead(req *kv.Request, done func(*kv.Response, uint64, error)) {
	if g.shard.LeaseValid() {
		resp, err := g.shard.Read(req)
		if g.shard.LeaseValid() {
			done(resp, 0, err)
			return
		}
	}
	g.shard.ReadIndex(func(index uint64, err error) {
		if err != nil {
			done(nil, 0, kv.ErrNotLeader)
			return
		}
		g.shard.WaitApplied(index, func(err error) {
			if err != nil {
				done(nil, 0, err)
				return
			}
			resp, err := g.shard.Read(req)
			done(resp, 0, err)
		})
	})
}
