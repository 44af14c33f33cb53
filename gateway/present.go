package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quoratedb/quorate/gateway/readpath"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// presents is the shell around the path of reads that are as of a revision of the whole store: its lock, and whoever does what the core wants done.
type presents struct {
	gateway *Gateway

	mu      sync.Mutex
	core    *readpath.Path
	pumping bool // somebody is in pump
}

func (p *presents) open(g *Gateway) {
	p.gateway = g
	p.core = readpath.New(readpath.Options{Patience: g.options.BarrierTimeout})
}

// ask has a tracked read learn the present.
func (p *presents) ask(c *Call) {
	p.gateway.metrics.asOf.Add(1)
	p.mu.Lock()
	p.core.Ask(c.read)
	p.mu.Unlock()
	p.removeIfAnswered(c)
	p.pump()
}

// await has a tracked read wait until the replica here has come to a revision.
func (p *presents) await(c *Call, last kv.Revision) {
	p.gateway.metrics.arrivals.Add(1)
	p.mu.Lock()
	p.core.Await(c.read, c.link.shard, last, p.gateway.time())
	p.mu.Unlock()
	p.removeIfAnswered(c)
	p.pump()
}

// removeIfAnswered takes a read out again that ended while it was put in. One that ends just afterwards is found by abort.
func (p *presents) removeIfAnswered(c *Call) {
	if c.answered.Load() {
		p.remove(c)
	}
}

func (p *presents) remove(c *Call) {
	p.mu.Lock()
	p.core.Remove(c.read)
	p.mu.Unlock()
}

// tick has what was held up tried again, and those ask the leader who have waited for the replica here for too long.
func (p *presents) tick(now time.Duration) {
	p.mu.Lock()
	late := p.core.Tick(now)
	p.mu.Unlock()
	for _, r := range late {
		c := r.Owner.(*Call)
		c.link.settle(c)
	}
	p.pump()
}

// pump does what the core wants done, until there is nothing. One caller at a time works.
func (p *presents) pump() {
	p.mu.Lock()
	if p.pumping {
		p.mu.Unlock()
		return
	}
	p.pumping = true
	for {
		work, any := p.core.Ready()
		if !any {
			break
		}
		p.mu.Unlock()
		p.do(work)
		p.mu.Lock()
	}
	p.pumping = false
	p.mu.Unlock()
}

func (p *presents) do(work readpath.Work) {
	g := p.gateway
	if work.Question != 0 {
		g.metrics.questions.Add(1)
		g.options.Revisions.Learn(work.Shards, func(present kv.Present, err error) { p.learned(work.Question, present, err) })
		return
	}
	local := g.links.byShard[work.Shard].local
	local.WaitRevision(work.Until, func(err error) { p.arrived(work, local.Revision(), err) })
}

// learned takes the answer to a question. It may be in anybody's goroutine, so only short reads are done here.
func (p *presents) learned(question uint64, present kv.Present, err error) {
	p.mu.Lock()
	var reads []*readpath.Read
	if err == nil {
		reads = p.core.Learned(question, present)
	} else {
		p.core.Failed(question)
	}
	p.mu.Unlock()
	for _, r := range reads {
		if c := r.Owner.(*Call); c.gather != nil {
			c.gather.learned()
		} else {
			c.link.proceed(c, r.At.Shards[0])
		}
	}
	p.pump()
}

// arrived takes that a replica here has come to a revision, or never will.
func (p *presents) arrived(work readpath.Work, revision kv.Revision, err error) {
	p.mu.Lock()
	var reads []*readpath.Read
	if err == nil {
		reads = p.core.Arrived(work.Shard, work.Until, revision)
	} else {
		reads = p.core.Gone(work.Shard)
	}
	p.mu.Unlock()
	for _, r := range reads {
		c := r.Owner.(*Call)
		if err != nil {
			c.finish(nil, err)
		} else {
			c.link.complete(c, false)
		}
	}
	p.pump()
}

// check returns an error if the path contradicts itself.
func (p *presents) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Check()
}

// ofRevision tells whether a request is answered as of a revision of the whole store: those about keys are.
func (g *Gateway) ofRevision(req *kv.Request) bool {
	return g.options.Revisions != nil && (req.Kind == kv.KindRange || req.Kind == kv.KindTxn)
}

// readAtPresent answers a linearizable read about keys of one shard of several.
func (l *leaderLink) readAtPresent(c *Call) {
	c.read = &readpath.Read{Owner: c, Shards: l.itself[:]}
	if !l.readHere(c) && l.gateway.track(c) {
		l.gateway.presents.ask(c)
	}
}

// readHere answers a read if this node issues revisions and leads the shard, without asking anybody, or waits for what is in flight here. The order matters:
//
//   - R is read first, and that this node issues revisions is looked at after that: then R is at or above everything that anybody was told before (rules 4,
//     17).
//   - That this replica leads is looked at after R was issued: then nobody who leads later has evaluated anything yet, so whatever he evaluates gets a revision
//     above R (A2; rule 1).
//   - What is in flight is looked at after that. It has a revision up to R, or may get one: then the read waits for it (rule 18). What this leader evaluates
//     later asks for its revision later. Should it lead no more, Unsettled says yes; should it lead again, its barrier has settled all that was in flight.
//   - So the state has everything at or below R, for ever. When it is read does not matter, nor who leads by then: versions above R are not looked at.
//
// With the lease looked at before R, a later leader could have a write answered in between, at or below R, that this one does not know of.
func (l *leaderLink) readHere(c *Call) (taken bool) {
	present, certain := l.gateway.options.Revisions.Now()
	if !certain {
		return false
	}
	c.read.At = present
	switch readpath.Next(present.Revision, kv.ShardProgress{}, l.here()) {
	case readpath.Complete:
		l.complete(c, true)
	case readpath.Look:
		l.look(c, true)
	default:
		return false
	}
	return true
}

// here is what the replica on this node says of itself.
func (l *leaderLink) here() readpath.Local {
	return readpath.Local{Revision: l.local.Revision(), Serving: l.local.IsLeader()}
}

// proceed goes on with a tracked read that has learned the present, and how far its shard had come.
func (l *leaderLink) proceed(c *Call, told kv.ShardProgress) {
	switch readpath.Next(c.read.At.Revision, told, l.here()) {
	case readpath.Complete:
		l.complete(c, false)
	case readpath.Look:
		l.look(c, false)
	case readpath.Arrive:
		l.gateway.presents.await(c, told.Last)
	case readpath.Settle:
		l.settle(c)
	}
}

// look reads if this replica leads for certain and has nothing in flight that the read could miss. See readHere for the order.
func (l *leaderLink) look(c *Call, inPlace bool) {
	if l.local.LeaseValid() && !l.local.Unsettled(c.Req, c.read.At.Revision) {
		l.complete(c, inPlace)
	} else {
		l.settle(c)
	}
}

// settle has the leader of the shard, wherever it is, say what the replica here has to apply.
func (l *leaderLink) settle(c *Call) {
	if !l.gateway.track(c) {
		return
	}
	c.item.Revision = c.read.At.Revision
	l.await(c)
	l.pump()
}

// held has a read wait that a transaction over several shards may hold a version back from: it is prepared here, and may have got its revision before the read got
// its own (rule 18). Nothing that is prepared later can: it gets a later revision.
func (l *leaderLink) held(c *Call) bool {
	at := c.read.At.Revision
	if !l.local.Held(c.Req, at) {
		return false
	}
	l.gateway.metrics.heldReads.Add(1)
	if l.gateway.track(c) {
		l.local.WaitReleased(c.Req, at, c, func(err error) {
			if err != nil {
				c.finish(nil, err)
				return
			}
			l.complete(c, false)
		})
	}
	return true
}

// complete answers a read for which the state here is complete, but for transactions over several shards. In place it may take long.
func (l *leaderLink) complete(c *Call, inPlace bool) {
	switch {
	case c.answered.Load():
	case l.held(c):
	case c.ready != nil:
		c.finish(nil, nil)
	case inPlace || Short(c.Req):
		l.gateway.metrics.localReads.Add(1)
		l.readAsOf(c)
	default:
		l.readAside(c)
	}
}

// readAsOf answers a read from the state here. If the revision that it is as of was compacted meanwhile it learns a later one.
func (l *leaderLink) readAsOf(c *Call) {
	resp, err := l.local.ReadAt(c.Req, c.read.At)
	if !errors.Is(err, shard.ErrReadCompacted) {
		c.finish(resp, err)
	} else if l.gateway.track(c) {
		l.gateway.presents.ask(c)
	}
}

// frozen is a state, and as of when it is read.
type frozen struct {
	*mvcc.View
	at kv.Present
}

// rangeRequest is the one by which the view answers a range.
func (f frozen) rangeRequest(r *kv.RangeRequest) (*kv.RangeRequest, error) {
	if f.at.Revision == 0 {
		return r, nil
	}
	return shard.RangeAsOf(r, f.at.Revision, f.View.Revision(), max(f.View.Compacted(), f.at.Compacted))
}

// list begins to read a range.
func (f frozen) list(r *kv.RangeRequest) (*mvcc.List, error) {
	request, err := f.rangeRequest(r)
	if err != nil {
		return nil, err
	}
	return f.NewList(request)
}

// Revision is that of the header.
func (f frozen) Revision() kv.Revision {
	if f.at.Revision == 0 {
		return f.View.Revision()
	}
	return f.at.Revision
}

// freezeAtPresent returns a state that is complete up to a revision that was the last one after the call.
func (l *leaderLink) freezeAtPresent(ctx context.Context, req *kv.Request) (frozen, error) {
	for {
		c := &Call{gateway: l.gateway, link: l, Req: req}
		if err := l.gateway.waitFor(ctx, c, func() { l.readAtPresent(c) }); err != nil {
			return frozen{}, err
		}
		f := frozen{l.local.View(), c.read.At}
		if f.at.Revision >= f.View.Compacted() {
			return f, nil
		}
		_ = f.View.Close() // compacted meanwhile
	}
}

// ahead tells whether a serializable read asks for a revision that was issued, and that the replica here has not come to: nothing else may lie in between,
// which a linearizable read finds out.
func (l *leaderLink) ahead(req *kv.Request) bool {
	if !l.gateway.ofRevision(req) {
		return false
	}
	asked := askedRevision(req)
	return asked > l.local.Revision() && asked <= l.gateway.options.Revisions.Known()
}

// askedRevision is the highest revision that a request about keys asks for the state at; 0: the newest.
func askedRevision(req *kv.Request) kv.Revision {
	if req.Kind == kv.KindRange {
		return req.Range.Revision
	}
	return askedIn(req.Txn)
}

func askedIn(t *kv.TxnRequest) (highest kv.Revision) {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			switch {
			case ops[i].Range != nil:
				highest = max(highest, ops[i].Range.Revision)
			case ops[i].Txn != nil:
				highest = max(highest, askedIn(ops[i].Txn))
			}
		}
	}
	return highest
}
