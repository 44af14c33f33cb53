package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// Gateway answers requests of clients on one node. Safe for concurrent use.
type Gateway struct {
	options Options
	shard   Shard
	hub     *watch.Hub

	calls   atomic.Int64 // submitted and not answered
	stopped atomic.Bool
	now     atomic.Int64 // the time of the last Tick

	mu       sync.Mutex
	forward  forwarder
	barriers barriers
	// peersTold are the nodes that are told how much time a request has left; earlier versions do not understand it.
	peersTold map[kv.NodeID]bool
	pumping   bool // somebody is in pump

	deadlinesMu sync.Mutex // after mu
	deadlines   wheel
	closed      bool // no call is taken any more

	guests  *guests
	readers chan struct{} // one token per reading goroutine
	reading sync.WaitGroup
	hashing chan struct{} // one token: one hash at a time

	metrics counters
}

type counters struct {
	localReads, localWrites, localRenewals, forwarded, served, refused, barriers, retries, unknown, timeouts, lostAnswers atomic.Int64
}

// Metrics are figures about a gateway.
type Metrics struct {
	CallsInFlight   int64
	ForwardedBytes  int
	QueuedCalls     int   // waiting for a leader
	SentCalls       int   // waiting for the leader's answer
	LocalReads      int64 // answered from the local state
	LocalWrites     int64 // given to the local replica
	LocalRenewals   int64 // keep-alives of leases answered without the log, those of other nodes included
	ForwardedCalls  int64 // sent to a leader
	ServedCalls     int64 // answered for other nodes
	RefusedCalls    int64 // of other nodes: beyond a limit, or no request that a node forwards
	BarrierCount    int64 // read barriers asked for
	RetryCount      int64 // calls that a node refused because it does not lead
	UnknownOutcomes int64
	Timeouts        int64
	LostAnswers     int64 // answers to other nodes that found no connection or a full buffer
	Watch           watch.Metrics
}

// New returns a gateway that serves at once. The composition root gives it frames (HandleMessage), time (Tick)
// and news of peers and leaders (PeerDown, LeaderChanged), and calls Close.
func New(options Options) (*Gateway, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	hub, err := watch.NewHub(options.Watch)
	if err != nil {
		return nil, fmt.Errorf("gateway: start the watch hub: %w", err)
	}
	g := &Gateway{
		options: options, shard: options.Shard, hub: hub,
		guests: newGuests(options.Limits), readers: make(chan struct{}, options.Limits.MaxReaders), hashing: make(chan struct{}, 1),
	}
	g.forward.sent, g.peersTold = map[uint64]*Call{}, map[kv.NodeID]bool{}
	now := options.Clock()
	g.now.Store(int64(now))
	g.deadlines.now = now
	// What was applied between the hub's creation and now must count as history.
	hub.Restored(options.Shard.Subscribe(hub.Applied))
	return g, nil
}

// Tick does what is due at now: deadlines, second tries, periodic watch progress. Call it every 20 to 50 ms.
func (g *Gateway) Tick(now time.Duration) {
	g.now.Store(int64(now))
	g.deadlinesMu.Lock()
	expired := g.deadlines.advance(now)
	g.deadlinesMu.Unlock()
	for _, c := range expired {
		g.metrics.timeouts.Add(1)
		g.abort(c, kv.ErrTimeout)
	}
	g.mu.Lock()
	g.lookAtLeader()
	gone := g.forward.tick(now)
	g.barriers.tick(g.forward.leader, now, g.options.BarrierTimeout)
	g.mu.Unlock()
	for _, node := range gone {
		g.lost(node)
	}
	g.pump()
	g.hub.Tick(now)
}

// PeerDown tells that the connection to a node broke: what was sent may be lost.
func (g *Gateway) PeerDown(node kv.NodeID) {
	g.mu.Lock()
	delete(g.peersTold, node) // it may come back as an older version
	g.mu.Unlock()
	g.lost(node)
}

// LeaderChanged tells that Shard.Leader or Shard.IsLeader has a new answer. Without it Tick finds out.
func (g *Gateway) LeaderChanged() {
	g.mu.Lock()
	g.forward.held, g.barriers.held = false, false
	g.mu.Unlock()
	g.pump()
}

func (g *Gateway) lost(node kv.NodeID) {
	g.mu.Lock()
	unknown := g.forward.lost(node)
	g.barriers.lost(node)
	g.mu.Unlock()
	for _, c := range unknown {
		g.metrics.unknown.Add(1)
		c.finish(nil, kv.ErrOutcomeUnknown)
	}
	if len(unknown) > 0 {
		g.options.Listener.LeaderLost(node, len(unknown))
	}
	g.pump()
}

// lookAtLeader takes the replica's word for who leads. The lock is held.
func (g *Gateway) lookAtLeader() {
	leader, term := g.shard.Leader()
	before := g.forward.leader
	g.forward.setLeader(leader, term, time.Duration(g.now.Load()), g.options.LeaderGrace)
	if g.forward.leader != before {
		g.barriers.held = false
	}
}

// pump does what the cores want done, until there is nothing. One caller at a time works; what the others brought is
// done by it, so requests that come together leave together.
func (g *Gateway) pump() {
	g.mu.Lock()
	if g.pumping {
		g.mu.Unlock()
		return
	}
	g.pumping = true
	for g.step() {
	}
	g.pumping = false
	g.mu.Unlock()
}

// step does one thing. It is called with the lock held and gives it away meanwhile.
func (g *Gateway) step() bool {
	g.lookAtLeader()
	leader := g.forward.leader
	here := leader == g.options.Self
	if id, ok := g.barriers.start(leader, time.Duration(g.now.Load())); ok {
		g.mu.Unlock()
		g.metrics.barriers.Add(1)
		if here {
			g.shard.ReadIndex(func(index uint64, err error) { g.barrierAnswered(g.options.Self, id, index, err) })
		} else if !g.sendBarrier(leader, id) {
			g.barrierFailed(id, true)
		}
		g.mu.Lock()
		return true
	}
	if here && !g.shard.IsLeader() {
		return false // it leads but is not ready; LeaderChanged or Tick comes back
	}
	to, calls := g.forward.take(g.options.Limits.MaxFrameBytes)
	if len(calls) == 0 {
		return false
	}
	if here {
		for _, c := range calls {
			g.forward.remove(c)
			c.state = callLocal
		}
	}
	g.mu.Unlock()
	if here {
		g.serveQueued(calls)
	} else if !g.sendRequests(to, calls) {
		g.mu.Lock()
		g.forward.unsent(calls)
		return true
	}
	g.mu.Lock()
	return true
}

// serveQueued serves calls here that waited for a leader elsewhere.
func (g *Gateway) serveQueued(calls []*Call) {
	for _, c := range calls {
		switch {
		case c.answered.Load():
		case c.read && g.readInPlace(c):
		case c.read:
			g.mu.Lock()
			g.barriers.add(c)
			g.mu.Unlock()
			g.dropIfAnswered(c)
		default:
			g.propose(c)
		}
	}
}

// Metrics returns figures.
func (g *Gateway) Metrics() Metrics {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := &g.metrics
	return Metrics{
		CallsInFlight: g.calls.Load(), ForwardedBytes: g.forward.sizeBytes,
		QueuedCalls: g.forward.queued(), SentCalls: len(g.forward.sent),
		LocalReads: m.localReads.Load(), LocalWrites: m.localWrites.Load(), LocalRenewals: m.localRenewals.Load(), ForwardedCalls: m.forwarded.Load(),
		ServedCalls: m.served.Load(), RefusedCalls: m.refused.Load(), BarrierCount: m.barriers.Load(), RetryCount: m.retries.Load(),
		UnknownOutcomes: m.unknown.Load(), Timeouts: m.timeouts.Load(), LostAnswers: m.lostAnswers.Load(),
		Watch: g.hub.Metrics(),
	}
}

// NewWatchStream returns a stream of watches for a client. What it holds is reserved of the client's memory (nil: nobody counts).
func (g *Gateway) NewWatchStream(principal string, memory watch.Memory) (*watch.Stream, error) {
	return g.hub.NewStream(func(span kv.Span) error {
		req := &kv.Request{Kind: kv.KindRange, Principal: principal, Range: &kv.RangeRequest{Span: span}}
		return g.options.Authorizer.Authorize(principal, req)
	}, memory)
}

// DispatchWatches hands changes out to watches, and tells whether there may be more to hand out. It is for
// who set Options.Watch.Wake.
func (g *Gateway) DispatchWatches() (more bool) { return g.hub.Dispatch() }

// Close ends all calls with kv.ErrStopped, and all watch streams, and waits for what runs.
func (g *Gateway) Close() {
	g.mu.Lock() // whoever starts a reader from now on sees that it is too late
	already := g.stopped.Swap(true)
	g.mu.Unlock()
	if already {
		return
	}
	g.hub.Close()
	g.deadlinesMu.Lock()
	g.closed = true
	calls := g.deadlines.all()
	g.deadlinesMu.Unlock()
	for _, c := range calls {
		g.abort(c, kv.ErrStopped)
	}
	g.reading.Wait()
}
