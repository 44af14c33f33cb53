package gateway

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/gateway/readpath"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Call is one request of a client. Done is called exactly once, from any goroutine or before
// Submit returns, and must not block. A Call is used once.
type Call struct {
	Req  *kv.Request
	Done func(*kv.Response, error)
	// Deadline ends the call with kv.ErrTimeout; Options.RequestTimeout does so anyway.
	Deadline time.Time
	// RequireLeader ends the call with kv.ErrNoLeader at once when no leader is known.
	RequireLeader bool
	// MoreFollow: the caller may bring more calls at once. Otherwise it has nothing else to do until this one is answered.
	MoreFollow bool
	// Trusted: the node itself asks, and may do everything.
	Trusted bool

	// Of whoever has the call: the link that looks for a leader, or the one leader that is asked.

	internal    bool  // it is not a client's
	spread      bool  // it writes in several shards, and its link is that of the anchor
	queued      bool  // it waited for a leader, as others did
	evaluations uint8 // that came to nothing
	judgments   uint8 // that came too early
	confirmed   bool  // if it is refused, it is by a state that is new enough
	judged      bool  // it was refused for good: review leaves it
	leases      map[kv.LeaseID][][]byte

	answered atomic.Bool          // whoever sets it answers the call
	next     atomic.Pointer[Call] // goes on for this one, which has had no effect

	// Set before the call is handed to anybody, and not changed.

	gateway *Gateway
	link    *leaderLink   // of the shard that the request is for
	ready   func(error)   // for a call without a request: the barrier was passed
	gather  *gathering    // of a read over several shards
	cost    int64         // bytes that the call was admitted for: Options.Space
	until   time.Duration // when nobody waits any more; 0: see Deadline
	expires time.Duration // 0: the call was answered in place

	read  *readpath.Read // of a read as of a revision; guarded by the lock of presents, or of whoever has the call
	item  link.Item      // guarded by the link's lock
	timer timer          // guarded by the lock of deadlines

	coordinated atomic.Pointer[coordinated] // of a write over several shards whose anchor is led here
}

// Waits implements kv.Asker: what has ended, by its deadline or by its client, is not evaluated any more.
func (c *Call) Waits() bool {
	return !c.answered.Load() && (c.expires == 0 || c.expires > c.gateway.time())
}

// Left implements kv.Asker. What was answered in place has no deadline.
func (c *Call) Left() time.Duration {
	if c.expires == 0 {
		return c.gateway.options.RequestTimeout
	}
	return c.expires - c.gateway.time()
}

// Alone implements kv.Asker.
func (c *Call) Alone() bool { return !c.MoreFollow && !c.queued }

// Elsewhere implements kv.Asker.
func (c *Call) Elsewhere() bool { return false }

// callOf is the call behind an item of a link.
func callOf(i *link.Item) *Call { return i.Owner.(*Call) }

// track starts the call's deadline; one that is running goes on. false: the gateway is closed, the call has ended.
func (g *Gateway) track(c *Call) bool {
	if c.expires != 0 {
		return true
	}
	now := g.time()
	expires := now + g.options.RequestTimeout
	if !c.Deadline.IsZero() {
		expires = min(expires, now+time.Until(c.Deadline))
	}
	if c.until != 0 {
		expires = min(expires, c.until)
	}
	c.expires = max(expires, 1)
	c.item.Owner, c.item.Request, c.item.Expires = c, c.Req, c.expires
	if !g.deadlines.add(c) {
		c.finish(nil, kv.ErrStopped)
		return false
	}
	return true
}

// finish answers the call, once.
func (c *Call) finish(resp *kv.Response, err error) {
	if c.gateway.options.Users != nil {
		var over bool
		if resp, err, over = c.review(resp, err); over {
			return
		}
	}
	if c.answered.Swap(true) {
		return
	}
	c.end()
	if c.ready != nil {
		c.ready(err)
		return
	}
	c.Done(resp, err)
}

// end gives back what an answered call had.
func (c *Call) end() {
	g := c.gateway
	if c.expires != 0 {
		g.deadlines.remove(c)
	}
	g.calls.Add(-1)
	if c.cost > 0 {
		g.options.Space.Answered(c.cost)
	}
}

// because names the shards whose leaders nobody knows, of those that the call needs. In a store of one shard there is nothing to name.
func (c *Call) because(err *kv.Error) error { return c.gateway.because(err, c.targets()) }

// targets returns the links of the shards that the call is for.
func (c *Call) targets() []*leaderLink {
	switch {
	case c.gather != nil:
		return c.gather.links
	case c.spread:
		return c.gateway.touched(c.Req)
	case c.link != nil:
		return []*leaderLink{c.link}
	}
	return nil
}

// leads tells whether a leader is known of each shard that the call is for.
func (c *Call) leads() bool {
	return !slices.ContainsFunc(c.targets(), func(l *leaderLink) bool { return !l.known() })
}

// touched returns the links of the shards here that a request over several shards touches.
func (g *Gateway) touched(req *kv.Request) (links []*leaderLink) {
	spread, knows := g.options.Router.(route.Spread)
	if !knows {
		return nil
	}
	for _, id := range spread.Touched(req) {
		if l := g.links.byShard[id]; l != nil {
			links = append(links, l)
		}
	}
	return links
}

// because names the shards without a leader of those without which something for these targets is not answered: themselves, and that of the sequencer.
func (g *Gateway) because(err *kv.Error, targets []*leaderLink) error {
	if g.options.Revisions == nil {
		return err
	}
	needed := slices.Clone(targets)
	if system := g.links.byShard[kv.SystemShard]; system != nil {
		needed = append(needed, system)
	}
	slices.SortFunc(needed, func(a, b *leaderLink) int { return cmp.Compare(a.shard, b.shard) })
	var lacking []kv.ShardID
	for _, l := range slices.Compact(needed) {
		if !l.known() {
			lacking = append(lacking, l.shard)
		}
	}
	if len(lacking) == 0 {
		return err
	}
	return kv.Leaderless(err, lacking)
}

// known tells whether somebody is known to lead the shard.
func (l *leaderLink) known() bool {
	leader, _ := l.local.Leader()
	return leader != 0
}

// Cancel ends a call whose client has gone, with kv.ErrCanceled. A write may take effect all the same.
func (g *Gateway) Cancel(c *Call) { c.abort(kv.ErrCanceled) }

// abort ends the call, wherever it is.
func (c *Call) abort(err error) {
	c.finish(nil, err)
	if c.link != nil {
		c.link.remove(c)
	}
	if c.read != nil {
		c.gateway.presents.remove(c)
	}
	if c.gather != nil {
		c.gather.abort()
	}
	if under := c.coordinated.Load(); under != nil {
		under.cancel()
	}
	if next := c.next.Load(); next != nil {
		next.abort(err)
	}
}

// sizeBytes is what the request counts for on its way to a leader.
func (c *Call) sizeBytes() int { return shard.SizeBytes(c.Req) }

// freeAnswerBytes of an answer that comes from elsewhere are not counted: there is room for as much where the request is.
const freeAnswerBytes = 1 << 10

// pays reserves for an answer that comes from another node.
func (c *Call) pays(bytes int) bool {
	return c.Req.Memory == nil || bytes <= freeAnswerBytes || c.Req.Memory.Reserve(int64(bytes))
}
