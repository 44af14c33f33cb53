package gateway

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// reach is up to where a state is known to be complete, though the shard has written nothing up to there: states at or above Revision are, up to UpTo. The
// writes of a shard are applied in the order of their revisions (rule 28), so a state at or above Revision has all that the one had that was looked at.
type reach struct{ Revision, UpTo kv.Revision }

// everything reads all keys: nothing may be in flight.
var everything = &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}

// of is up to where a state is complete, as far as is known here. It was frozen after the reach was loaded.
func (r reach) of(state *mvcc.View) kv.Revision {
	if own := state.Revision(); own < r.Revision {
		return own
	}
	return max(state.Revision(), r.UpTo)
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
