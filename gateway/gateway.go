package gateway

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Gateway answers requests of clients on one node. Safe for concurrent use.
type Gateway struct {
	options    Options
	links      links       // to the leader of each shard here
	presents   presents    // of reads as of a revision; closed if Options.Revisions is nil
	committing commitLists // shards with transactions over several; empty if those are not served
	leaseEnds  leaseEnds   // that failed
	hub        *watch.Hub
	permits    permits

	calls     atomic.Int64 // submitted and not answered
	stopped   atomic.Bool
	now       atomic.Int64 // the time of the last Tick
	deadlines deadlines    // of calls

	peers   peers
	kept    keptAnswers
	guests  *guests // whose requests are served here
	reading *readers
	turns   turns
	hashing chan struct{} // one token: one hash at a time

	metrics counters
}

type counters struct {
	localReads, localWrites, localRenewals, forwarded, served, refused, barriers, retries, unknown, timeouts, lostAnswers atomic.Int64
	asOf, questions, arrivals                                                                                             atomic.Int64
	heldReads                                                                                                             atomic.Int64
	transactions, transactionsDone, transactionsUnknown, transactionsLate, transactionsMoved, transactionsRefused         atomic.Int64
	transactionsRecovering                                                                                                atomic.Int64
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
	RefusedCalls    int64 // of other nodes: beyond a limit, no request that a node forwards, or for a shard that is not here
	BarrierCount    int64 // read barriers asked for
	RetryCount      int64 // calls that a node refused because it does not lead
	UnknownOutcomes int64
	Timeouts        int64
	LostAnswers     int64 // answers to other nodes that could neither be sent nor kept
	PresentReads    int64 // times that a read had to learn the present of a store of several shards
	QuestionCount   int64 // asked for that: one serves all that came before it was asked
	ArrivalCount    int64 // times that such a read had to wait for the replica here
	HeldReads       int64 // times that such a read had to wait for the end of a transaction over several shards
	// Transactions are writes over several shards that were coordinated here, and what became of those that have ended.
	Transactions        int64
	TransactionsDone    int64 // answered: with an effect, or because none was asked for
	TransactionsRefused int64 // without effect: not allowed, or without room
	TransactionsLate    int64 // out of time, or nobody waited any more
	TransactionsMoved   int64 // without effect, because the leadership ended; most begin again elsewhere
	TransactionsUnknown int64 // without a word whether they took effect
	RecoveryQuestions   int64 // asked to end transactions that others had left behind
	Watch               watch.Metrics
}

// New returns a gateway that serves at once. The composition root gives it frames (HandleMessage), time (Tick)
// and news of peers and leaders (PeerUp, PeerDown, LeaderChanged), and calls Close.
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
		options: options, hub: hub, guests: newGuests(options.Limits),
		reading: newReaders(options.Limits.MaxReaders, options.Spawn), turns: make(turns, options.Limits.MaxReaders), hashing: make(chan struct{}, 1),
	}
	g.links.open(g, options.Shards)
	g.presents.open(g)
	g.committing.open(g)
	now := options.Clock()
	g.now.Store(int64(now))
	g.deadlines.begin(now)
	g.feedHub()
	return g, nil
}

// feedHub has the hub told what the shards apply. What was applied between the hub's creation and now must count as history.
func (g *Gateway) feedHub() {
	o := &g.options
	if o.Watch.Shards == nil {
		g.hub.Restored(o.Shards[o.Watched].Subscribe(g.told(o.Watched, g.hub.Applied)))
		return
	}
	for _, id := range slices.Sorted(maps.Keys(o.Shards)) {
		if watched := g.hub.Shard(id); watched != nil {
			watched.Restored(o.Shards[id].Subscribe(g.told(id, watched.Applied)))
		}
	}
}

// told has the hub also look at its watches again when users or roles have changed.
func (g *Gateway) told(id kv.ShardID, applied func(*shard.Applied)) func(*shard.Applied) {
	if g.options.Users == nil || id != kv.SystemShard {
		return applied
	}
	return func(a *shard.Applied) {
		applied(a)
		if a.Auth || a.Jump {
			g.hub.Reauthorize()
		}
	}
}

// time is that of the last Tick.
func (g *Gateway) time() time.Duration { return time.Duration(g.now.Load()) }

// linkOf returns the link of the shard that a request is for.
func (g *Gateway) linkOf(req *kv.Request) (*leaderLink, error) {
	shard, err := g.options.Router.Route(req)
	if err != nil {
		return nil, fmt.Errorf("find the shard of a request: %w", err)
	}
	l := g.links.byShard[shard]
	if l == nil {
		return nil, notHere(shard)
	}
	return l, nil
}

// notHere refuses what is for a shard without a replica on this node.
func notHere(shard kv.ShardID) error {
	return fmt.Errorf("shard %d: %w", shard, kv.ErrShardNotHere)
}

// Tick does what is due at now: deadlines, second tries, periodic watch progress. Call it every 20 to 50 ms.
func (g *Gateway) Tick(now time.Duration) {
	g.now.Store(int64(now))
	for _, c := range g.deadlines.advance(now) {
		g.metrics.timeouts.Add(1)
		c.abort(c.because(kv.ErrTimeout))
	}
	for _, l := range g.links.areBusy() {
		l.tick(now)
	}
	if g.options.Revisions != nil {
		g.presents.tick(now)
		g.committing.tick(now)
	}
	g.hub.Tick(now)
}

// PeerUp tells that there is a connection to a node, and what it understands.
func (g *Gateway) PeerUp(node kv.NodeID, dialect Dialect) {
	g.peers.up(node, dialect)
	g.sendKept(node)
}

// PeerReturned tells that a process has connected to this node which had been connected before: what it answered on that connection may be lost.
func (g *Gateway) PeerReturned(node kv.NodeID) {
	for _, l := range g.links.areBusy() {
		l.lost(node)
	}
}

// PeerDown tells that the connection to a node broke: what was sent may be lost.
func (g *Gateway) PeerDown(node kv.NodeID) {
	g.peers.down(node)
	g.PeerReturned(node)
}

// LeaderChanged tells that Leader or IsLeader of a shard has a new answer. Without it Tick finds out.
func (g *Gateway) LeaderChanged(shard kv.ShardID) {
	if l := g.links.byShard[shard]; l != nil {
		l.leaderChanged()
		l.commits.current(false) // what an earlier leadership coordinated ends
	}
}

// Metrics returns figures of now.
func (g *Gateway) Metrics() Metrics {
	sum, m := g.links.figures(), &g.metrics
	return Metrics{
		CallsInFlight: g.calls.Load(), ForwardedBytes: sum.SizeBytes, QueuedCalls: sum.Queued, SentCalls: sum.Sent,
		LocalReads: m.localReads.Load(), LocalWrites: m.localWrites.Load(), LocalRenewals: m.localRenewals.Load(), ForwardedCalls: m.forwarded.Load(), ServedCalls: m.served.Load(),
		RefusedCalls: m.refused.Load(), BarrierCount: m.barriers.Load(), RetryCount: m.retries.Load(),
		UnknownOutcomes: m.unknown.Load(), Timeouts: m.timeouts.Load(), LostAnswers: m.lostAnswers.Load(),
		PresentReads: m.asOf.Load(), QuestionCount: m.questions.Load(), ArrivalCount: m.arrivals.Load(),
		HeldReads: m.heldReads.Load(), Transactions: m.transactions.Load(), TransactionsDone: m.transactionsDone.Load(),
		TransactionsRefused: m.transactionsRefused.Load(), TransactionsLate: m.transactionsLate.Load(), TransactionsMoved: m.transactionsMoved.Load(),
		TransactionsUnknown: m.transactionsUnknown.Load(), RecoveryQuestions: m.transactionsRecovering.Load(),
		Watch: g.hub.Metrics(),
	}
}

// Check returns an error if the gateway contradicts itself.
func (g *Gateway) Check() error {
	for _, l := range g.links.areBusy() {
		l.mu.Lock()
		err := l.core.Check()
		l.mu.Unlock()
		if err != nil {
			return fmt.Errorf("shard %d: %w", l.shard, err)
		}
	}
	if err := g.presents.check(); err != nil {
		return err
	}
	return g.hub.Check()
}

// NewWatchStream returns a stream of watches for a client. What it holds is reserved of the client's memory (nil: nobody counts). A watch is allowed as a range is;
// it ends when it is not any more.
func (g *Gateway) NewWatchStream(principal string, proof kv.Credential, memory watch.Memory) (*watch.Stream, error) {
	if err := g.Meets(principal, proof, auth.NeedNothing); err != nil {
		return nil, err
	}
	proof.Revision = 0 // a watch outlives the revision of the token that it began with
	return g.hub.NewStream(func(span kv.Span) error {
		if err := g.MayWatch(principal, proof, span); err != nil {
			return err
		}
		req := &kv.Request{Kind: kv.KindRange, Principal: principal, Range: &kv.RangeRequest{Span: span}}
		if g.options.Watch.Shards != nil {
			return nil // the hub knows what shards are here
		}
		l, err := g.linkOf(req)
		if err == nil && l.shard != g.options.Watched {
			err = notHere(l.shard) // not for watches
		}
		return err
	}, memory)
}

// DispatchWatches hands changes out to watches, and tells whether there may be more to hand out. Call it only if you set Options.Watch.Wake.
func (g *Gateway) DispatchWatches() (more bool) { return g.hub.Dispatch() }

// Close ends all calls with kv.ErrStopped, and all watch streams, and waits for what runs.
func (g *Gateway) Close() {
	if g.stopped.Swap(true) {
		return
	}
	g.reading.stop()
	g.hub.Close()
	g.committing.close()
	for _, c := range g.deadlines.close() {
		c.abort(kv.ErrStopped)
	}
	g.reading.wait()
}
