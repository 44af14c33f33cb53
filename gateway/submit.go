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
	if g.calls.Add(1) > int64(g.options.Limits.MaxCalls) && !c.aboutTransaction() {
		c.finish(nil, kv.ErrTooManyRequests)
		return
	}
	g.enter(c)
}

// enter takes a call that is counted.
func (g *Gateway) enter(c *Call) {
	if err := g.check(c.Req); err != nil {
		c.finish(nil, err)
		return
	}
	if !g.judge(c) {
		return
	}
	l, err := g.linkOf(c.Req)
	if links, many := g.gathering(c.Req, err); many {
		g.readMany(c, links)
		return
	}
	if err != nil {
		if l, err = g.anchorOf(c.Req, err); err != nil {
			c.finish(nil, err)
			return
		}
		c.spread = true
	}
	c.link = l
	if c.RequireLeader && (!l.known() || c.spread && !c.leads()) {
		c.finish(nil, c.because(kv.ErrNoLeader))
		return
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
		c.cost = bytes
	}
	if g.decided(c.Req) && !c.internal {
		g.timeToLive(c)
		return
	}
	l.answer(c)
}

// aboutTransaction tells whether the call is a question about a transaction over several shards. Those are bounded by the transactions, and are never refused: the
// calls that there are too many of may wait for the end of such a transaction.
func (c *Call) aboutTransaction() bool { return c.internal && c.Req.Commit != nil }

// check refuses what is not well formed.
func (g *Gateway) check(req *kv.Request) error {
	if g.stopped.Load() {
		return kv.ErrStopped
	}
	return g.options.ValidateRequest(req)
}

// admit checks a request, and returns the link of its shard.
func (g *Gateway) admit(req *kv.Request) (*leaderLink, error) {
	if err := g.check(req); err != nil {
		return nil, err
	}
	return g.linkOf(req)
}

// answer decides who answers.
func (l *leaderLink) answer(c *Call) {
	c.item.Read = shard.IsReadOnly(c.Req) && !l.gateway.decided(c.Req)
	switch {
	case !c.item.Read:
		l.write(c)
	case shard.IsSerializable(c.Req) && !l.ahead(c.Req):
		l.gateway.metrics.localReads.Add(1)
		c.finish(l.readLocal(c.Req))
	case l.gateway.leaderOnly(c.Req):
		l.readAtLeader(c)
	case l.gateway.ofRevision(c.Req):
		l.readAtPresent(c)
	default:
		l.readLinearizable(c)
	}
}

// leaderOnly tells whether only the leader can answer a read: the clock that leases expire by is its own. And of several shards, what is not about keys
// has the newest revision of the store in its header, which is known where the system shard is led. Asking there costs what a barrier would.
func (g *Gateway) leaderOnly(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindLeaseTimeToLive, kv.KindLeaseLeases:
		return true
	case kv.KindMemberList, kv.KindAlarm, kv.KindAuth:
		return g.options.Revisions != nil && shard.IsReadOnly(req)
	}
	return false
}

// known is the highest revision of the store that is known here; 0: that of the shard is the store's.
func (g *Gateway) known() kv.Revision {
	if g.options.Revisions == nil {
		return 0
	}
	return g.options.Revisions.Known()
}

// readLocal answers from the applied state here. In a store of several shards an answer that is not about keys has the store's revision, not the shard's, in
// its header. If this node leads the system shard, nobody can have been told of a later one before: all that was issued is known here then.
func (l *leaderLink) readLocal(req *kv.Request) (*kv.Response, error) {
	known := kv.Revision(0)
	if req.Kind != kv.KindRange && req.Kind != kv.KindTxn {
		known = l.gateway.known()
	}
	resp, err := l.local.Read(req)
	if err == nil {
		resp.Revision = max(resp.Revision, known)
	}
	return resp, err
}

// readInPlace answers a linearizable read if this node's lease on leadership allows it.
func (l *leaderLink) readInPlace(c *Call) bool {
	if !l.local.LeaseValid() {
		return false
	}
	resp, err := l.readLocal(c.Req)
	if !l.local.LeaseValid() {
		return false
	}
	l.gateway.metrics.localReads.Add(1)
	c.finish(resp, err)
	return true
}

// renewed answers a keep-alive if this node leads for certain and has promised ahead, in the log, what is asked for. Most are.
func (l *leaderLink) renewed(req *kv.Request, elsewhere bool) (resp *kv.Response, applied uint64, renewed bool) {
	if req.Kind != kv.KindLeaseKeepAlive || !l.local.LeaseValid() || l.gateway.outdated(req) {
		return nil, 0, false
	}
	known := l.gateway.known() // before, as etcd: the lease lived at the revision of the header
	resp, applied, renewed = l.local.Renew(req.LeaseKeepAlive, elsewhere)
	if !renewed || !l.local.LeaseValid() {
		return nil, 0, false
	}
	resp.Revision = max(resp.Revision, known)
	l.gateway.metrics.localRenewals.Add(1)
	return resp, applied, true
}

func (l *leaderLink) readLinearizable(c *Call) {
	if l.readInPlace(c) || !l.gateway.track(c) {
		return
	}
	l.await(c)
	l.pump()
}

func (l *leaderLink) readAtLeader(c *Call) {
	switch {
	case l.readInPlace(c):
	case l.local.IsLeader():
		l.readLinearizable(c)
	default:
		l.enqueue(c)
	}
}

func (l *leaderLink) write(c *Call) {
	if resp, _, ok := l.renewed(c.Req, false); ok {
		c.finish(resp, nil)
		return
	}
	if !l.local.IsLeader() {
		l.enqueue(c)
		return
	}
	if l.gateway.track(c) {
		l.propose(c)
	}
}

// wait submits a barrier and waits until it is passed.
func (l *leaderLink) wait(ctx context.Context) error {
	c := &Call{gateway: l.gateway, link: l}
	return l.gateway.waitFor(ctx, c, func() {
		if l.gateway.track(c) {
			l.await(c)
			l.pump()
		}
	})
}

// CatchUp waits until the replica of a shard on this node has applied all that was committed in the shard at some moment after the call, as its leader says. It
// costs that leader what a read elsewhere does.
func (g *Gateway) CatchUp(ctx context.Context, shard kv.ShardID) error {
	l := g.links.byShard[shard]
	if l == nil {
		return notHere(shard)
	}
	err := l.wait(ctx)
	if err == nil && shard == kv.SystemShard {
		g.permits.known.Store(true)
	}
	return err
}

// waitFor begins a call without an answer, and waits for its end.
func (g *Gateway) waitFor(ctx context.Context, c *Call, begin func()) error {
	passed := make(chan error, 1)
	c.ready = func(err error) { passed <- err }
	c.item.Read = true
	c.Deadline, _ = ctx.Deadline()
	if err := g.letIn(); err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended { // also when the goroutine ends while it waits
			g.Cancel(c)
		}
	}()
	begin()
	if g.options.Await != nil {
		g.options.Await(ctx, func() bool { return len(passed) > 0 })
	}
	select {
	case err := <-passed: // whether the caller still waits is no matter then
		ended = true
		return err
	default:
	}
	select {
	case err := <-passed:
		ended = true
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
