package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
)

// Two sides that do not reach each other and one node between them, the umpire, which makes a quorum of either: what is safe hangs on
// its memory alone, and every leader of one side is followed by one of the other. Both faults need an odd number of nodes.
const (
	// FaultDuel crashes Node, the umpire, and lets both sides ask it for votes when it is back. What they send to it takes
	// Amount ms longer, so that their candidacies in one term cross.
	FaultDuel FaultKind = "duel"
	// FaultSeesaw lets the umpire reach one side and then the other, several times, each until soon after somebody leads there: a
	// leader is lost before its entries are decided, comes back behind another, and so on (figure 8 of the Raft paper).
	// Now and then the umpire crashes when the sides change. What is sent to and by the umpire takes up to Amount ms longer.
	FaultSeesaw FaultKind = "seesaw"
)

// longestLeg is how long one side may take to elect somebody.
const longestLeg = 1500 * time.Millisecond

// contest is a duel or a seesaw in progress.
type contest struct {
	w      *world
	group  *group
	random *rand.Rand
	umpire *node
	side   map[*node]int // 0 and 1; the umpire is on neither
	apart  map[*node]bool
	leg    int
	legs   int
	down   time.Duration // how long crashes of the umpire last
	delay  time.Duration
	mute   bool // the umpire does not campaign, so that the others must
	undo   []func()
}

// injectContest starts a duel or a seesaw, if none is under way.
func (w *world) injectContest(f *Fault, n *node, random *rand.Rand) bool {
	if f.Kind != FaultDuel && f.Kind != FaultSeesaw {
		return false
	}
	g := w.group(f.Shard)
	if w.now < w.switchingUntil || w.contest != nil || len(g.nodes()) < 3 || g.of(n) == nil {
		return true
	}
	others := g.others(n)
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	c := &contest{w: w, group: g, random: random, umpire: n, side: map[*node]int{}, apart: map[*node]bool{}, down: f.Duration, delay: milliseconds(f.Amount)}
	for i, other := range others {
		c.side[other] = i * 2 / len(others)
	}
	w.contest = c
	w.eachPair(c.opposed, w.net.block)
	if f.Kind == FaultDuel {
		c.duel(f)
		return true
	}
	if random.IntN(2) == 0 {
		for _, other := range others {
			c.slow(other, n, c.delay)
			c.slow(n, other, c.delay)
		}
	}
	c.legs = 2 + random.IntN(4)
	if leader := g.leader(); leader != nil && leader.node != n && random.IntN(4) > 0 {
		c.leg = c.side[leader.node] // it goes on leading; otherwise it is deposed at once
	}
	c.legs += c.leg
	c.begin()
	return true
}

// duel has both sides ask the umpire after its restart.
func (c *contest) duel(f *Fault) {
	for other := range c.side {
		c.slow(other, c.umpire, c.delay)
	}
	c.crash()
	c.w.after(f.Duration+longestLeg, c.end)
}

// begin lets the umpire reach only the side whose turn it is.
func (c *contest) begin() {
	for _, other := range c.group.others(c.umpire) {
		if apart := c.side[other] != c.leg%2; apart != c.apart[other] {
			c.apart[other] = apart
			change := c.w.net.unblock
			if apart {
				change = c.w.net.block
			}
			change(c.umpire, other)
			change(other, c.umpire)
		}
	}
	c.mute = c.random.IntN(3) > 0
	leg := c.leg
	c.w.after(longestLeg, func() { c.next(leg) })
	if leader := c.group.leader(); leader != nil && !c.apart[leader.node] {
		c.elected(leader.node)
	}
}

// opposed tells whether two nodes are on different sides.
func (c *contest) opposed(a, b *node) bool {
	x, found := c.side[a]
	y, also := c.side[b]
	return found && also && x != y
}

// elected plans the end of the leg when somebody leads whom the umpire reaches: at once, before the first entries arrive,
// within the few milliseconds in which they are decided, or when there is much to be missed by the others.
func (c *contest) elected(n *node) {
	if c.legs == 0 || c.apart[n] {
		return
	}
	leg, stay := c.leg, time.Duration(0)
	switch c.random.IntN(6) {
	case 0, 1:
	case 2, 3, 4:
		stay = time.Duration(c.random.Int64N(int64(15 * time.Millisecond)))
	default:
		stay = time.Duration(c.random.Int64N(int64(500 * time.Millisecond)))
	}
	c.w.after(stay, func() { c.next(leg) })
}

// next changes sides.
func (c *contest) next(leg int) {
	switch {
	case c.w.ended || c.leg != leg || c.w.contest != c:
		return
	case c.leg+1 >= c.legs:
		c.end()
		return
	}
	c.leg++
	c.w.mark("sides changed")
	if c.random.IntN(2) == 0 {
		c.crash()
	}
	c.begin()
}

// shy is a core that does not campaign while it is the umpire of a contest or plot and must leave that to others, or has just been taken out of
// the membership. Timers owe nobody anything.
type shy struct {
	consensus.Core
	part *part
}

func (s shy) mute() bool {
	n, g := s.part.node, s.part.group
	c, p := n.w.contest, n.w.plot
	// In a later term the change that takes it out may be lost, and it may be the only one who can lead.
	leaves := s.part.leaving && s.Status().Term <= g.changedTerm
	chosen := leaves || c != nil && c.group == g && c.mute && c.umpire == n || p != nil && p.group == g && p.mute == n
	return chosen && s.Status().Role != consensus.RoleLeader
}

// Step loses what comes while the group is silent.
func (s shy) Step(m consensus.Message) error {
	if s.part.group.silent > 0 {
		return nil
	}
	return s.Core.Step(m)
}

func (s shy) Campaign() {
	if !s.mute() {
		s.Core.Campaign()
	}
}

func (s shy) Tick() {
	if !s.mute() {
		s.Core.Tick()
	}
}

// crash cuts the umpire's power.
func (c *contest) crash() {
	c.umpire.crashPlan = crashPlan{random: survival(c.random), down: c.down}
	c.umpire.crash()
}

// slow makes what one node sends to another arrive later, until the contest ends.
func (c *contest) slow(from, to *node, d time.Duration) {
	l := c.w.net.link(from, to)
	l.delay += d
	c.undo = append(c.undo, func() { l.delay = max(0, l.delay-d) })
}

// end lets everybody reach everybody again.
func (c *contest) end() {
	w := c.w
	if w.ended || w.contest != c {
		return
	}
	w.contest = nil
	for _, undo := range c.undo {
		undo()
	}
	for _, other := range c.group.others(c.umpire) {
		if c.apart[other] {
			w.net.unblock(c.umpire, other)
			w.net.unblock(other, c.umpire)
		}
	}
	w.eachPair(c.opposed, w.net.unblock)
}
