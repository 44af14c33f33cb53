package gateway

import (
	"context"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Export is a shard's state that is complete up to a revision, for a backup. It must be closed: until then nothing that it has is deleted from the disk. It
// is one of the calls in flight. For one goroutine.
type Export struct {
	gateway  *Gateway
	view     *mvcc.View
	revision kv.Revision
}

// OpenExport takes the state of a shard for a backup of the store at a revision, from the replica here if that has come so far. kv.ErrCompacted: the history is
// compacted above it.
func (g *Gateway) OpenExport(ctx context.Context, principal string, id kv.ShardID, revision kv.Revision) (*Export, error) {
	req := &kv.Request{Kind: kv.KindRange, Principal: principal, AuthVersion: kv.Unjudged,
		Range: &kv.RangeRequest{Span: kv.Everything(), Revision: revision, Serializable: true}}
	_, links, err := g.admitReader(req)
	if err != nil {
		return nil, err
	}
	e, opened := &Export{gateway: g, revision: revision}, false
	defer func() {
		if !opened { // also when the goroutine ends while it waits
			e.Close()
		}
	}()
	link := g.links.byShard[id]
	if link == nil {
		return nil, kv.ErrShardNotHere
	}
	if err := e.freeze(ctx, req, link, links != nil); err != nil {
		return nil, err
	}
	opened = true
	return e, nil
}

func (e *Export) freeze(ctx context.Context, req *kv.Request, link *leaderLink, many bool) error {
	at := kv.Revision(0)
	if many {
		states, read, err := e.gateway.freezeMany(ctx, req, []*leaderLink{link})
		if err != nil {
			return err
		}
		e.view, at = states[0], read.At.Revision
	} else {
		state, err := link.freeze(ctx, req)
		if err != nil {
			return err
		}
		e.view, at = state.View, state.Revision()
	}
	switch {
	case at < e.revision:
		return kv.ErrFutureRevision
	case e.Compacted() > e.revision:
		return kv.ErrCompacted
	}
	return nil
}

// Compacted is where the history begins; 0: it is whole. It may be below what clients see as compacted: see mvcc.Reader.HistoryFrom.
func (e *Export) Compacted() kv.Revision { return e.view.HistoryFrom() }

// Versions gives the history from a place on to fn, and what was live where it begins: see mvcc.Reader.Versions.
func (e *Export) Versions(from mvcc.Locator, limitBytes int64, fn func(*mvcc.Effect) error) (next mvcc.Locator, done bool, err error) {
	return e.view.Versions(from, e.Compacted(), e.revision, limitBytes, fn)
}

// Close lets go of the state.
func (e *Export) Close() {
	if e.view != nil {
		_ = e.view.Close() // it was only read
	}
	e.gateway.calls.Add(-1)
}
