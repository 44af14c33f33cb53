package sim

import (
	"slices"
	"time"
)

// Plots against what is not durable, and against a leader that has not noticed that it is deposed.
const (
	// FaultAmnesia leaves Node only a bare quorum with slow disks, of Amount ms a sync, until something is decided that a crash would leave to a minority, and then
	// has the others go on without that minority. If that does not come to pass, a node crashes in the middle of a sync.
	FaultAmnesia FaultKind = "amnesia"
	// FaultUnnoticed lets no client ask anything, so that Node has nothing to do, cuts it off then, and lets the clients ask it again as
	// soon as the others have a leader and have decided something.
	FaultUnnoticed FaultKind = "unnoticed"
)

func (p *plot) amnesia(f *Fault, leader *node) {
	w := p.w
	p.refusing = p.random.IntN(4) > 0
	g := p.group
	majority := len(g.nodes())/2 + 1
	others := g.others(leader)
	p.shuffle(others)
	inside, outside := append([]*node{leader}, others[:majority-1]...), others[majority-1:]
	p.divide(func(n *node) int { return sideOf(slices.Contains(inside, n)) })
	slow := inside[1:]
	if p.random.IntN(2) == 0 {
		slow = inside[:1]
	}
	for _, n := range slow {
		p.slow(n, milliseconds(f.Amount))
	}
	seen := g.lastApplied()
	var losers []*node // of what was decided
	if !p.until(time.Second, func() bool {
		if g.lastApplied() == seen {
			return false
		}
		seen = g.lastApplied()
		losers = slices.DeleteFunc(g.nodes(), func(n *node) bool { return !g.of(n).lacks(seen) })
		return len(losers) >= majority
	}) {
		losers = outside
		if !p.until(300*time.Millisecond, func() bool {
			i := slices.IndexFunc(inside, func(n *node) bool { return n.up && g.of(n).unsynced() })
			if i >= 0 {
				losers = append(slices.Clone(outside), inside[i])
			}
			return i >= 0
		}) {
			return
		}
	}
	down := p.between(2*time.Millisecond, 30*time.Millisecond)
	for _, n := range losers {
		if n.up && g.of(n).unsynced() {
			w.mark("crash before a sync ended")
			p.crash(n, down)
		}
	}
	p.divide(func(n *node) int { return sideOf(slices.Contains(losers, n)) })
	p.until(longestTurn, p.applied(losers))
}

func sideOf(first bool) int {
	if first {
		return 0
	}
	return 1
}

func (p *plot) unnoticed(leader *node) {
	w, g := p.w, p.group
	p.holdClients(func(*node) bool { return true })
	if !p.until(600*time.Millisecond, func() bool { return leader.up && !leader.driving && g.of(leader).core.Status().Quiet }) {
		return
	}
	for _, other := range g.others(leader) {
		w.net.refuseAll(leader, other, longestTurn)
	}
	p.holdClients(func(n *node) bool { return n == leader })
	decided := g.truth.revision
	if !p.until(longestTurn-500*time.Millisecond, func() bool { return g.truth.revision > decided }) {
		return
	}
	p.pause(p.between(2*time.Millisecond, 20*time.Millisecond)) // somebody hears of it
	w.mark("clients come back to a deposed leader")
	p.holdClients(func(*node) bool { return false })
	p.pause(300 * time.Millisecond)
}

// holdClients keeps the clients away from some nodes, and lets them reach all others.
func (p *plot) holdClients(from func(*node) bool) {
	for _, undo := range p.undo {
		undo()
	}
	p.undo = nil
	for _, c := range p.w.clients {
		for _, n := range p.w.nodes {
			if from(n) {
				conn := &c.conns[n.number()]
				conn.blocked++
				p.undo = append(p.undo, func() { conn.blocked-- })
			}
		}
	}
}
