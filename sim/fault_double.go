package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/driver"
)

// FaultDouble lets a second process of Node run beside the first for Duration and a second: somebody has started the node on two machines. If
// Amount is below 0.5 it begins with an empty directory, otherwise with a copy of the first one's that was made when the fault began, and
// when all other nodes have on disk that the first has written more since. Each other node and each client reaches one of the two at
// a time, and changes over now and then. In the end the second one is stopped.
//
// A second process on a copy that nobody can tell from the first is not survivable if the other nodes are cut off from each other:
// with each half it votes for somebody else. See "Marks" in docs/decisions/0012-lost-replicas.md.
const FaultDouble FaultKind = "double"

// double is a second process of a node. It is a node of its own, which w.nodes does not have.
type double struct {
	of, second *node
	// away has a bit for each node, by index, and for clients, that reach the second process.
	away uint64
	ends time.Duration
}

// firstOfSecond is where numbers of processes and disks of the first second process begin. Those of each later one begin as far behind: disks and
// instances have random IDs, which no other has.
const firstOfSecond = 1 << 20

// doubled tells whether the node has a second process, or has had one.
func (n *node) doubled() bool {
	return n.wasDoubled || n.w.double != nil && (n.w.double.second == n || n.w.double.of == n)
}

// doubleUnderWay tells whether a second process runs, or what it has asked the leader for may still come true.
func (w *world) doubleUnderWay(leader *part) bool {
	if w.double != nil {
		return true
	}
	if w.doubleEnded == 0 {
		return false
	}
	d, ok := leader.node.disks.(*memoryDisks)
	return w.now < w.doubleEnded+time.Second || ok && uint64(d.log.Group(leader.groupID()).Last()) > leader.replica.Applied()
}

// processes are all nodes and, if there is one, the second process.
func (w *world) processes() []*node {
	if w.double == nil {
		return w.nodes
	}
	return append(slices.Clone(w.nodes), w.double.second)
}

// reached returns the process that a node or a client reaches when it looks for a node.
func (w *world) reached(number int, by uint) *node {
	if d := w.double; d != nil && d.of.number() == number && d.away>>by&1 == 1 {
		return d.second
	}
	return w.nodes[number-1]
}

// byClient is the client's bit in double.away.
func byClient(number int) uint { return maxNodes + 1 + uint(number)%40 }

// connected tells whether two nodes may be connected: at most one of a node and its second process is, with each other node.
func (w *world) connected(a, b *node) bool {
	return w.reached(a.number(), uint(b.index)) == a && w.reached(b.number(), uint(a.index)) == b
}

func (w *world) injectDouble(f *Fault, n *node, random *rand.Rand) bool {
	if f.Kind != FaultDouble {
		return false
	}
	if f.Amount < 0.5 {
		w.runSecond(f, n, random, nil)
		return true
	}
	d, ok := n.disks.(*memoryDisks)
	if !ok || n.damage.why != "" || n.hurt {
		return true
	}
	staged := newFiles()
	image := &memoryDisks{log: d.log.Image(), engine: d.engine.Image(engineFiles{staged}), staged: staged}
	w.runCopy(f, n, random, image, n.diskID, 30)
	return true
}

func (w *world) runCopy(f *Fault, n *node, random *rand.Rand, image *memoryDisks, disk uint64, attempts int) {
	switch {
	case w.ended || n.diskID != disk || n.damage.why != "" || attempts == 0:
	case w.remembered(n, driver.Position(image.log)):
		w.runSecond(f, n, random, image)
	default:
		w.after(100*time.Millisecond, func() { w.runCopy(f, n, random, image, disk, attempts-1) })
	}
}

// runSecond starts the second process.
func (w *world) runSecond(f *Fault, n *node, random *rand.Rand, image *memoryDisks) {
	if w.double != nil || w.mixed() || n.lacksGroups() || w.hurtBeside(n) > 0 || !w.mayDamage(n, "another process runs under its name") {
		return
	}
	n.damage.former = true // healing does not replace its disks
	second := &node{w: w, id: n.id, index: len(w.nodes), random: rand.New(rand.NewPCG(random.Uint64(), 1)), rate: n.rate, format: n.format, nextFormat: n.format}
	w.doubles++
	second.life, second.diskCount = w.doubles*firstOfSecond, w.doubles*firstOfSecond
	second.clock = clock{base: n.clock.base, rate: n.rate}
	second.chance = w.source(sourceDawdle, 100+n.number())
	second.memberOf = n.memberOf
	second.left = nil
	second.newParts()
	second.newDisks()
	if image != nil {
		image.node = second
		second.disks, second.diskID = image, n.diskID
		w.mark("second process on a copy")
	} else {
		w.mark("second process on nothing")
	}
	second.hurt, second.damage = true, damage{why: n.damage.why, former: true}
	w.net.addSecond(second)
	w.double = &double{of: n, second: second, away: random.Uint64(), ends: w.now + f.Duration + time.Second}
	w.route(^w.double.away, w.double.away)
	second.start()
	w.wander(random, w.double)
	w.after(w.double.ends-w.now, w.endSecond)
}

// wander has somebody reach the other process, again and again.
func (w *world) wander(random *rand.Rand, d *double) {
	w.after(50*time.Millisecond+time.Duration(random.Int64N(int64(500*time.Millisecond))), func() {
		if w.double == d && w.now < d.ends {
			w.route(d.away, d.away^1<<random.IntN(maxNodes+1+40))
			w.wander(random, d)
		}
	})
}

// route changes who reaches which process.
func (w *world) route(before, after uint64) {
	d := w.double
	d.away = after
	for _, other := range w.others(d.of, 0) {
		if (before^after)>>other.index&1 == 0 {
			continue
		}
		for _, process := range []*node{d.of, d.second} {
			w.net.breakConn(process, other, true)
			w.net.connectSoon(process, other)
		}
	}
	for _, c := range w.clients {
		if (before^after)>>byClient(c.number)&1 == 1 {
			c.breakConn(d.of.number())
		}
	}
}

// endSecond stops the second process for good: somebody has found it.
func (w *world) endSecond() {
	d := w.double
	if d == nil {
		return
	}
	w.route(d.away, 0)
	if d.second.up {
		d.second.end()
		d.second.disks.crash(nil)
	}
	d.second.disks.close()
	d.second.life++ // it does not start again
	w.double, w.doubleEnded = nil, w.now
	d.second.gone = true
	d.of.wasDoubled = true
	if d.of.damage.why != "" && d.of.damage.former {
		d.of.damage = damage{}
	}
	if w.reading() {
		w.line("the second process of node %d is stopped for good", d.of.id)
	}
}

// addSecond makes links for a second process. Those of an earlier one are forgotten.
func (n *network) addSecond(second *node) {
	w := n.w
	links := func(from, to int) *link { return &link{random: w.source(sourceLink, from*100+to)} }
	n.links = append(n.links[:w.plan.Nodes], nil)
	for i := range w.plan.Nodes {
		n.links[i] = append(n.links[i][:w.plan.Nodes], links(i, second.index))
		n.links[second.index] = append(n.links[second.index], links(second.index, i))
		w.nodes[i].conns[second.index] = nil
	}
	n.links[second.index] = append(n.links[second.index], links(second.index, second.index))
}
