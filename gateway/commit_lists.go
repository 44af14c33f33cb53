package gateway

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// commitLists are the shards in which something about transactions is, or may be, to be done.
type commitLists struct {
	mu     sync.Mutex
	active []*commits
	order  []*commits // of all shards here, by number; it does not change
	next   int        // of order, to be looked at
}

// looksPerTick is of how many shards a tick looks whether there is something undecided in their logs. So a tick does not cost more with more shards.
const looksPerTick = 64

// open lists the shards here, if writes over several are served.
func (all *commitLists) open(g *Gateway) {
	for _, l := range g.links.byShard {
		l.commits.link = l
		if g.transacts() {
			all.order = append(all.order, &l.commits)
		}
	}
	slices.SortFunc(all.order, func(a, b *commits) int { return cmp.Compare(a.link.shard, b.link.shard) })
}

// enter makes the shard an active one.
func (all *commitLists) enter(m *commits) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if !m.listed {
		m.listed = true
		all.active = append(all.active, m)
	}
}

// leave takes it out again.
func (all *commitLists) leave(m *commits) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if m.listed {
		m.listed = false
		all.active = slices.DeleteFunc(all.active, func(other *commits) bool { return other == m })
	}
}

// due returns the active shards, and some of the others: each has its turn.
func (all *commitLists) due() (active, others []*commits) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for range min(looksPerTick, len(all.order)) {
		if m := all.order[all.next]; !m.listed {
			others = append(others, m)
		}
		all.next = (all.next + 1) % len(all.order)
	}
	return slices.Clone(all.active), others
}

// tick does what is due in all shards.
func (all *commitLists) tick(now time.Duration) {
	active, others := all.due()
	for _, m := range active {
		if m.tick(now) {
			all.leave(m)
		}
	}
	for _, m := range others {
		if !m.tick(now) {
			all.enter(m)
		}
	}
}

// close ends what is coordinated here.
func (all *commitLists) close() {
	for _, m := range all.order {
		m.mu.Lock()
		t := m.present
		m.present = nil
		m.mu.Unlock()
		if t != nil {
			t.end()
		}
	}
}
