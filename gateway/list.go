package gateway

import (
	"context"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Listing is a range that is read portion by portion, from one state. It is for one goroutine.
type Listing interface {
	// Revision is that of the state, for the header.
	Revision() kv.Revision
	// Next returns the next keys, of about so many bytes in memory, at least one; nil: there are none left. If the memory refuses, the list stays
	// where it is. The tally is left with what is returned.
	Next(bytes int64, memory *kv.Tally) ([]kv.KeyValue, error)
	// Ended tells whether the last key was returned.
	Ended() (bool, error)
	// Measure gives the keys that are not returned yet to fn, without their values. It does not move the list.
	Measure(memory *kv.Tally, fn func(key []byte, m mvcc.Meta) error) error
	// More and Count are those of RangeResponse. They are known when the list has ended, or was measured.
	More() bool
	Count(memory *kv.Tally) (int64, error)
	Close()
}

// portions is what reads a range portion by portion: *mvcc.List and *gather.List.
type portions interface {
	Next(bytes int64, memory *kv.Tally) ([]kv.KeyValue, error)
	Ended() (bool, error)
	Measure(memory *kv.Tally, fn func(key []byte, m mvcc.Meta) error) error
	More() bool
	Count(memory *kv.Tally) (int64, error)
}

// keysPerTurn is how many keys a list measures before it lets others read.
const keysPerTurn = 4096

// listing is a list and the states that it reads. It is one of the calls in flight until it is closed, and reads in its turn.
type listing struct {
	list     portions
	turn     turn
	states   []*mvcc.View
	revision kv.Revision
	gateway  *Gateway
	local    Shard // of a shard that is read: it knows what errors of the disk mean
}

func (l *listing) Revision() kv.Revision { return l.revision }

func (l *listing) Next(bytes int64, memory *kv.Tally) ([]kv.KeyValue, error) {
	if err := l.turn.take(); err != nil {
		return nil, err
	}
	defer l.turn.giveBack()
	kvs, err := l.list.Next(bytes, memory)
	return kvs, l.local.Unread(err)
}

func (l *listing) Ended() (bool, error) {
	ended, err := l.list.Ended()
	return ended, l.local.Unread(err)
}

func (l *listing) Measure(memory *kv.Tally, fn func(key []byte, m mvcc.Meta) error) error {
	if err := l.turn.take(); err != nil {
		return err
	}
	defer l.turn.giveBack()
	keys := 0
	var given error // of whoever is given the keys, not of the disk
	err := l.list.Measure(memory, func(key []byte, m mvcc.Meta) error {
		if keys++; keys%keysPerTurn == 0 {
			given = l.turn.pass()
		}
		if given == nil {
			given = fn(key, m)
		}
		return given
	})
	if given != nil {
		return given
	}
	return l.local.Unread(err)
}

func (l *listing) More() bool { return l.list.More() }

func (l *listing) Count(memory *kv.Tally) (int64, error) {
	if err := l.turn.take(); err != nil {
		return 0, err
	}
	defer l.turn.giveBack()
	count, err := l.list.Count(memory)
	return count, l.local.Unread(err)
}

func (l *listing) Close() {
	closeViews(l.states)
	l.gateway.calls.Add(-1)
}

// admitReader lets whoever reads a state that is kept in, as one of the calls: from one shard, or if links are given from these.
func (g *Gateway) admitReader(req *kv.Request) (from *leaderLink, links []*leaderLink, err error) {
	from, err = g.admit(req)
	links, many := g.gathering(req, err)
	if err != nil && !many {
		return nil, nil, err
	}
	return from, links, g.letIn()
}

// letIn counts a call that has no answer. Whoever is refused is not counted.
func (g *Gateway) letIn() error {
	if g.calls.Add(1) > int64(g.options.Limits.MaxCalls) {
		g.calls.Add(-1)
		return kv.ErrTooManyRequests
	}
	return nil
}

// OpenRange begins to read a range in key order (mvcc.InKeyOrder). The state is kept as it is for the reader, who pays nobody for that: it must be
// closed, and soon.
func (g *Gateway) OpenRange(ctx context.Context, req *kv.Request) (Listing, error) {
	if req.Kind != kv.KindRange || req.Range == nil {
		return nil, fmt.Errorf("read a range: the request is none: %w", kv.ErrInvalidRequest)
	}
	if err := g.permitRange(ctx, req); err != nil {
		return nil, err
	}
	from, links, err := g.admitReader(req)
	if err != nil {
		return nil, err
	}
	var l *listing
	if links != nil {
		l, err = g.openMany(ctx, req, links)
	} else {
		l, err = from.openRange(ctx, req)
	}
	if err != nil {
		g.calls.Add(-1)
		return nil, err
	}
	g.metrics.localReads.Add(1)
	return l, nil
}

func (l *leaderLink) openRange(ctx context.Context, req *kv.Request) (*listing, error) {
	state, err := l.freeze(ctx, req)
	if err != nil {
		return nil, err
	}
	list, err := state.list(req.Range)
	if err != nil {
		_ = state.Close()
		return nil, l.local.Unread(err)
	}
	return &listing{list, turn{of: l.gateway.turns, ctx: ctx}, []*mvcc.View{state.View}, state.Revision(), l.gateway, l.local}, nil
}

func (g *Gateway) openMany(ctx context.Context, req *kv.Request, links []*leaderLink) (*listing, error) {
	states, read, err := g.freezeMany(ctx, req, links)
	if err != nil {
		return nil, err
	}
	list, err := g.options.Gather.List(req, read.Shards, states, read.At)
	if err != nil {
		closeViews(states)
		return nil, links[0].local.Unread(err)
	}
	return &listing{list, turn{of: g.turns, ctx: ctx}, states, read.At.Revision, g, links[0].local}, nil
}

// freeze returns a state that a read may be answered from, and is allowed by a state of users and roles that is as new.
func (l *leaderLink) freeze(ctx context.Context, req *kv.Request) (frozen, error) {
	for {
		state, err := l.freezeOnce(ctx, req)
		if err != nil || !l.gateway.outdated(req) {
			return state, err
		}
		_ = state.Close() // it was not read
		if err := l.gateway.permitAnew(ctx, req); err != nil {
			return frozen{}, err
		}
	}
}

// freezeOnce does so whatever users there are. Frozen between two looks at the lease a state is as good as read between them.
func (l *leaderLink) freezeOnce(ctx context.Context, req *kv.Request) (frozen, error) {
	if req.Range.Serializable && !l.ahead(req) {
		if err := l.local.Readable(); err != nil {
			return frozen{}, err
		}
		view := l.local.View()
		if view.Closed() < view.Revision() { // what lies above may yet get something below it
			return frozen{View: view, at: kv.Present{Revision: view.Closed()}}, nil
		}
		return frozen{View: view}, nil
	}
	if l.gateway.ofRevision(req) {
		return l.freezeAtPresent(ctx, req)
	}
	if l.local.LeaseValid() {
		view := l.local.View()
		if l.local.LeaseValid() {
			return frozen{View: view}, nil
		}
		_ = view.Close()
	}
	if err := l.wait(ctx); err != nil {
		return frozen{}, err
	}
	return frozen{View: l.local.View()}, nil
}
