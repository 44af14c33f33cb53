package world

import "github.com/quoratedb/quorate/kv"

// The shards as models: what a leader knows, its log, and the closed revision that follows from it.

// newest is 1 + the write on the shard with the highest revision up to rev, among those of the set; 0: none.
func (c *Cluster) newest(w *world, s int, rev, among uint8) (op uint8) {
	best := uint8(0)
	for o := range c.Ops {
		if p := &w.ops[o]; c.isWrite(o, s) && among>>o&1 == 1 && p.status == applied && p.rev > best && p.rev <= rev {
			best, op = p.rev, uint8(o+1)
		}
	}
	return op
}

const everything = ^uint8(0)

func (c *Cluster) isWrite(o, s int) bool { return c.Ops[o].Kind == Write && c.Ops[o].Shard == s }

// top is the highest revision that the leader has applied. Without transactions it is the closed revision of its shard (rule 13).
func (c *Cluster) top(w *world, s int, term uint8) uint8 {
	if o := c.newest(w, s, everything, w.leaders[s][term].view); o != 0 {
		return w.ops[o-1].rev
	}
	return 1
}

// inFlight tells whether the write is one of this leader's that it has not applied.
func (c *Cluster) inFlight(w *world, s int, term uint8, o int) bool {
	p := &w.ops[o]
	return c.isWrite(o, s) && p.by == term && p.status != unborn && p.status != void && w.leaders[s][term].view>>o&1 == 0
}

// evaluate: a write acts on what is newest at its leader, those in flight included (rule 31).
func (c *Cluster) evaluate(w *world, o int) {
	s := c.Ops[o].Shard
	term := w.cur[s]
	p := &w.ops[o]
	*p = operation{status: queued, by: term, place: 1, floor: w.answered}
	p.saw = c.newest(w, s, everything, w.leaders[s][term].view)
	below := uint8(0) // place of the newest in flight
	for q := range c.Ops {
		other := &w.ops[q]
		if q == o || !c.isWrite(q, s) || other.by != term || other.status == unborn {
			continue
		}
		p.place = max(p.place, other.place+1)
		if c.inFlight(w, s, term, q) && other.place > below {
			below, p.saw = other.place, uint8(q+1)
		}
	}
	ld := &w.leaders[s][term]
	if c.mutation == PreLeasedBlocks && ld.spare != 0 {
		p.rev, ld.spare = ld.spare, 0
		c.propose(w, s, o)
		return
	}
	if !c.Batches {
		c.alloc(w, s, term)
	}
}

// alloc asks for all that was evaluated since (rule 32).
func (c *Cluster) alloc(w *world, s int, term uint8) {
	count := uint64(0)
	for o := range c.Ops {
		if c.unasked(w, s, term, o) {
			count++
		}
	}
	if c.mutation == PreLeasedBlocks {
		count++
	}
	batch := c.ask(w, c.nodeOf(s, term), input{verb: verbAlloc, shard: shardID(s), number: count}).number
	for o := range c.Ops {
		if c.unasked(w, s, term, o) {
			w.ops[o].batch = uint8(batch)
		}
	}
}

func (c *Cluster) unasked(w *world, s int, term uint8, o int) bool {
	p := &w.ops[o]
	return c.isWrite(o, s) && p.status == queued && p.by == term && p.batch == 0
}

// number gives out a run of numbers in the order of evaluation, and proposes.
func (c *Cluster) number(w *world, s int, term, batch uint8, first uint8, n uint64, refuse bool) {
	for n > 0 {
		next := -1
		for o := range c.Ops {
			p := &w.ops[o]
			if c.isWrite(o, s) && p.by == term && p.batch == batch && p.status == queued && p.rev == 0 && (next < 0 || p.place < w.ops[next].place) {
				next = o
			}
		}
		if next < 0 {
			if c.mutation == PreLeasedBlocks {
				w.leaders[s][term].spare = first
			}
			if c.mutation != PreLeasedBlocks { // they were void before their numbers came
				c.ask(w, c.nodeOf(s, term), input{verb: verbVoided, shard: shardID(s), number: uint64(first) + n - 1})
			}
			return
		}
		w.ops[next].rev = first
		if refuse { // rule 14: with it goes all that was evaluated on top of it
			for o := range c.Ops {
				if p := &w.ops[o]; c.isWrite(o, s) && p.by == term && p.status == queued {
					p.status = void
				}
			}
			c.ask(w, c.nodeOf(s, term), input{verb: verbVoided, shard: shardID(s), number: uint64(first) + n - 1})
			return
		}
		c.propose(w, s, next)
		first, n = first+1, n-1
	}
}

// propose puts a write into the tail of its shard's log. A deposed leader's proposal is lost.
func (c *Cluster) propose(w *world, s, o int) {
	p := &w.ops[o]
	p.status, p.log = inTail, 1
	if p.by != w.cur[s] {
		p.status = dead
	}
	for q := range c.Ops {
		if other := &w.ops[q]; q != o && c.isWrite(q, s) && other.by == p.by && other.log >= p.log {
			p.log = other.log + 1
		}
	}
}

// chained tells whether everything that the leader proposed before the write is applied (rule 28).
func (c *Cluster) chained(w *world, s, o int) bool {
	for q := range c.Ops {
		if p := &w.ops[q]; c.isWrite(q, s) && p.status == inTail && p.by == w.ops[o].by && p.log < w.ops[o].log && c.mutation != NoChain {
			return false
		}
	}
	return true
}

// apply: the write takes effect.
func (c *Cluster) apply(w *world, s, o int) {
	p := &w.ops[o]
	if before := c.newest(w, s, everything, everything); before != 0 && w.ops[before-1].rev > p.rev {
		c.violate(w, KeyOrder, "shard %d applied revision %d after revision %d", shardID(s), p.rev, w.ops[before-1].rev)
	}
	p.status = applied
	w.leaders[s][w.cur[s]].view |= 1 << o
}

// learnsInOrder: a deposed leader hears of its own entries in their order.
func (c *Cluster) learnsInOrder(w *world, s, o int) bool {
	p := &w.ops[o]
	for q := range c.Ops {
		other := &w.ops[q]
		if c.isWrite(q, s) && other.status == applied && other.by == p.by && other.log < p.log && w.leaders[s][p.by].view>>q&1 == 0 {
			return false
		}
	}
	return true
}

// failover: a new leader, whose barrier settles the tail of the one before: the writes of the set are committed, the others never (assumption A1).
func (c *Cluster) failover(w *world, s int, survive uint8) {
	before := w.cur[s]
	w.cur[s]++
	if c.mutation != LeaseOverlap {
		w.leaders[s][before].lease = false
	}
	for left := survive; left != 0; {
		first := -1
		for o := range c.Ops {
			if left>>o&1 == 1 && (first < 0 || w.ops[o].log < w.ops[first].log) {
				first = o
			}
		}
		left &^= 1 << first
		c.apply(w, s, first)
	}
	ld := &w.leaders[s][w.cur[s]]
	*ld = leader{lease: true}
	for o := range c.Ops {
		p := &w.ops[o]
		if !c.isWrite(o, s) {
			continue
		}
		if p.status == inTail {
			p.status = dead
		}
		if p.status == applied {
			ld.view |= 1 << o
		}
	}
	c.lead(w, s, w.cur[s])
}

// tail is the set of writes whose fate a fail-over decides.
func (c *Cluster) tail(w *world, s int) (set uint8) {
	for o := range c.Ops {
		if c.isWrite(o, s) && w.ops[o].status == inTail && w.ops[o].by == w.cur[s] {
			set |= 1 << o
		}
	}
	return set
}

// isBeginning tells whether the set is a beginning of the tail, as far as rule 28 holds.
func (c *Cluster) isBeginning(w *world, tail, set uint8) bool {
	for o := range c.Ops {
		for q := range c.Ops {
			if set>>o&1 == 1 && (tail&^set)>>q&1 == 1 && w.ops[q].log < w.ops[o].log && c.mutation != NoChain {
				return false
			}
		}
	}
	return true
}

// open counts the writes of this leader that have a number up to a revision and of which it does not know the fate (rule 16). What has no number yet gets one
// above all that was learnt before: answers come in order.
func (c *Cluster) open(w *world, s int, term uint8, upTo kv.Revision) (n int) {
	if c.mutation == CleanIgnoresOwn {
		return 0
	}
	if c.mutation == CleanBelowAsOf {
		upTo--
	}
	for o := range c.Ops {
		if rev := w.ops[o].rev; c.inFlight(w, s, term, o) && rev != 0 && kv.Revision(rev) <= upTo && w.leaders[s][term].gone>>o&1 == 0 {
			n++
		}
	}
	return n
}

// anyRevision is above all.
const anyRevision kv.Revision = 1 << 10

// readable: a leader under its lease waits for each write in flight that has no number yet, or one up to the read's (rule 18).
func (c *Cluster) readable(w *world, s int, term uint8, rev uint8) bool {
	if !w.leaders[s][term].lease {
		return false
	}
	for o := range c.Ops {
		if c.inFlight(w, s, term, o) && w.ops[o].rev <= rev && c.mutation != ReadIgnoresInFlight {
			return false
		}
	}
	return true
}
