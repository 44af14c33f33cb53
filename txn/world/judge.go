package world

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
)

// The invariants that are judged.
const (
	OneDecision statespace.Invariant = "one decision"
	Atomic      statespace.Invariant = "on all participants or on none"
	AtMostOnce  statespace.Invariant = "at most once, at the decided revision"
	Durable     statespace.Invariant = "who is told success has it durable"
	Told        statespace.Invariant = "who is told that nothing is done never finds it"
	Remembered  statespace.Invariant = "nothing that is prepared is forgotten"
	Ends        statespace.Invariant = "everything comes to an end"
	CoreCheck   statespace.Invariant = "the core checks itself"
)

// judge looks for a broken invariant.
func (c *Cluster) judge(w *world) {
	committed := [maxClients]int{}
	for i := range maxTxns {
		f, id := w.fates[i], c.id(i)
		for s := range c.Shards {
			r := &w.records[s][i]
			switch {
			case r.applied > 1:
				c.violate(w, AtMostOnce, "shard %d has %d.%d %d times", s+1, id.Term, id.Number, r.applied)
			case r.applied == 1 && (f.verdict != kv.Commit || f.rev != r.rev):
				c.violate(w, Atomic, "shard %d has %d.%d at %d, and it was not decided so", s+1, id.Term, id.Number, r.rev)
			case f.verdict == kv.Commit && r.applied == 0 && c.mask(w, i)>>s&1 == 1 && c.registerOf(w, s, i).Standing != kv.StandingPrepared:
				c.violate(w, Remembered, "%d.%d is committed, and shard %d has neither applied it nor prepared it any more", id.Term, id.Number, s+1)
			}
		}
		if f.verdict != kv.Commit || w.owners[i] == 0 {
			continue
		}
		owner := w.owners[i] - 1
		committed[owner]++
		switch k := w.clients[owner]; {
		case k.status == failed:
			c.violate(w, Told, "client %d was told that nothing is done, and %d.%d is committed", owner+1, id.Term, id.Number)
		case k.status == succeeded && k.rev != f.rev:
			c.violate(w, AtMostOnce, "client %d was told revision %d, and %d.%d is committed at %d", owner+1, k.rev, id.Term, id.Number, f.rev)
		case committed[owner] > 1:
			c.violate(w, AtMostOnce, "two transactions of client %d are committed", owner+1)
		}
	}
}

// judgeSuccess: a client is told success.
func (c *Cluster) judgeSuccess(w *world, d done) {
	for i := range maxTxns {
		if w.owners[i] != d.client+1 {
			continue
		}
		commit := kv.Decision{Verdict: kv.Commit, Revision: d.rev}
		n, all := 0, 0
		for s := range c.Shards {
			if c.mask(w, i)>>s&1 == 0 {
				continue
			}
			all++
			if r := c.registerOf(w, s, i); r.Decision == commit && (c.Protocol == txn.ThreePhase || s == 0 && r.Standing == kv.StandingResolved) {
				n++
			} else if r.Standing == kv.StandingResolved && r.Decision == commit || w.fates[i] == (fate{kv.Commit, uint8(d.rev)}) {
				n = all + maxShards // it is known to somebody for certain
			}
		}
		if c.Protocol == txn.TwoPhase && n >= 1 || n > all/2 {
			return
		}
	}
	c.violate(w, Durable, "client %d is told success at %d, and that is not decided", d.client+1, d.rev)
}

// settleShare: one of so many states is followed to its end.
const settleShare = 8

// judgeEnd looks at what comes of a world if there are no more faults.
func (c *Cluster) judgeEnd(w *world) {
	if k := key(*w); w.violated != "" || c.Recoverers != 0 || !c.settleAll && k%settleShare != 0 {
		return
	} else if _, known := c.settled[k]; known {
		return
	}
	if wrong := c.settle(*w); wrong != "" {
		c.violate(w, Ends, "if nothing else goes wrong: %s", wrong)
	}
}

// settleSteps is more than anything needs that ends.
const settleSteps = 400

// settle lets everything take its course without faults, in one order, and tells what is wrong in the end.
func (c *Cluster) settle(w world) string {
	var passed []uint64
	for turn := range settleSteps {
		k := key(w)
		if _, known := c.settled[k]; known {
			break
		}
		passed = append(passed, k)
		next, moved := w, false
		all := c.natural(&w)
		for n := range all { // whatever may happen has its turn some time
			next = w
			c.do(&next, all[(n+turn)%len(all)])
			if next != w {
				moved = true
				break
			}
		}
		if next.beyond {
			break
		}
		if next.violated != "" {
			break // it is found by itself
		}
		if !moved {
			if wrong := c.atRest(&w); wrong != "" {
				return wrong
			}
			break
		}
		w = next
	}
	if len(passed) == settleSteps {
		if wrong := c.atRest(&w); wrong != "" {
			return wrong
		}
	}
	for _, k := range passed {
		c.settled[k] = struct{}{}
	}
	return ""
}

// WithoutAnchor loses the anchor for ever, lets everything take its course, and returns the shards where something is undecided then.
func (c *Cluster) WithoutAnchor() (undecided []kv.ShardID) {
	w := c.begin()
	c.do(&w, action{kind: doLose})
	for turn := range settleSteps {
		all := c.natural(&w)
		for n := range all {
			next := w
			if c.do(&next, all[(n+turn)%len(all)]); next != w {
				w = next
				break
			}
		}
	}
	for s := range c.Shards {
		if !w.lost[s] && c.lockedBy(&w, s) >= 0 {
			undecided = append(undecided, shardID(s))
		}
	}
	return undecided
}

// blocks tells whether transactions may wait for ever, by design, for shards that are lost.
func (c *Cluster) blocks(w *world, at int) bool {
	if c.Protocol == txn.TwoPhase {
		return w.lost[0]
	}
	alive, all := 0, 0
	for s := range c.Shards {
		if c.mask(w, at)>>s&1 == 1 {
			all++
			if !w.lost[s] {
				alive++
			}
		}
	}
	return alive <= all/2
}

// touchesLost tells whether a shard is lost that has a part in a transaction, or the anchor.
func (c *Cluster) touchesLost(w *world, at int) bool {
	for s := range c.Shards {
		if w.lost[s] && (s == 0 || c.mask(w, at)>>s&1 == 1) {
			return true
		}
	}
	return false
}

// atRest tells what is wrong in a world in which nothing happens any more.
func (c *Cluster) atRest(w *world) string {
	anyLost := false
	for s := range c.Shards {
		anyLost = anyLost || w.lost[s]
	}
	for i := range c.Clients {
		if w.clients[i].status == waits && !anyLost {
			return fmt.Sprintf("client %d waits for ever", i+1)
		}
	}
	for s := range c.Shards {
		for i := range maxTxns {
			standing := c.registerOf(w, s, i).Standing
			id := c.id(i)
			switch {
			case w.lost[s] || standing == kv.StandingUnknown:
			case standing != kv.StandingResolved && !c.blocks(w, i):
				return fmt.Sprintf("%d.%d is undecided in shard %d for ever", id.Term, id.Number, s+1)
			case !c.touchesLost(w, i) && (w.term[0] == 0 || id.Term > uint64(w.term[0]) || c.registerOf(w, 0, i).Standing != kv.StandingUnknown):
				// what an earlier leadership has left goes with the next message, unless the anchor knows of it
				return fmt.Sprintf("shard %d remembers %d.%d for ever", s+1, id.Term, id.Number)
			}
		}
	}
	return ""
}
