package watch

import (
	"cmp"

	"github.com/quoratedb/quorate/kv"
)

// liveGroups are the groups of a feed that get what is dispatched. Those that start in the future wait apart, so that a change costs
// nothing for them. Not safe for concurrent use.
//
// Invariant: a live group is either in the index, and wants what is dispatched next, or it is in waiting.
type liveGroups struct {
	index   index
	waiting queue[*group] // by next
}

func newLiveGroups() liveGroups {
	less := func(a, b *group) bool {
		return cmp.Or(cmp.Compare(a.next, b.next), cmp.Compare(a.number, b.number)) < 0
	}
	return liveGroups{waiting: newQueue(less, func(g *group) *int { return &g.waitAt })}
}

func (l *liveGroups) size() int { return l.index.size + l.waiting.size() }

func (l *liveGroups) add(g *group, dispatched kv.Revision) {
	if g.next > dispatched+1 {
		l.waiting.add(g)
	} else {
		l.index.add(g)
	}
}

func (l *liveGroups) remove(g *group) {
	if g.spot != nil {
		l.index.remove(g)
	} else {
		l.waiting.remove(g)
	}
}

// begin is called before changes of the revision are handed out: groups that start there wait no longer.
func (l *liveGroups) begin(revision kv.Revision) {
	for l.waiting.size() > 0 && l.waiting.first().next <= revision {
		g := l.waiting.first()
		l.waiting.remove(g)
		l.index.add(g)
	}
}
