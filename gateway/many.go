package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/gateway/readpath"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Gatherer answers requests over the states of several shards.
type Gatherer interface {
	// Gather answers a range, or a transaction of ranges, as one store that has all of the states would as of at.Revision. Each of them is complete up to that; it
	// may be newer, or older. They are those of the shards, which ascend. Revisions above at.Revision are in the future for the request, those below
	// at.Compacted are compacted. It may take long.
	Gather(req *kv.Request, shards []kv.ShardID, states []*mvcc.View, at kv.Present) (*kv.Response, error)
	// List begins to read a range in the order of keys, of the same states.
	List(req *kv.Request, shards []kv.ShardID, states []*mvcc.View, at kv.Present) (*gather.List, error)
	// Stream answers a range in chunks of about so many bytes, all but the last of which it gives to fn.
	Stream(req *kv.Request, shards []kv.ShardID, states []*mvcc.View, at kv.Present, chunkBytes int64, tally *kv.Tally,
		fn func([]kv.KeyValue) error) (*kv.RangeResponse, error)
}

// gathering is a read over several shards. It learns the present once, then the state of each shard has to become complete up to it, by parts: calls without an
// answer, each of one shard.
type gathering struct {
	call  *Call
	links []*leaderLink // of the shards

	mu      sync.Mutex
	parts   []*Call // of the present try
	missing int     // of them that have not ended
}

// gathering returns the links of a read over several shards, if such a read is served.
func (g *Gateway) gathering(req *kv.Request, err error) (links []*leaderLink, serves bool) {
	spread, knows := g.options.Router.(route.Spread)
	if !errors.Is(err, kv.ErrManyShards) || !knows || g.options.Gather == nil || !g.ofRevision(req) || !shard.IsReadOnly(req) {
		return nil, false
	}
	for _, id := range spread.Touched(req) {
		l := g.links.byShard[id]
		if l == nil {
			return nil, false
		}
		links = append(links, l)
	}
	return links, true
}

// readMany answers a read over several shards.
func (g *Gateway) readMany(c *Call, links []*leaderLink) {
	gatherFor(c, links)
	if c.RequireLeader && !c.leads() {
		c.finish(nil, c.because(kv.ErrNoLeader))
		return
	}
	if shard.IsSerializable(c.Req) && c.gather.readStale() || !g.track(c) {
		return
	}
	g.presents.ask(c)
}

// gatherFor makes a call one over several shards.
func gatherFor(c *Call, links []*leaderLink) {
	c.gather = &gathering{call: c, links: links}
	c.read = &readpath.Read{Owner: c}
	for _, l := range links {
		c.read.Shards = append(c.read.Shards, l.shard)
	}
}

// freezeMany returns states of several shards that a range may be answered from, and the read that says as of when.
func (g *Gateway) freezeMany(ctx context.Context, req *kv.Request, links []*leaderLink) ([]*mvcc.View, *readpath.Read, error) {
	for stale := req.Range.Serializable; ; {
		c := &Call{gateway: g, Req: req}
		gatherFor(c, links)
		var views []*mvcc.View
		var err error
		if stale {
			if views, err = c.gather.freezeStale(); err != nil {
				return nil, nil, err
			}
		}
		if stale = false; views == nil {
			err = g.waitFor(ctx, c, func() {
				if g.track(c) {
					g.presents.ask(c)
				}
			})
			if err != nil {
				return nil, nil, err
			}
			views = c.gather.freeze()
		}
		if !compactedSince(views, c.read.At) && !g.outdated(req) {
			return views, c.read, nil
		}
		closeViews(views)
		if g.outdated(req) {
			if err := g.permitAnew(ctx, req); err != nil {
				return nil, nil, err
			}
		}
	}
}

// compactedSince tells whether a read of the states as of the present comes too late.
func compactedSince(views []*mvcc.View, at kv.Present) bool {
	return slices.ContainsFunc(views, func(v *mvcc.View) bool { return at.Revision < v.Compacted() })
}

func closeViews(views []*mvcc.View) {
	for _, v := range views {
		_ = v.Close() // it was only read
	}
}

// readStale answers from what is here, and does not if that is not enough.
func (r *gathering) readStale() (answered bool) {
	views, err := r.freezeStale()
	if err != nil {
		r.call.finish(nil, err)
		return true
	}
	return views != nil && r.answer(views)
}

// freezeStale returns what is here, which is read as of the revision up to which all of the states are known to be complete. What holds that back is looked
// after beside it, for the next such read: a shard without writes would hold it back for ever. Nil: a revision is asked for that they have not all come to.
func (r *gathering) freezeStale() ([]*mvcc.View, error) {
	reached := make([]reach, len(r.links))
	for i, l := range r.links {
		if err := l.local.Readable(); err != nil {
			return nil, err
		}
		if l.ahead(r.call.Req) {
			return nil, nil
		}
		if known := l.reached.Load(); known != nil {
			reached[i] = *known
		}
	}
	views := r.freeze()
	complete := make([]kv.Revision, len(views))
	for i, v := range views {
		complete[i] = reached[i].of(v)
	}
	newest := slices.Max(complete)
	for i, l := range r.links {
		if complete[i] < newest {
			l.reachPresent()
		}
	}
	r.call.read.At = kv.Present{Revision: slices.Min(complete)}
	return views, nil
}

// learned has the states become complete up to what the read has learned.
func (r *gathering) learned() {
	c := r.call
	at := c.read.At
	r.mu.Lock()
	r.parts, r.missing = nil, len(r.links)
	for i, l := range r.links {
		part := &Call{gateway: c.gateway, link: l, Req: c.Req, Deadline: c.Deadline, ready: r.partEnded}
		part.item.Read = true
		part.read = &readpath.Read{Owner: part, Shards: l.itself[:], At: kv.Present{Revision: at.Revision, Compacted: at.Compacted, Shards: at.Shards[i : i+1]}}
		r.parts = append(r.parts, part)
	}
	parts := r.parts
	r.mu.Unlock()
	c.gateway.calls.Add(int64(len(parts)))
	for _, part := range parts {
		if c.gateway.track(part) {
			part.link.proceed(part, part.read.At.Shards[0])
		}
	}
	if c.answered.Load() { // meanwhile
		r.abort()
	}
}

// partEnded reads once the states are complete.
func (r *gathering) partEnded(err error) {
	if err != nil {
		r.call.finish(nil, err)
		r.abort()
		return
	}
	r.mu.Lock()
	r.missing--
	complete := r.missing == 0
	r.mu.Unlock()
	if !complete {
		return
	}
	c := r.call
	if c.ready != nil {
		c.finish(nil, nil)
		return
	}
	reads := c.gateway.reading.read(func() {
		if !c.answered.Load() && !r.answer(r.freeze()) && c.gateway.track(c) {
			c.gateway.presents.ask(c)
		}
	})
	if !reads {
		c.finish(nil, kv.ErrStopped)
	}
}

// abort ends the parts: nobody waits for them any more.
func (r *gathering) abort() {
	r.mu.Lock()
	parts := r.parts
	r.parts = nil
	r.mu.Unlock()
	for _, part := range parts {
		part.abort(kv.ErrCanceled)
	}
}

func (r *gathering) freeze() []*mvcc.View {
	views := make([]*mvcc.View, len(r.links))
	for i, l := range r.links {
		views[i] = l.local.View()
	}
	return views
}

// answer answers from views that are complete up to the revision that the read is as of, and closes them. false: that is compacted by now.
func (r *gathering) answer(views []*mvcc.View) (answered bool) {
	c := r.call
	compacted := compactedSince(views, c.read.At)
	var resp *kv.Response
	var err error
	if !compacted {
		c.gateway.metrics.localReads.Add(1)
		resp, err = c.gateway.options.Gather.Gather(c.Req, c.read.Shards, views, c.read.At)
	}
	closeViews(views)
	if !compacted {
		c.finish(resp, r.links[0].local.Unread(err))
	}
	return !compacted
}
