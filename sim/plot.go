package sim

import (
	"math/rand/v2"
	"time"
)

// plot is a fault that watches what the nodes do and acts at the worst moment. What it does is straight code, which gives way to the
// world until something has happened. It may see everything, durable or not, but acts only as networks, machines and disks may.
type plot struct {
	w         *world
	group     *group // whose nodes it watches
	random    *rand.Rand
	code      *coroutine
	condition func() bool // what it waits for
	deadline  time.Duration
	met       bool // the condition came true before the deadline
	mute      *node
	refusing  bool // whoever is cut off is refused
	cuts      [maxNodes][maxNodes]bool
	undo      []func()
}

// beginPlot starts a plot, if there is a leader, and unless something is under way that decides by itself who reaches whom.
func (w *world) beginPlot(f *Fault, random *rand.Rand, run func(*plot)) {
	g := w.group(f.Shard)
	if w.now < w.switchingUntil || w.contest != nil || w.plot != nil || g.leader() == nil || len(g.nodes()) < 3 {
		return
	}
	p := &plot{w: w, group: g, random: random}
	w.plot = p
	w.switchingUntil = w.base + w.plan.Duration
	p.code = newCoroutine(func(*coroutine) { run(p) })
	p.resume()
}

// until gives way until the condition, which is asked after every event, holds, and tells whether it did in time.
func (p *plot) until(limit time.Duration, condition func() bool) bool {
	p.condition, p.deadline = condition, p.w.now+limit
	p.w.after(limit, func() {}) // for a look when time is up
	p.code.wait(0)
	return p.met
}

func (p *plot) pause(d time.Duration) {
	p.until(d, func() bool { return false })
}

// look lets the plot go on if what it waits for has happened.
func (p *plot) look() {
	if p.met = p.condition(); p.met || p.w.now >= p.deadline {
		p.resume()
	}
}

func (p *plot) resume() {
	_, more := p.code.next()
	if p.code.panicked != nil {
		panic(productPanic{p.code.panicked, p.code.stack})
	}
	if !more {
		p.end()
	}
}

// end takes back what the plot has done to the world.
func (p *plot) end() {
	p.w.plot, p.w.switchingUntil = nil, p.w.now
	p.divide(func(*node) int { return 0 })
	for _, undo := range p.undo {
		undo()
	}
}

// abandon ends a plot when everything is healed.
func (p *plot) abandon() {
	p.w.plot = nil
	p.code.stop()
}

// nobody is the side of nodes that reach nobody.
const nobody = -1

// divide lets only nodes of the same side reach each other. Connections stay, with what is under way on them, until they break as in a partition;
// or they break at once, and both ends are refused when they try again, and take each other for dead.
func (p *plot) divide(side func(*node) int) {
	if p.w.reading() {
		var sides []int
		for _, n := range p.w.nodes {
			sides = append(sides, side(n))
		}
		p.w.line("the sides of the nodes, in their order: %v", sides)
	}
	p.w.eachPair(func(_, _ *node) bool { return true }, func(from, to *node) {
		apart := side(from) != side(to) || side(from) == nobody
		is := &p.cuts[from.index][to.index]
		if apart == *is {
			return
		}
		if *is = apart; apart {
			p.w.net.block(from, to)
			p.refuse(from, to)
		} else {
			p.w.net.unblock(from, to)
		}
	})
}

func (p *plot) refuse(from, to *node) {
	if !p.refusing {
		return
	}
	w := p.w
	w.net.breakConn(from, to, true)
	w.after(11*time.Millisecond, func() { // both know that the connection broke
		if w.plot == p && p.cuts[from.index][to.index] && to.up && w.now >= to.frozenUntil && !w.net.conn(from, to).alive {
			to.enter(func() { to.peerDown(from.id, true) })
		}
	})
}

// slow makes each sync of the node take at least so long until the plot ends.
func (p *plot) slow(n *node, d time.Duration) {
	n.slow.least += d
	p.undo = append(p.undo, func() { n.slow.least = max(0, n.slow.least-d) })
}

// crash cuts the node's power for a moment. Nothing that was not synced survives.
func (p *plot) crash(n *node, down time.Duration) {
	n.crashPlan = crashPlan{down: down}
	n.crash()
}

func (p *plot) shuffle(nodes []*node) {
	p.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
}

func (p *plot) between(low, high time.Duration) time.Duration {
	return low + time.Duration(p.random.Int64N(int64(high-low)+1))
}

// applied is a condition: one of the nodes is the first of all to apply an entry, from now on.
func (p *plot) applied(nodes []*node) func() bool {
	return p.grows(nodes, func(part *part) int { return part.firsts })
}

// elected is a condition: one of the nodes becomes the leader, from now on.
func (p *plot) elected(nodes []*node) func() bool {
	return p.grows(nodes, func(part *part) int { return part.elections })
}

func (p *plot) grows(nodes []*node, count func(*part) int) func() bool {
	sum := func() (sum int) {
		for _, n := range nodes {
			sum += count(p.group.of(n))
		}
		return sum
	}
	before := sum()
	return func() bool { return sum() > before }
}
