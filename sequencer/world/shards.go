package world

import "github.com/quoratedb/quorate/kv"

// The shards as models: what a leader knows, its log, and the closed revision that follows from it.

// newest is 1 + the operation that has written the key with the highest revision up to rev, among those of the set; 0: none.
func (c *Cluster) newest(w *world, s int, key, rev, among uint8) (op uint8) {
	best := uint8(0)
	for o := range c.Ops {
		if at := c.tookEffect(w, s, o); at > best && at <= rev && among>>o&1 == 1 && c.Ops[o].Key == key {
			best, op = at, uint8(o+1)
		}
	}
	return op
}

// tookEffect is the revision at which the operation has been applied to the shard; 0: it has not, or has no effect there.
func (c *Cluster) tookEffect(w *world, s, o int) uint8 {
	switch {
	case c.isWrite(o, s) && w.ops[o].status == applied:
		return w.ops[o].rev
	case c.isTxn(o) && c.Ops[o].Touch[s] == Writes && w.txns[o].at[s].stage == committed:
		return w.txns[o].at[s].rev
	}
	return 0
}

const everything = ^uint8(0)

func (c *Cluster) isWrite(o, s int) bool { return c.Ops[o].Kind == Write && c.Ops[o].Shard == s }

// top is the highest revision that the leader has applied.
func (c *Cluster) top(w *world, s int, term uint8) uint8 {
	highest := uint8(1)
	for o := range c.Ops {
		if w.leaders[s][term].view>>o&1 == 1 {
			highest = max(highest, c.tookEffect(w, s, o))
		}
	}
	return highest
}

// inFlight tells whether the write is one of this leader's that it has not applied.
func (c *Cluster) inFlight(w *world, s int, term uint8, o int) bool {
	p := &w.ops[o]
	return c.isWrite(o, s) && p.by == term && p.status != unborn && p.status != void && w.leaders[s][term].view>>o&1 == 0
}

// evaluate: a write acts on what is newest at its leader, those in flight included (rule 31).
func (c *Cluster) evaluate(w *world, o int) {
	s, key := c.Ops[o].Shard, c.Ops[o].Key
	term := w.cur[s]
	p := &w.ops[o]
	*p = operation{status: queued, by: term, place: 1, floor: w.answered}
	p.saw = c.newest(w, s, key, everything, w.leaders[s][term].view)
	for t := range c.Ops { // writes in flight come after it: it had the lock before
		if c.committing(w, s, term, t) && c.Ops[t].Key == key && c.Ops[t].Touch[s] == Writes {
			p.saw = uint8(t + 1)
		}
	}
	below := uint8(0) // place of the newest in flight
	for q := range c.Ops {
		other := &w.ops[q]
		if q == o || !c.isWrite(q, s) || other.by != term || other.status == unborn {
			continue
		}
		p.place = max(p.place, other.place+1)
		if c.inFlight(w, s, term, q) && other.place > below && c.Ops[q].Key == key {
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
	p.log = 0
	p.status, p.log = inTail, c.nextLog(w, s, p.by)
	if p.by != w.cur[s] {
		p.status = dead
	}
}

// nextLog is the next place among what a leader has proposed.
func (c *Cluster) nextLog(w *world, s int, term uint8) uint8 {
	last := uint8(0)
	for o := range c.Ops {
		if by, log := c.logged(w, s, o); by == term {
			last = max(last, log)
		}
	}
	return last + 1
}

// logged tells who has proposed the operation in the shard, and its place among what that leader has proposed; 0: nobody.
func (c *Cluster) logged(w *world, s, o int) (by, log uint8) {
	if c.isTxn(o) {
		return w.txns[o].at[s].by, w.txns[o].at[s].log
	}
	if !c.isWrite(o, s) {
		return 0, 0
	}
	return w.ops[o].by, w.ops[o].log
}

// proposed tells whether the operation is in the tail of the shard.
func (c *Cluster) proposed(w *world, s, o int) bool {
	if c.isTxn(o) {
		return w.txns[o].at[s].stage == resolving
	}
	return c.isWrite(o, s) && w.ops[o].status == inTail
}

// chained tells whether everything that the leader proposed before that place is applied (rule 28).
func (c *Cluster) chained(w *world, s int, term, place uint8) bool {
	for q := range c.Ops {
		if by, log := c.logged(w, s, q); log < place && by == term && c.proposed(w, s, q) && !c.unchained(q) {
			return false
		}
	}
	return true
}

// unchained: mutations take the operation for no part of the chain.
func (c *Cluster) unchained(o int) bool {
	return c.mutation == NoChain || c.mutation == ResolveOffChain && c.isTxn(o)
}

// apply: the write takes effect.
func (c *Cluster) apply(w *world, s, o int) {
	if c.isTxn(o) {
		c.land(w, o, s)
		return
	}
	c.ascends(w, s, o, w.ops[o].rev)
	w.ops[o].status = applied
	w.leaders[s][w.cur[s]].view |= 1 << o
}

// ascends judges that a revision that is applied to a key is above all before it.
func (c *Cluster) ascends(w *world, s, o int, rev uint8) {
	for q := range c.Ops {
		if before := c.tookEffect(w, s, q); q != o && c.Ops[q].Key == c.Ops[o].Key && before > rev {
			c.violate(w, KeyOrder, "shard %d applied revision %d after revision %d", shardID(s), rev, before)
		}
	}
}

// learnsInOrder: a deposed leader hears of its own entries in their order.
func (c *Cluster) learnsInOrder(w *world, s int, term, place uint8) bool {
	for q := range c.Ops {
		if by, log := c.logged(w, s, q); log != 0 && log < place && by == term && c.tookEffect(w, s, q) != 0 && w.leaders[s][term].view>>q&1 == 0 {
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
			if left>>o&1 == 1 && (first < 0 || c.place(w, s, o) < c.place(w, s, first)) {
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
		if c.isTxn(o) {
			c.inherit(w, s, o)
		}
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
		if by, _ := c.logged(w, s, o); c.proposed(w, s, o) && by == w.cur[s] {
			set |= 1 << o
		}
	}
	return set
}

// place is that of an operation in the tail.
func (c *Cluster) place(w *world, s, o int) uint8 {
	_, log := c.logged(w, s, o)
	return log
}

// isBeginning tells whether the set is a beginning of the tail, as far as rule 28 holds.
func (c *Cluster) isBeginning(w *world, s int, tail, set uint8) bool {
	for o := range c.Ops {
		for q := range c.Ops {
			if set>>o&1 == 1 && (tail&^set)>>q&1 == 1 && c.place(w, s, q) < c.place(w, s, o) && !c.unchained(q) {
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

// readable: a leader under its lease waits for each write in flight that has no number yet, or one up to the read's, and for each transaction that is prepared,
// unless the read is at or below its stamp (rule 18).
func (c *Cluster) readable(w *world, s int, term uint8, key, rev uint8) bool {
	if !w.leaders[s][term].lease {
		return false
	}
	for o := range c.Ops {
		if c.Ops[o].Key != key || c.touches(o, s) != Writes {
			continue
		}
		if c.inFlight(w, s, term, o) && w.ops[o].rev <= rev && c.mutation != ReadIgnoresInFlight {
			return false
		}
		if c.isTxn(o) && w.holds(s, term, o) && !c.above(w, s, term, o, rev) {
			return false
		}
	}
	return true
}

// above tells whether the leader knows that a transaction which is prepared gets a revision above one.
func (c *Cluster) above(w *world, s int, term uint8, o int, rev uint8) bool {
	switch {
	case rev <= w.txns[o].at[s].stamp, c.mutation == ReadIgnoresLocks:
		return true
	case c.committing(w, s, term, o):
		return w.ops[o].rev > rev
	}
	return c.mutation == ReadIgnoresStamp && rev <= c.top(w, s, term)
}
