package world

import "github.com/quoratedb/quorate/statespace"

// The invariants that are judged, by their numbers in docs/protocols/sequencer.md.
const (
	RealTime    statespace.Invariant = "I1 real time"
	Once        statespace.Invariant = "I2 every revision once"
	Snapshot    statespace.Invariant = "I3 reads"
	ActedOn     statespace.Invariant = "I4 writes act on what is below them"
	Closed      statespace.Invariant = "I5 closed revision"
	Atomic      statespace.Invariant = "I6 all or nothing"
	OneDecision statespace.Invariant = "I7 one decision"
	KeyOrder    statespace.Invariant = "I8 revisions of a key increase"
	Liveness    statespace.Invariant = "I9 everything is done"
	Dense       statespace.Invariant = "I10 no gap"
	CoreCheck   statespace.Invariant = "the core checks itself"
)

// judge looks for a broken invariant.
func (c *Cluster) judge(w *world) {
	seen := c.sequencers.View(w.sequencer)
	if uint8(seen.next) <= w.answered {
		c.violate(w, Once, "revision %d was reported, and %d is issued next", w.answered, seen.next)
	}
	if w.answered > max(1, w.limit) {
		c.violate(w, Once, "revision %d was reported, above the committed limit %d", w.answered, w.limit)
	}
	for o := range c.Ops {
		p := &w.ops[o]
		switch {
		case c.isTxn(o):
			c.judgeTxn(w, o)
		case c.Ops[o].Kind == Write && p.status == applied:
			c.judgeWrite(w, o)
		case c.Ops[o].Kind != Write && p.status == applied:
			if p.rev < p.floor {
				c.violate(w, RealTime, "%s reads at %d, but %d had been answered before it began", c.name(o), p.rev, p.floor)
			}
			if c.newest(w, c.Ops[o].Shard, c.Ops[o].Key, p.rev, everything) != p.saw {
				c.violate(w, Snapshot, "%s at %d did not return the state at that revision of shard %d", c.name(o), p.rev, shardID(c.Ops[o].Shard))
			}
		}
	}
}

func (c *Cluster) judgeWrite(w *world, o int) {
	p, s := &w.ops[o], c.Ops[o].Shard
	if p.rev <= p.floor {
		c.violate(w, RealTime, "%s takes effect at %d, but %d had been answered before it began", c.name(o), p.rev, p.floor)
	}
	c.judgeOnce(w, o)
	if c.newest(w, s, c.Ops[o].Key, p.rev-1, everything) != p.saw {
		c.violate(w, ActedOn, "%s at %d acted on something else than the state at %d of shard %d", c.name(o), p.rev, p.rev-1, shardID(s))
	}
	if c.Watch && p.rev <= w.closed[s] && w.delivered[s]>>o&1 == 0 {
		c.violate(w, Closed, "shard %d was closed at %d, and %s takes effect there at %d", shardID(s), w.closed[s], c.name(o), p.rev)
	}
}

// judgeOnce: no operation before it takes effect at its revision.
func (c *Cluster) judgeOnce(w *world, o int) {
	for q := range o {
		if rev := c.effective(w, q); rev != 0 && rev == c.effective(w, o) {
			c.violate(w, Once, "%s and %s take effect at the same revision %d", c.name(q), c.name(o), rev)
		}
	}
}

// judgeRest: where nothing but faults can happen, everything that must be done is done.
func (c *Cluster) judgeRest(w *world) {
	for _, a := range c.actions(*w) {
		if !a.kind.isFault() {
			return
		}
	}
	for o := range c.Ops {
		p := &w.ops[o]
		if c.isTxn(o) {
			c.judgeTxnRest(w, o)
			continue
		}
		if waits := p.status == queued || p.status == numbered || p.status == inTail; waits && (c.Ops[o].Kind != Write || p.by == w.cur[c.Ops[o].Shard]) {
			c.violate(w, Liveness, "%s waits for ever", c.name(o))
		}
	}
	now := uint8(c.sequencers.View(w.sequencer).now)
	for s := range c.Shards {
		if c.Watch && w.closed[s] < now {
			c.violate(w, Liveness, "the watch waits for ever: shard %d is closed at %d, now is %d", shardID(s), w.closed[s], now)
		}
	}
}
