package gateway

import (
	"context"
	"fmt"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// barrierApplied reads for the calls that shared a barrier. It may run in the driver's goroutine, so only short reads
// are done here.
func (l *leaderLink) barrierApplied(reads []*link.Item, err error) {
	for _, i := range reads {
		c := callOf(i)
		switch {
		case c.answered.Load():
		case err != nil:
			c.finish(nil, err)
		case c.read != nil:
			l.complete(c, false)
		case c.ready != nil:
			c.finish(nil, nil)
		case l.gateway.leaderOnly(c.Req) && !l.local.IsLeader():
			l.enqueue(c)
		case Short(c.Req):
			l.gateway.metrics.localReads.Add(1)
			c.finish(l.readLocal(c.Req))
		default:
			l.readAside(c)
		}
	}
}

// readAside reads in a goroutine of its own; at most Limits.MaxReaders read at a time.
func (l *leaderLink) readAside(c *Call) {
	reads := l.gateway.reading.read(func() {
		if c.answered.Load() {
			return
		}
		l.gateway.metrics.localReads.Add(1)
		if c.read != nil {
			l.readAsOf(c)
			return
		}
		c.finish(l.readLocal(c.Req))
	})
	if !reads {
		c.finish(nil, kv.ErrStopped)
	}
}

// RangeStream reads a range in chunks of about 1 MiB, from one state. Every response given to emit has the
// revision of the state for its header; the last one has the last keys, and tells More and Count. It runs in the caller's goroutine, so
// an emit that blocks holds the reading up and nothing else.
func (g *Gateway) RangeStream(ctx context.Context, req *kv.Request, emit func(r *kv.Response, last bool) error) error {
	if req.Kind != kv.KindRange || req.Range == nil {
		return fmt.Errorf("stream a range: the request is none: %w", kv.ErrInvalidRequest)
	}
	if err := g.permitRange(ctx, req); err != nil {
		return err
	}
	l, err := g.admit(req)
	if links, many := g.gathering(req, err); many {
		return g.streamMany(ctx, req, links, emit)
	}
	if err != nil {
		return err
	}
	state, err := l.freeze(ctx, req)
	if err != nil {
		return err
	}
	defer state.Close()
	request, err := state.rangeRequest(req.Range)
	if err != nil {
		return err
	}
	return g.stream(ctx, req, l.local, state.Revision(), emit, func(tally *kv.Tally, fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
		return state.RangeStream(request, streamChunkBytes, tally, fn)
	})
}

func (g *Gateway) streamMany(ctx context.Context, req *kv.Request, links []*leaderLink, emit func(r *kv.Response, last bool) error) error {
	states, read, err := g.freezeMany(ctx, req, links)
	if err != nil {
		return err
	}
	defer closeViews(states)
	return g.stream(ctx, req, links[0].local, read.At.Revision, emit, func(tally *kv.Tally, fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
		return g.options.Gather.Stream(req, read.Shards, states, read.At, streamChunkBytes, tally, fn)
	})
}

// stream gives emit what read reads, which it does in its turn.
func (g *Gateway) stream(ctx context.Context, req *kv.Request, local Shard, revision kv.Revision, emit func(r *kv.Response, last bool) error,
	read func(*kv.Tally, func([]kv.KeyValue) error) (*kv.RangeResponse, error)) error {
	turn := turn{of: g.turns, ctx: ctx}
	if err := turn.take(); err != nil {
		return err
	}
	defer turn.giveBack()
	respond := func(r *kv.RangeResponse, last bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		turn.giveBack()
		return emit(&kv.Response{Kind: kv.KindRange, Revision: revision, Range: r}, last)
	}
	tally := kv.NewTally(req.Memory)
	var given error // of whoever takes the keys, not of the disk
	end, err := read(&tally, func(kvs []kv.KeyValue) error {
		if given = respond(&kv.RangeResponse{KVs: kvs}, false); given == nil {
			given = turn.take()
		}
		return given
	})
	switch {
	case given != nil:
		return given
	case err != nil:
		return local.Unread(err)
	}
	return respond(end, true)
}

// streamChunkBytes is the size of a chunk of RangeStream.
const streamChunkBytes = 1 << 20
