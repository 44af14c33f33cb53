package gateway

import (
	"context"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Submit takes a call. It blocks only for reads that it answers in place.
func (g *Gateway) Submit(c *Call) {
	c.gateway = g
	if g.calls.Add(1) > int64(g.options.Limits.MaxCalls) {
		c.finish(nil, kv.ErrTooManyRequests)
		return
	}
	if err := g.admit(c.Req); err != nil {
		c.finish(nil, err)
		return
	}
	if c.RequireLeader {
		if leader, _ := g.shard.Leader(); leader == 0 {
			c.finish(nil, kv.ErrNoLeader)
			return
		}
	}
	if !c.Deadline.IsZero() && time.Until(c.Deadline) <= 0 {
		g.metrics.timeouts.Add(1)
		c.finish(nil, kv.ErrTimeout)
		return
	}
	if bytes := shard.CostBytes(c.Req); bytes > 0 {
		if !g.options.Space.Admit(bytes) {
			g.options.Space.Refuse(func() { c.finish(nil, kv.ErrNoSpace) })
			return
		}
		c.costBytes = bytes
	}
	g.route(c)
}

// admit is what every request passes before anything is done with it.
func (g *Gateway) admit(req *kv.Request) error {
	if g.stopped.Load() {
		return kv.ErrStopped
	}
	if err := g.options.ValidateRequest(req); err != nil {
		return err
	}
	return g.options.Authorizer.Authorize(req.Principal, req)
}

// route decides who answers.
func (g *Gateway) route(c *Call) {
	c.read = shard.IsReadOnly(c.Req)
	switch {
	case !c.read:
		g.write(c)
	case shard.IsSerializable(c.Req):
		g.metrics.localReads.Add(1)
		c.finish(g.shard.Read(c.Req))
	case leaderOnly(c.Req):
		g.readAtLeader(c)
	default:
		g.readLinearizable(c)
	}
}

// leaderOnly tells whether only the leader knows: the clock that leases expire by is its own.
func leaderOnly(req *kv.Request) bool {
	return req.Kind == kv.KindLeaseTimeToLive || req.Kind == kv.KindLeaseLeases
}

// readInPlace answers a linearizable read if this node's lease on leadership allows it.
func (g *Gateway) readInPlace(c *Call) bool {
	if !g.shard.LeaseValid() {
		return false
	}
	resp, err := g.shard.Read(c.Req)
	if !g.shard.LeaseValid() {
		return false
	}
	g.metrics.localReads.Add(1)
	c.finish(resp, err)
	return true
}

// renewed answers a keep-alive if this node leads for certain and has promised ahead, in the log, what is asked for. Most are.
func (g *Gateway) renewed(req *kv.Request) (*kv.Response, bool) {
	if req.Kind != kv.KindLeaseKeepAlive || !g.shard.LeaseValid() {
		return nil, false
	}
	resp, renewed := g.shard.Renew(req.LeaseKeepAlive)
	if !renewed || !g.shard.LeaseValid() {
		return nil, false
	}
	g.metrics.localRenewals.Add(1)
	return resp, true
}

func (g *Gateway) readLinearizable(c *Call) {
	if g.readInPlace(c) {
		return
	}
	if !g.track(c) {
		return
	}
	g.mu.Lock()
	g.barriers.add(c)
	g.mu.Unlock()
	g.dropIfAnswered(c)
	g.pump()
}

func (g *Gateway) readAtLeader(c *Call) {
	switch {
	case g.readInPlace(c):
	case g.shard.IsLeader():
		g.readLinearizable(c)
	default:
		g.enqueue(c)
	}
}

func (g *Gateway) write(c *Call) {
	if resp, ok := g.renewed(c.Req); ok {
		c.finish(resp, nil)
		return
	}
	if g.shard.IsLeader() {
		switch {
		case !g.track(c):
		case c.Hurried || c.Req.Kind == kv.KindLeaseKeepAlive: // of a stream, which may bring more at once
			g.propose(c)
		default:
			g.metrics.localWrites.Add(1)
			g.shard.ProposeHere(c.Req, c.wanted, c.proposed)
		}
		return
	}
	g.enqueue(c)
}

// enqueue hands a call to the forwarder.
func (g *Gateway) enqueue(c *Call) {
	if !g.track(c) {
		return
	}
	g.mu.Lock()
	c.sizeBytes = shard.SizeBytes(c.Req)
	full := g.forward.sizeBytes > 0 && g.forward.sizeBytes+c.sizeBytes > g.options.Limits.MaxForwardedBytes
	if !full {
		g.forward.enqueue(c)
	}
	g.mu.Unlock()
	if full {
		c.finish(nil, kv.ErrTooManyRequests)
		return
	}
	g.dropIfAnswered(c)
	g.pump()
}

// track starts the call's deadline; one that is running goes on. false: the gateway is closed, the call has ended.
func (g *Gateway) track(c *Call) bool {
	if c.expires != 0 {
		return true
	}
	now := time.Duration(g.now.Load())
	expires := now + g.options.RequestTimeout
	if !c.Deadline.IsZero() {
		expires = min(expires, now+time.Until(c.Deadline))
	}
	c.expires = max(expires, 1)
	g.deadlinesMu.Lock()
	closed := g.closed
	if !closed {
		g.deadlines.add(c)
	}
	g.deadlinesMu.Unlock()
	if closed {
		c.finish(nil, kv.ErrStopped)
	}
	return !closed
}

// finish answers the call, once.
func (c *Call) finish(resp *kv.Response, err error) {
	if c.answered.Swap(true) {
		return
	}
	g := c.gateway
	if c.expires != 0 {
		g.deadlinesMu.Lock()
		g.deadlines.remove(c)
		g.deadlinesMu.Unlock()
	}
	g.calls.Add(-1)
	if c.costBytes > 0 {
		g.options.Space.Answered(c.costBytes)
	}
	if c.ready != nil {
		c.ready(err)
		return
	}
	c.Done(resp, err)
}

// propose gives a write to the local replica.
func (g *Gateway) propose(c *Call) {
	g.metrics.localWrites.Add(1)
	g.shard.Propose(c.Req, c.wanted, c.proposed)
}

func (c *Call) proposed(resp *kv.Response, _ uint64, err error) {
	if err == nil || !c.again(err) {
		c.finish(resp, err)
		return
	}
	// Without effect, so whoever leads next may have it.
	g := c.gateway
	if c.answered.Load() {
		return
	}
	g.metrics.retries.Add(1)
	g.mu.Lock()
	c.sizeBytes = shard.SizeBytes(c.Req)
	hint, _ := g.shard.Leader()
	g.forward.refused(c, g.options.Self, hint, g.options.Self)
	g.mu.Unlock()
	g.dropIfAnswered(c)
	g.pump()
}

// dropIfAnswered takes a call out again that ended (deadline, Cancel) while it was put in. One that ends
// just afterwards is found by abort.
func (g *Gateway) dropIfAnswered(c *Call) {
	if !c.answered.Load() {
		return
	}
	g.mu.Lock()
	g.detach(c)
	g.mu.Unlock()
}

// detach takes a call out of whatever holds it. The lock is held.
func (g *Gateway) detach(c *Call) {
	switch c.state {
	case callQueued, callSent:
		g.forward.remove(c)
	case callBarrier:
		g.barriers.remove(c)
	}
}

// Cancel ends a call whose client has gone, with kv.ErrCanceled. A write may take effect all the same.
func (g *Gateway) Cancel(c *Call) { g.abort(c, kv.ErrCanceled) }

func (g *Gateway) abort(c *Call, err error) {
	c.finish(nil, err)
	g.mu.Lock()
	g.detach(c)
	g.mu.Unlock()
}

// wait submits a barrier and waits until it is passed.
func (g *Gateway) wait(ctx context.Context) error {
	passed := make(chan error, 1)
	c := &Call{gateway: g, read: true, ready: func(err error) { passed <- err }}
	c.Deadline, _ = ctx.Deadline()
	if g.calls.Add(1) > int64(g.options.Limits.MaxCalls) {
		g.calls.Add(-1)
		return kv.ErrTooManyRequests
	}
	if g.track(c) {
		g.mu.Lock()
		g.barriers.add(c)
		g.mu.Unlock()
		g.dropIfAnswered(c)
		g.pump()
	}
	select {
	case err := <-passed:
		return err
	case <-ctx.Done():
		g.Cancel(c)
		return ctx.Err()
	}
}
