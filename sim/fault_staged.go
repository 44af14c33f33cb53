package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/driver"
)

// Faults that look at where the cluster stands and wait for their moment: what they are after needs two or three things within a few
// milliseconds, which chance hardly ever brings together.
const (
	// FaultMinority leaves Node, the leader, with as many followers as are no quorum: the others are refused when they try to reach one of
	// these. What the others send is lost Amount ms earlier already, so that the leader does not hear what becomes of its last entries. It ends when a
	// new leader's log no longer holds what the old one lacks, or after some heartbeats, before the old one despairs.
	FaultMinority FaultKind = "minority"
	// FaultOutvote is the same to a leader that has nothing under way; every other client is cut off from that side too.
	FaultOutvote FaultKind = "outvote"
	// FaultLostSlot loses single frames from Node, the leader, to all others, for up to Amount ms, until somebody has an entry and nobody the one before it,
	// which only Multi-Paxos allows. Then all others are refused at once.
	FaultLostSlot FaultKind = "lost-slot"
	// FaultRenew has the others take Node, the leader, for dead, so that they elect somebody, and then hear Node again, so that they
	// promise again; meanwhile Node gets only consensus messages from before, and goes on doing so for Amount ms.
	FaultRenew FaultKind = "renew"
	// FaultBounce restarts a node at once while the leader, whose disks are slow for Amount ms, has calls of it: their answers come to the process
	// after the one that asked.
	FaultBounce FaultKind = "bounce"
)

// staged tells whether the fault is one of those.
func (k FaultKind) staged() bool {
	switch k {
	case FaultMinority, FaultOutvote, FaultLostSlot, FaultRenew, FaultBounce:
		return true
	}
	return false
}

func (w *world) injectStaged(f *Fault, n *node, random *rand.Rand) bool {
	if !f.Kind.staged() {
		return false
	}
	g := w.group(f.Shard)
	if w.now < w.switchingUntil || !g.leads(n) || len(g.nodes()) < 3 {
		return true // two at a time leave no quorum at all
	}
	w.switchingUntil = w.now + f.Duration + switchTime
	switch f.Kind {
	case FaultMinority:
		g.minority(f, n, random)
	case FaultOutvote:
		g.outvote(n, random)
	case FaultLostSlot:
		g.loseSlot(f, n, random)
	case FaultRenew:
		w.renew(f, n, random)
	case FaultBounce:
		g.bounce(f, n, random)
	}
	return true
}

// later is after, unless everything has been healed before.
func (w *world) later(d time.Duration, run func()) {
	w.after(d, func() {
		if !w.ended {
			run()
		}
	})
}

// lookEvery is how often a fault looks whether its moment has come.
const lookEvery = 300 * time.Microsecond

// whenever calls run as soon as the condition holds, or when the time or all faults are over.
func (w *world) whenever(limit time.Duration, condition func() bool, run func()) {
	deadline := w.now + limit
	var look func()
	look = func() {
		if w.ended || w.now >= deadline || condition() {
			run()
			return
		}
		w.after(lookEvery, look)
	}
	look()
}

// heartbeats draws a time between so many heartbeats.
func (w *world) heartbeats(random *rand.Rand, low, high float64) time.Duration {
	return time.Duration((low + random.Float64()*(high-low)) * float64(w.plan.Limits.Heartbeat))
}

// minority separates the leader and some followers from the rest, and keeps from the leader what the rest says to its last entries.
func (g *group) minority(f *Fault, leader *node, random *rand.Rand) {
	w := g.w
	small, large := g.divide(leader, random)
	for _, other := range large {
		w.net.link(other, leader).blocked++
	}
	lasts := w.heartbeats(random, 6, 9.5)
	w.later(milliseconds(f.Amount), func() {
		rejoin := w.net.rift(small, large)
		w.whenever(lasts, func() bool { return g.behind(leader, large) }, func() {
			rejoin()
			for _, other := range large {
				if !w.ended {
					w.net.unblock(other, leader)
				}
			}
		})
	})
}

// outvote does the same to a leader that has nothing under way, and to whom only some clients can talk: those learn elsewhere what it does not know.
func (g *group) outvote(leader *node, random *rand.Rand) {
	w := g.w
	small, large := g.divide(leader, random)
	lasts, quiet := w.heartbeats(random, 6, 10), w.heartbeats(random, 0.2, 0.6)
	parity := random.IntN(2)
	for _, c := range w.clients {
		for _, n := range small {
			if conn := &c.conns[n.number()]; c.number%2 == parity {
				conn.blocked++
				w.later(quiet+lasts, func() { conn.blocked-- })
			}
		}
	}
	w.later(quiet, func() { w.after(lasts, w.net.rift(small, large)) })
}

// divide gives the leader as many others as are no quorum with it, and the rest.
func (g *group) divide(leader *node, random *rand.Rand) (small, large []*node) {
	others := g.others(leader)
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	few := len(others) - (len(others)+1)/2 // the leader among them
	return append(others[:few-1:few-1], leader), others[few-1:]
}

// behind tells whether the node needs a snapshot of whoever leads on the other side.
func (g *group) behind(n *node, others []*node) bool {
	for _, node := range others {
		other := g.of(node)
		if other.up() && n.up && other.replica.IsLeader() && other.log().First() > g.of(n).logEnd()+1 {
			g.w.mark("left behind")
			return true
		}
	}
	return false
}

// rift breaks the connections between nodes of two sides and has the right one refused, until it is mended. The left side hears of it only then.
func (n *network) rift(left, right []*node) (mend func()) {
	mended := false
	var ends []func()
	for _, gone := range left {
		for _, other := range right {
			ends = append(ends, n.refuseUntil(gone, other))
		}
	}
	return func() {
		if !mended {
			mended = true
			for _, end := range ends {
				end()
			}
		}
	}
}

// loseSlot makes a hole in the log of the others, and lets them go on with it.
func (g *group) loseSlot(f *Fault, leader *node, random *rand.Rand) {
	w := g.w
	lasts := w.heartbeats(random, 5, 12)
	others := g.others(leader)
	deadline := w.now + milliseconds(f.Amount)
	lose := func(frames int) {
		for _, other := range others {
			w.net.link(leader, other).lose = frames
		}
	}
	var try func()
	try = func() {
		lose(1)
		found := false
		w.whenever(w.heartbeats(random, 0.1, 0.2), func() bool { found = g.hole(others); return found }, func() {
			lose(0)
			switch {
			case w.ended:
			case found:
				w.mark("hole in the log")
				w.after(lasts, w.net.rift([]*node{leader}, others))
			case w.now < deadline:
				try()
			}
		})
	}
	try()
}

// hole tells whether one of the nodes has accepted an entry after one that none of them has.
func (g *group) hole(nodes []*node) bool {
	for _, n := range nodes {
		if !g.of(n).up() {
			return false
		}
	}
	for _, n := range nodes {
		last := g.of(n).logEnd()
		for i := g.of(n).machine.AppliedIndex() + 1; i < last; i++ {
			if !slices.ContainsFunc(nodes, func(other *node) bool { return g.of(other).has(i) }) {
				return true
			}
		}
	}
	return false
}

// renew has the leader hear of new promises first, and then of what was acknowledged under the old ones.
func (w *world) renew(f *Fault, leader *node, random *rand.Rand) {
	heartbeat := w.plan.Limits.Heartbeat
	deaf := w.heartbeats(random, 3.5, 5.5)
	late := deaf + milliseconds(f.Amount)
	w.lag(leader, driver.ChannelConsensus, late, 2*heartbeat+deaf+late)
	w.later(w.heartbeats(random, 1, 2), func() {
		for _, other := range w.others(leader, 0) {
			w.net.blockFor(leader, other, deaf)
			if other.up {
				other.enter(func() { other.peerDown(leader.id, true) })
				w.after(deaf, func() { w.net.upAgain(other, leader) })
			}
		}
	})
}

// bounce slows the leader's disks, waits until somebody has sent it calls, and restarts that node.
func (g *group) bounce(f *Fault, leader *node, random *rand.Rand) {
	w := g.w
	slow := milliseconds(f.Amount)
	leader.slow.least += slow
	w.later(400*time.Millisecond, func() { leader.slow.least = max(0, leader.slow.least-slow) })
	others := g.others(leader)
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	waiting := func() int {
		return slices.IndexFunc(others, func(n *node) bool { return g.of(n).up() && g.of(n).gateway.Metrics().SentCalls > 0 })
	}
	w.whenever(200*time.Millisecond, func() bool { return waiting() >= 0 }, func() {
		if i := waiting(); i >= 0 && !w.ended {
			w.mark("restarted with calls at the leader")
			others[i].crashPlan = crashPlan{random: survival(random), down: time.Millisecond}
			others[i].crash()
		}
	})
}
