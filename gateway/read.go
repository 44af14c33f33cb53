package gateway

import (
	"context"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// barrierApplied reads for the calls that shared a barrier. It may run in the driver's goroutine, so only short reads
// are done here.
func (g *Gateway) barrierApplied(calls []*Call, err error) {
	for _, c := range calls {
		switch {
		case c.answered.Load():
		case err != nil || c.ready != nil:
			c.finish(nil, err)
		case leaderOnly(c.Req) && !g.shard.IsLeader():
			g.enqueue(c)
		case Short(c.Req):
			g.metrics.localReads.Add(1)
			c.finish(g.shard.Read(c.Req))
		default:
			g.readAside(c)
		}
	}
}

// Short tells whether the request is no read that takes longer than handing it to another goroutine.
func Short(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindRange:
		return req.Range.Span.Single()
	case kv.KindTxn:
		return len(req.Txn.Compare) <= 4 && shortCompares(req.Txn.Compare) && shortOps(req.Txn.Success) && shortOps(req.Txn.Failure)
	case kv.KindLeaseTimeToLive:
		return !req.LeaseTimeToLive.Keys
	case kv.KindLeaseLeases:
		return false
	}
	return true
}

func shortCompares(compares []kv.Compare) bool {
	for i := range compares {
		if !compares[i].Span.Single() {
			return false
		}
	}
	return true
}

func shortOps(ops []kv.Op) bool {
	for i := range ops {
		if ops[i].Range == nil || !ops[i].Range.Span.Single() {
			return false
		}
	}
	return len(ops) <= 4
}

// readAside reads in a goroutine of its own; at most Limits.MaxReaders read at a time.
func (g *Gateway) readAside(c *Call) {
	g.mu.Lock()
	stopped := g.stopped.Load()
	if !stopped {
		g.reading.Add(1)
	}
	g.mu.Unlock()
	if stopped {
		c.finish(nil, kv.ErrStopped)
		return
	}
	g.options.Spawn(func() {
		defer g.reading.Done()
		g.readers <- struct{}{}
		defer func() { <-g.readers }()
		if c.answered.Load() {
			return
		}
		g.metrics.localReads.Add(1)
		c.finish(g.shard.Read(c.Req))
	})
}

// RangeStream reads a range in chunks of about 1 MiB, from one state. Every response given to emit has the
// revision of the state for its header; the last one has the last keys, and tells More and Count. It runs in the caller's goroutine, so
// an emit that blocks holds the reading up and nothing else.
func (g *Gateway) RangeStream(ctx context.Context, req *kv.Request, emit func(r *kv.Response, last bool) error) error {
	if req.Kind != kv.KindRange || req.Range == nil {
		return fmt.Errorf("stream a range: the request is none: %w", kv.ErrInvalidRequest)
	}
	if err := g.admit(req); err != nil {
		return err
	}
	view, err := g.freeze(ctx, req.Range.Serializable)
	if err != nil {
		return err
	}
	defer view.Close()
	respond := func(r *kv.RangeResponse, last bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return emit(&kv.Response{Kind: kv.KindRange, Revision: view.Revision(), Range: r}, last)
	}
	tally := kv.NewTally(req.Memory)
	end, err := view.RangeStream(req.Range, streamChunkBytes, &tally, func(kvs []kv.KeyValue) error {
		return respond(&kv.RangeResponse{KVs: kvs}, false)
	})
	if err != nil {
		return err
	}
	return respond(end, true)
}

// streamChunkBytes is the size of a chunk of RangeStream.
const streamChunkBytes = 1 << 20

// HashResult is the answer to HashKV.
type HashResult struct {
	Hash         uint32
	HashRevision kv.Revision // the revision that was hashed
	Revision     kv.Revision // of the state, for the header
	Compacted    kv.Revision // where history began that was hashed
}

// HashKV sums up the local state at a revision (0: the newest). It is equal on all nodes. One hash is
// computed at a time; the others wait. A revision at which history was compacted keeps the hash that it had before.
func (g *Gateway) HashKV(ctx context.Context, principal string, revision kv.Revision) (HashResult, error) {
	req := &kv.Request{Kind: kv.KindRange, Principal: principal,
		Range: &kv.RangeRequest{Span: kv.Span{Start: []byte{0}, End: []byte{0}}, Serializable: true}}
	if err := g.admit(req); err != nil {
		return HashResult{}, err
	}
	select {
	case g.hashing <- struct{}{}:
	case <-ctx.Done():
		return HashResult{}, ctx.Err()
	}
	defer func() { <-g.hashing }()
	if err := g.shard.Readable(); err != nil {
		return HashResult{}, err
	}
	view := g.shard.View()
	defer view.Close()
	if revision > 0 && revision <= view.Compacted() {
		hash, compacted, found, err := g.shard.CompactionHash(ctx, revision)
		if found || err != nil {
			return HashResult{Hash: hash, HashRevision: revision, Revision: view.Revision(), Compacted: compacted}, err
		}
	}
	hash, err := view.Hash(revision)
	result := HashResult{Hash: hash, HashRevision: revision, Revision: view.Revision(), Compacted: view.Compacted()}
	if revision == 0 {
		result.HashRevision = view.Revision()
	}
	return result, err
}
