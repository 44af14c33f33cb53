package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// leaderLink is the shell around the link of one shard: its lock, and whoever does what the core wants done.
type leaderLink struct {
	gateway *Gateway
	shard   kv.ShardID
	itself  [1]kv.ShardID // the shard
	local   Shard         // the replica here

	reached  atomic.Pointer[reach] // for serializable reads over several shards; nil: nothing is known
	reaching atomic.Bool           // by reachPresent
	commits  commits

	mu        sync.Mutex
	core      *link.Link
	sizeBytes int  // of core's, as counted in links.sizeBytes
	pumping   bool // somebody is in pump
	listed    bool // among the busy ones
	place     int  // there, from 1; guarded by the lock of links
}

// unlock gives the lock back after core has changed.
func (l *leaderLink) unlock() {
	all := &l.gateway.links
	if size := l.core.Figures().SizeBytes; size != l.sizeBytes {
		all.sizeBytes.Add(int64(size - l.sizeBytes))
		l.sizeBytes = size
	}
	if !l.listed && l.core.Busy() {
		l.listed = true
		all.enter(l)
	}
	l.mu.Unlock()
}

// leader is what the replica here says.
func (l *leaderLink) leader() link.Leader {
	node, term := l.local.Leader()
	return link.Leader{Node: node, Term: term, Serving: node == l.gateway.options.Self && l.local.IsLeader()}
}

// enqueue hands a call to the link, which finds the leader for it.
func (l *leaderLink) enqueue(c *Call) {
	g := l.gateway
	if !g.track(c) {
		return
	}
	c.item.SizeBytes = c.sizeBytes()
	if !g.links.reserve(c.item.SizeBytes, g.options.Limits.MaxForwardedBytes) {
		c.finish(nil, kv.ErrTooManyRequests)
		return
	}
	l.mu.Lock()
	l.sizeBytes += c.item.SizeBytes // it is reserved
	l.core.Enqueue(&c.item)
	l.unlock()
	l.removeIfAnswered(c)
	l.pump()
}

// await has a tracked read share a barrier.
func (l *leaderLink) await(c *Call) {
	l.mu.Lock()
	l.core.Await(&c.item)
	l.unlock()
	l.removeIfAnswered(c)
}

// refused takes back a call that a node did not evaluate.
func (l *leaderLink) refused(c *Call, by, hint kv.NodeID) {
	l.gateway.metrics.retries.Add(1)
	l.mu.Lock()
	l.core.Refused(&c.item, by, hint)
	l.unlock()
	l.removeIfAnswered(c)
	l.pump()
}

// removeIfAnswered takes a call out again that ended (deadline, Cancel) while it was put in. One that ends
// just afterwards is found by abort.
func (l *leaderLink) removeIfAnswered(c *Call) {
	if c.answered.Load() {
		l.remove(c)
	}
}

func (l *leaderLink) remove(c *Call) {
	l.mu.Lock()
	l.core.Remove(&c.item)
	l.unlock()
}

// tick has what was held up tried again.
func (l *leaderLink) tick(now time.Duration) {
	l.mu.Lock()
	gone := l.core.Tick(now, l.leader())
	if l.listed && !l.core.Busy() {
		l.listed = false
		l.gateway.links.leave(l)
	}
	l.unlock()
	for _, node := range gone {
		l.lost(node)
	}
	l.pump()
}

// leaderChanged has everything tried again that was held up.
func (l *leaderLink) leaderChanged() {
	l.mu.Lock()
	l.core.Release()
	l.unlock()
	l.pump()
}

// lost: what was sent to the node may be lost, or its answers.
func (l *leaderLink) lost(node kv.NodeID) {
	g := l.gateway
	l.mu.Lock()
	unknown := l.core.NodeLost(node)
	l.unlock()
	for _, i := range unknown {
		g.metrics.unknown.Add(1)
		callOf(i).finish(nil, kv.ErrOutcomeUnknown)
	}
	if len(unknown) > 0 {
		g.options.Listener.LeaderLost(node, len(unknown))
	}
	l.pump()
}

// pump does what the core wants done, until there is nothing. One caller at a time works; what the others brought is
// done by it, so requests that come together leave together.
func (l *leaderLink) pump() {
	l.mu.Lock()
	if l.pumping {
		l.mu.Unlock()
		return
	}
	l.pumping = true
	for {
		work, any := l.core.Ready(l.gateway.time(), l.leader())
		if !any {
			break
		}
		l.unlock()
		unsent := l.do(work)
		l.mu.Lock()
		switch {
		case !unsent:
		case work.Barrier != 0:
			l.core.BarrierFailed(work.Barrier, work.To)
		default:
			l.core.Unsent(work.Calls)
		}
	}
	l.pumping = false
	l.unlock()
}

// do does one thing, and tells whether it could not be sent.
func (l *leaderLink) do(work link.Work) (unsent bool) {
	g := l.gateway
	here := work.To == g.options.Self
	switch {
	case work.Barrier != 0 && here:
		g.metrics.barriers.Add(1)
		l.pass(work.Revision, func(index uint64, err error) { l.barrierAnswered(work.To, work.Barrier, index, err) })
	case work.Barrier != 0:
		g.metrics.barriers.Add(1)
		return !l.sendBarrier(work.To, work.Barrier, work.Revision)
	case here:
		l.serveQueued(work.Calls)
	default:
		return !l.sendRequests(work.To, work.Calls)
	}
	return false
}

// pass finds what has to be applied behind a barrier, which the replica here leads. settles is the revision up to which the state is to be complete, if it
// is not 0.
func (l *leaderLink) pass(settles kv.Revision, done func(index uint64, err error)) {
	if settles == 0 {
		l.local.ReadIndex(done)
	} else {
		l.local.SettleAt(settles, done)
	}
}

// serveQueued serves calls here that waited for a leader elsewhere.
func (l *leaderLink) serveQueued(calls []*link.Item) {
	for _, i := range calls {
		c := callOf(i)
		switch {
		case c.answered.Load():
		case i.Read && l.readInPlace(c):
		case i.Read:
			l.await(c)
		default:
			c.queued = true
			l.propose(c)
		}
	}
}

// propose gives a write to the replica here.
func (l *leaderLink) propose(c *Call) {
	if c.spread {
		l.coordinate(c)
		return
	}
	if resp := l.undecidedHere(c.Req); resp != nil {
		c.finish(resp, nil)
		return
	}
	l.gateway.metrics.localWrites.Add(1)
	l.local.Propose(c.Req, c, c.proposed)
}

// proposed takes what became of a write here.
func (c *Call) proposed(resp *kv.Response, _ uint64, err error) {
	if err == nil || !c.again(err) {
		c.finish(resp, err)
		return
	}
	// Without effect, so whoever leads next may have it.
	if c.answered.Load() {
		return
	}
	c.item.SizeBytes = c.sizeBytes()
	leader, _ := c.link.local.Leader()
	c.link.refused(c, c.gateway.options.Self, leader)
}
