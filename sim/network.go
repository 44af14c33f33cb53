package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
)

// network carries frames between nodes as package transport promises: whole or not at all, in order, and lost only when the
// connection breaks, which both ends are told. Faults may let it do worse to the frames of consensus and liveness, which
// must bear it: they arrive twice, or late.
type network struct {
	w     *world
	links [][]*link // by from and to
	// latency is the greatest one of a healthy link.
	latency time.Duration
	// What faults do, as sums over those in force.
	loss, duplicate, reorder float64
	sessionLoss              float64 // of frames from and to the sequencer
	jitter                   time.Duration
}

// link is one direction between two nodes.
type link struct {
	random  *rand.Rand
	blocked int           // partitions in force; frames wait meanwhile, as bytes do that nobody acknowledges
	delay   time.Duration // of every frame, by faults
	last    time.Duration // when the youngest frame arrives
	// lag is what the frames of a channel take longer than the others.
	lag  [issuer.Channel + 1]time.Duration
	held []frame
	// lose is how many of the next consensus frames the sender's buffer refuses.
	lose int
	// draining is the generation whose frames still arrive although the sender's process is gone; 0: none.
	draining uint64
}

// conn is the connection between two nodes, for both directions. Frames of an earlier generation are lost.
type conn struct {
	generation uint64
	alive      bool
	open       [2]bool      // the ends whose own frames it takes: after a break each side connects by itself
	told       [2]bool      // the ends that know that it broke: the lower node, the higher one
	refused    [2]bool      // the ends that were refused when they tried again: nobody listens any more
	ids        [2]kv.NodeID // the nodes at its ends when they connected
	blocks     uint64       // counts the partitions that began
	random     *rand.Rand
	halves     *rand.Rand // of how the two directions begin
}

type frame struct {
	from, to   *node
	sender     kv.NodeID // and receiver: who they were when it was sent
	receiver   kv.NodeID
	generation uint64
	channel    byte
	payload    []byte
}

const healthyLatency = 2 * time.Millisecond

func newNetwork(w *world) *network {
	n := &network{w: w, latency: healthyLatency}
	for from := range w.plan.Nodes {
		n.links = append(n.links, nil)
		for to := range w.plan.Nodes {
			n.links[from] = append(n.links[from], &link{random: w.source(sourceLink, from*100+to)})
		}
	}
	return n
}

func (n *network) link(from, to *node) *link { return n.links[from.index][to.index] }

// conn returns the connection between two nodes.
func (n *network) conn(a, b *node) *conn {
	if a.index > b.index {
		a, b = b, a
	}
	c := a.conns[b.index]
	if c == nil {
		c = &conn{random: n.w.source(sourceConn, a.index*100+b.index), halves: n.w.source(sourceHalves, a.index*100+b.index)}
		a.conns[b.index] = c
	}
	return c
}

func side(of, other *node) int {
	if of.index < other.index {
		return 0
	}
	return 1
}

// accepts tells whether a frame can be appended now.
func (n *network) accepts(from, to *node) bool {
	c := n.conn(from, to)
	if !c.open[side(from, to)] || !n.w.connected(from, to) {
		return false
	}
	return n.loss == 0 || n.link(from, to).random.Float64() >= n.loss
}

// loses tells whether a frame of the channel is one of those that a fault has the sender's buffer refuse.
func (n *network) loses(from, to *node, channel byte) bool {
	l := n.link(from, to)
	if l.lose == 0 || kindOf(channel) != driver.ChannelConsensus {
		return false
	}
	l.lose--
	return true
}

// send lets a frame travel.
func (n *network) send(f frame) {
	c := n.conn(f.from, f.to)
	if !c.alive {
		return // lost: the connection broke, and the sender does not know yet
	}
	f.generation = c.generation
	l := n.link(f.from, f.to)
	n.transmit(l, f, n.late(l, &f))
	if n.duplicate > 0 && kindOf(f.channel) == driver.ChannelConsensus && l.random.Float64() < n.duplicate {
		f.payload = slices.Clone(f.payload)
		n.transmit(l, f, true)
	}
}

// late tells whether the frame arrives late, after younger ones.
func (n *network) late(l *link, f *frame) bool {
	return n.reorder > 0 && (kindOf(f.channel) == driver.ChannelConsensus || f.channel == driver.ChannelLiveness) && l.random.Float64() < n.reorder
}

func (n *network) transmit(l *link, f frame, late bool) {
	due := n.w.now + 50*time.Microsecond + l.delay + time.Duration(l.random.Int64N(int64(n.latency+n.jitter)))
	if lag := l.lag[kindOf(f.channel)]; lag > 0 {
		due += lag // nearly in order among themselves
	} else if late {
		due += time.Duration(l.random.Int64N(int64(time.Second)))
	} else {
		due = max(due, l.last)
		l.last = due
	}
	n.w.push(event{at: due, run: func() { n.arrive(f) }})
}

// arrive brings a frame to its receiver's kernel.
func (n *network) arrive(f frame) {
	c, l := n.conn(f.from, f.to), n.link(f.from, f.to)
	switch {
	case (f.generation != c.generation || !c.alive) && (f.generation != l.draining || l.blocked > 0):
	case l.blocked > 0:
		l.held = append(l.held, f)
	case !f.to.up || f.to.id != f.receiver:
	case f.to.frozen():
		f.to.whenAwake(func() { n.arrive(f) })
	default:
		n.w.happened(traceDeliver, f.to.number(), uint64(f.sender)<<8|uint64(f.channel), sum(f.payload))
		f.to.enter(func() { f.to.receive(f.sender, f.channel, f.payload) })
	}
}

// block begins a partition of one direction; unblock ends it.
func (n *network) block(from, to *node) {
	l := n.link(from, to)
	l.blocked++
	c := n.conn(from, to)
	c.blocks++
	blocks := c.blocks
	n.w.after(300*time.Millisecond+time.Duration(c.random.Int64N(int64(2500*time.Millisecond))), func() {
		if l.blocked > 0 && c.blocks == blocks {
			n.breakConn(from, to, false)
		}
	})
}

func (n *network) unblock(from, to *node) {
	l := n.link(from, to)
	if l.blocked--; l.blocked > 0 {
		return
	}
	held := l.held
	l.held = nil
	for _, f := range held {
		n.transmit(l, f, false)
	}
	n.connectSoon(from, to)
}

// breakConn ends the connection: what is under way is lost, and both ends hear of it sooner or later.
func (n *network) breakConn(a, b *node, quickly bool) {
	c := n.conn(a, b)
	if !c.alive {
		return
	}
	n.w.happened(traceFault, a.number(), uint64(b.number()), 1)
	n.w.mark("connection broke")
	c.alive, c.told, c.refused = false, [2]bool{}, [2]bool{}
	c.generation++
	n.link(a, b).held, n.link(b, a).held = nil, nil
	n.link(a, b).last, n.link(b, a).last = 0, 0
	slowest := 100 * time.Millisecond
	if quickly {
		slowest = 10 * time.Millisecond
	}
	for _, ends := range [2][2]*node{{a, b}, {b, a}} {
		end, other := ends[0], ends[1]
		life := end.life
		n.w.after(time.Duration(c.random.Int64N(int64(slowest))), func() { n.tell(c, end, other, life) })
	}
}

// tell lets one end find out that the connection broke.
func (n *network) tell(c *conn, end, other *node, life uint64) {
	if end.up && end.life == life && end.frozen() {
		end.whenAwake(func() { n.tell(c, end, other, life) })
		return
	}
	if c.alive {
		return // a process of the node that has begun since
	}
	up := c.open[side(end, other)]
	c.told[side(end, other)], c.open[side(end, other)] = true, false
	n.link(other, end).draining = 0
	if up && end.up && end.life == life {
		end.enter(func() { end.peerDown(cmp.Or(c.ids[side(other, end)], other.id), false) })
	}
	n.connectSoon(end, other)
}

// connectSoon connects two nodes again, once both run, reach each other, and know that the old connection broke.
func (n *network) connectSoon(a, b *node) {
	c := n.conn(a, b)
	n.w.after(time.Millisecond+time.Duration(c.random.Int64N(int64(60*time.Millisecond))), func() { n.connect(a, b) })
}

func (n *network) connect(a, b *node) {
	c := n.conn(a, b)
	if c.alive || !c.told[0] || !c.told[1] || a.gone || b.gone || !n.w.connected(a, b) || n.link(a, b).blocked > 0 || n.link(b, a).blocked > 0 {
		return
	}
	if frozen := max(a.frozenUntil, b.frozenUntil); n.w.now < frozen {
		n.w.push(event{at: frozen, run: func() { n.connect(a, b) }})
		return
	}
	if !a.up || !b.up {
		n.refuse(c, a, b)
		n.refuse(c, b, a)
		return
	}
	c.alive = true
	c.ids[side(a, b)], c.ids[side(b, a)] = a.id, b.id
	n.open(c, a, b)
	if c.halves.IntN(halfShare) > 0 {
		n.open(c, b, a)
		return
	}
	n.w.mark("connected in one direction only")
	generation := c.generation
	n.w.after(time.Duration(c.halves.Int64N(int64(slowestHalf))), func() { n.openLater(c, generation, b, a) })
}

// halfShare: one time in so many that two nodes connect again, one of them takes longer than the other, up to slowestHalf.
const (
	halfShare   = 4
	slowestHalf = 300 * time.Millisecond
)

// open lets one end send.
func (n *network) open(c *conn, end, other *node) {
	if !end.up || !c.alive {
		return
	}
	c.open[side(end, other)] = true
	end.enter(func() { end.peerUp(other.id, min(end.format, other.format)) })
}

// upAgain has a node that took another one's process for dead find that there is a connection all the same.
func (n *network) upAgain(end, other *node) {
	if end.up && n.conn(end, other).open[side(end, other)] {
		end.enter(func() { end.peerUp(other.id, min(end.format, other.format)) })
	}
}

// openLater lets the end send that connects later than the other, if the connection is still the same.
func (n *network) openLater(c *conn, generation uint64, end, other *node) {
	switch {
	case c.generation != generation:
	case end.up && end.frozen():
		end.whenAwake(func() { n.openLater(c, generation, end, other) })
	default:
		n.open(c, end, other)
	}
}

// refuse tells one end, once, that nobody listens at the other any more.
func (n *network) refuse(c *conn, end, other *node) {
	if end.up && !other.up && !c.refused[side(end, other)] {
		c.refused[side(end, other)] = true
		end.enter(func() { end.peerDown(cmp.Or(c.ids[side(other, end)], other.id), true) })
	}
}

// started lets the others connect to a node that has just been started. Its own end of old connections is gone.
func (n *network) started(node *node) {
	for _, other := range n.w.processes() {
		if other.number() == node.number() {
			continue
		}
		c := n.conn(node, other)
		c.told[side(node, other)], c.open[side(node, other)] = true, false
		if c.generation == 0 { // the first start of all
			c.generation, c.told = 1, [2]bool{true, true}
		}
		n.connectSoon(node, other)
	}
}

// stopped lets the others find out that a node's process is gone. What it has sent last arrives now and then: the kernel has it, or the wire.
func (n *network) stopped(node *node) {
	for _, other := range n.w.processes() {
		if other.number() == node.number() {
			continue
		}
		n.link(other, node).draining = 0 // its ends of connections are gone, and nothing that comes on them reaches its next process
		if c := n.conn(node, other); c.alive && c.random.IntN(2) == 0 {
			n.link(node, other).draining = c.generation
		}
		n.breakConn(node, other, true)
	}
}

// heal ends what faults do to the network.
func (n *network) heal() {
	n.loss, n.duplicate, n.reorder, n.sessionLoss, n.jitter = 0, 0, 0, 0, 0
	for _, from := range n.w.processes() {
		for _, to := range n.w.processes() {
			l := n.link(from, to)
			l.delay, l.lag, l.lose = 0, [len(l.lag)]time.Duration{}, 0
			if l.blocked > 0 {
				l.blocked = 1
				n.unblock(from, to)
			}
		}
	}
}
