package gateway

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// reach is up to where a state is known to be complete, though the shard has written nothing up to there: states that are closed at or above Closed are, up
// to UpTo. A state that was complete up to UpTo when the shard was closed at Closed here had nothing between the two that any later one has not: what is
// applied after a state was closed at a revision lies above it (rules 13, 28).
type reach struct{ Closed, UpTo kv.Revision }

// everything reads all keys: nothing may be in flight.
var everything = &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}

// of is up to where a state is complete, as far as is known here. It was frozen after the reach was loaded.
func (r reach) of(state *mvcc.View) kv.Revision {
	closed := state.Closed()
	if closed < r.Closed {
		return closed
	}
	return max(closed, r.UpTo)
}

// reachPresent finds out that the state here is complete up to the present, one search at a time. Nobody waits for it.
func (l *leaderLink) reachPresent() {
	if l.reaching.Swap(true) {
		return
	}
	g := l.gateway
	c := &Call{gateway: g, link: l, Req: everything}
	c.item.Read = true
	c.ready = func(err error) {
		if err == nil {
			l.reached.Store(&reach{l.local.Revision(), c.read.At.Revision})
		}
		l.reaching.Store(false)
	}
	g.calls.Add(1)
	l.readAtPresent(c)
}
