package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/driver"
)

// Faults after which two nodes believe that they lead, if promises do not prevent it. Each leaves the old leader its clients, and keeps the
// news of the new one from it.
const (
	// FaultRefuse breaks Node's connections and has the others refused when they try again, though Node lives: a firewall does that. They take
	// Node for dead, and act when their promises to it end. What they sent to Node before is up to Amount ms late.
	FaultRefuse FaultKind = "refuse"
	// FaultDoze is FaultRefuse while Node's process stands still: it finds what it missed when it goes on.
	FaultDoze FaultKind = "doze"
	// FaultLateNews keeps the others from hearing Node for long enough to elect somebody; when they hear it again, and promise again, Node still
	// gets only old consensus messages: Amount ms more than they were unable to hear it.
	FaultLateNews FaultKind = "late-news"
	// FaultForgetPromise cuts one node off from Node and lets it campaign, and then restarts so many of those which still hold still for Node
	// that they would be a quorum with it.
	FaultForgetPromise FaultKind = "forget-promise"
)

// deposing tells whether the fault is one of those.
func (k FaultKind) deposing() bool {
	switch k {
	case FaultRefuse, FaultDoze, FaultLateNews, FaultForgetPromise:
		return true
	}
	return false
}

func (w *world) injectDeposed(f *Fault, n *node, random *rand.Rand) bool {
	if !f.Kind.deposing() {
		return false
	}
	if w.now < w.switchingUntil {
		return true // two at a time leave no quorum at all
	}
	w.switchingUntil = w.now + f.Duration + switchTime
	heartbeat := w.plan.Limits.Heartbeat
	later := func(d time.Duration, run func()) {
		w.after(d, func() {
			if !w.ended {
				run()
			}
		})
	}
	some := func(low, high float64) time.Duration { // in heartbeats
		return time.Duration((low + random.Float64()*(high-low)) * float64(heartbeat))
	}
	switch f.Kind {
	case FaultRefuse, FaultDoze:
		late := milliseconds(f.Amount)
		if random.IntN(3) == 0 {
			late = 0
		}
		lasts := some(5, 16)
		w.lag(n, driver.ChannelLiveness, late, 5*heartbeat)
		w.lag(n, driver.ChannelConsensus, late+some(0, 10), 5*heartbeat)
		later(5*heartbeat, func() {
			for _, other := range w.others(n, 0) {
				w.net.refuseAll(n, other, lasts)
			}
			if f.Kind == FaultDoze {
				n.frozenUntil = max(n.frozenUntil, w.now+some(3, 8))
			}
		})
	case FaultLateNews:
		lasts := some(11, 14)
		late := lasts + milliseconds(f.Amount)
		w.lag(n, driver.ChannelConsensus, late, 2*heartbeat+lasts+late)
		later(some(1, 2), func() {
			for _, other := range w.others(n, 0) {
				w.net.blockFor(n, other, lasts)
			}
		})
	case FaultForgetPromise:
		w.forgetPromises(n, random, some, later)
	}
	return true
}

// forgetPromises lets one node take the leader for dead while the others are bound, and restarts those that it needs.
func (w *world) forgetPromises(leader *node, random *rand.Rand, some func(low, high float64) time.Duration, later func(time.Duration, func())) {
	others := w.others(leader, 0)
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	candidate, forgetful := others[0], others[1:][:min(len(w.nodes)/2, len(others)-1)]
	lasts, quiet := some(12, 20), time.Duration(0)
	if random.IntN(4) > 0 { // with nothing written meanwhile, its log is as good as theirs
		quiet = some(0.2, 0.5)
		for _, c := range w.clients {
			for i := range c.conns {
				conn := &c.conns[i]
				conn.blocked++
				later(some(4.5, 6), func() { conn.blocked-- })
			}
		}
	}
	restart := some(1, 5)
	if random.IntN(3) > 0 { // soon before it asks for votes
		restart = some(1.4, 2.6)
	}
	later(quiet, func() { w.net.refuseAll(leader, candidate, lasts) })
	later(quiet+restart, func() {
		for _, n := range forgetful {
			w.net.refuseAll(leader, n, lasts)
			n.crashPlan = crashPlan{down: 2*time.Millisecond + time.Duration(random.Int64N(int64(30*time.Millisecond)))}
			n.crash()
		}
	})
}

// lag makes what the others send to a node in a channel later than the rest, for a while.
func (w *world) lag(n *node, channel byte, late, lasts time.Duration) {
	for _, other := range w.others(n, 0) {
		w.net.lagFor(other, n, channel, late, lasts)
	}
}

// lagFor does so to what one node sends to another.
func (n *network) lagFor(from, to *node, channel byte, late, lasts time.Duration) {
	l := n.link(from, to)
	l.lag[channel] += late
	n.w.after(lasts, func() { l.lag[channel] = max(0, l.lag[channel]-late) })
}

// blockFor is a partition of one direction that lasts a while.
func (n *network) blockFor(from, to *node, lasts time.Duration) {
	n.link(from, to).blocked++ // and the connection does not break of that
	n.w.after(lasts, func() {
		if !n.w.ended {
			n.unblock(from, to)
		}
	})
}

// refuseAll breaks the connection between two nodes, and lets one of them be refused by the other for a while, which hears of it only late:
// until then it gets what was under way.
func (n *network) refuseAll(gone, other *node, lasts time.Duration) {
	n.w.after(lasts, n.refuseUntil(gone, other))
}

// refuseUntil is refuseAll until the function that it returns is called, which must be.
func (n *network) refuseUntil(gone, other *node) (end func()) {
	c := n.conn(gone, other)
	tell := func() {}
	if c.alive {
		n.link(other, gone).draining = c.generation
		c.alive, c.told, c.refused = false, [2]bool{}, [2]bool{}
		c.generation++
		n.link(gone, other).held, n.link(gone, other).last = nil, 0
		lives := [2]uint64{gone.life, other.life}
		n.w.after(time.Duration(c.random.Int64N(int64(10*time.Millisecond))), func() { n.tell(c, other, gone, lives[1]) })
		tell = func() { n.tell(c, gone, other, lives[0]) }
	}
	n.link(gone, other).blocked++
	n.w.after(10*time.Millisecond, func() {
		if other.up && !c.alive && n.link(gone, other).blocked > 0 {
			n.w.mark("refused by a living node")
			other.enter(func() { other.peerDown(gone.id, true) })
		}
	})
	return func() {
		tell()
		if !n.w.ended {
			n.unblock(gone, other)
		}
	}
}
