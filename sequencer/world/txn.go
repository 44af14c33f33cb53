package world

// Transactions over several shards: two-phase commit with the decision in the anchor's log, by the leader of the anchor in whose leadership the transaction
// began. Each participant has a lock on one key.
//
// A prepare, and an abort, are one step from the message to the answer: one that lingers in a tail is like a message that comes later, and what a prepare is
// evaluated on lies before it in the chain, so it is prepared when that is applied (rule 30). The commit of a writing participant has its place in the tail.

// Touch is what a transaction does with its key in one shard.
type Touch uint8

// The touches.
const (
	Untouched Touch = iota
	Reads
	Writes
)

// stage is how far a participant is, in its log.
type stage uint8

const (
	unknown stage = iota
	prepared
	resolving // and the leader of term by has proposed the commit
	committed
	aborted
)

// share is one participant's part of a transaction.
type share struct {
	stage stage
	by    uint8 // term of the leader that has proposed the commit
	log   uint8 // its place among what that leader has proposed
	saw   uint8 // 1 + the operation whose write it was prepared on; 0: none
	stamp uint8 // the highest revision that was applied before the prepare
	rev   uint8 // at which it has taken effect here
}

// verdict is what the anchor's log says.
type verdict uint8

const (
	undecided verdict = iota
	commit
	abort
)

// txn is what a transaction has beyond an operation, whose rev is that which the coordinator got, and by the term of the coordinator.
type txn struct {
	at     [maxShards]share
	acked  uint8 // participants that have told the coordinator that they are prepared
	ticket uint8 // of the coordinator's question; 0: it has not asked
	second uint8 // mutation TwoRevisions: a revision that came later
	says   verdict
	rev    uint8 // that says is about
}

func (c *Cluster) isTxn(o int) bool { return c.Ops[o].Kind == Txn }

// touches tells what operation o does with the key of shard s.
func (c *Cluster) touches(o, s int) Touch {
	switch op := &c.Ops[o]; {
	case op.Kind == Txn:
		return op.Touch[s]
	case op.Shard != s:
	case op.Kind == Write:
		return Writes
	}
	return Untouched
}

// writesHere are all operations that write in a shard.
func (c *Cluster) writesHere(s int) (set uint8) {
	for o := range c.Ops {
		if c.touches(o, s) == Writes {
			set |= 1 << o
		}
	}
	return set
}

// participants is the set of shards that a transaction touches.
func (c *Cluster) participants(o int) (set uint8) {
	for s := range c.Shards {
		if c.Ops[o].Touch[s] != Untouched {
			set |= 1 << s
		}
	}
	return set
}

// writers is the set of shards in which a transaction writes, as the coordinator names them.
func (c *Cluster) writers(o int) (set uint8) {
	last := 0
	for s := range c.Shards {
		if c.Ops[o].Touch[s] == Writes {
			set, last = set|1<<s, s
		}
	}
	if c.mutation == OmitParticipant {
		set &^= 1 << last
	}
	return set
}

// holds tells whether the leader knows transaction o as prepared and not resolved.
func (w *world) holds(s int, term uint8, o int) bool {
	ld := &w.leaders[s][term]
	return (ld.prep&^ld.view)>>o&1 == 1
}

// committing tells whether the commit of transaction o is in flight at the leader: it has proposed it, and not applied it.
func (c *Cluster) committing(w *world, s int, term uint8, o int) bool {
	at := &w.txns[o].at[s]
	return c.isTxn(o) && at.stage == resolving && at.by == term && w.leaders[s][term].view>>o&1 == 0
}

// locked tells whether the leader must let operation o, which touches the key of its shard, wait for a transaction that is prepared there (rule 31).
func (c *Cluster) locked(w *world, s int, term uint8, o int) bool {
	for t := range c.Ops {
		if t == o || !c.isTxn(t) || c.Ops[t].Key != c.Ops[o].Key || !w.holds(s, term, t) {
			continue
		}
		if c.touches(t, s) != Writes && c.touches(o, s) != Writes {
			continue // both only read
		}
		if !c.isTxn(o) && (c.committing(w, s, term, t) || c.mutation == StackOnPrepared) {
			continue // its effects are in flight like those of a write
		}
		return true
	}
	return false
}

// preparable tells whether the leader can prepare: all that it has in flight for the key is applied (rule 30).
func (c *Cluster) preparable(w *world, s int, term uint8, o int) bool {
	if c.locked(w, s, term, o) {
		return false
	}
	for q := range c.Ops {
		if c.isWrite(q, s) && c.Ops[q].Key == c.Ops[o].Key && c.inFlight(w, s, term, q) && (w.ops[q].status != inTail || c.mutation != PrepareOffChain) {
			return false
		}
	}
	return true
}

// closed is W as a leader, or any replica that has come as far, knows it (rule 13).
func (c *Cluster) closed(w *world, s int, term uint8) uint8 {
	lowest := c.top(w, s, term)
	for o := range c.Ops {
		if c.isTxn(o) && c.touches(o, s) == Writes && w.holds(s, term, o) && c.mutation != NoStamp {
			lowest = min(lowest, w.txns[o].at[s].stamp)
		}
	}
	return lowest
}

// pending are the transactions that are prepared at the leader and write there (rule 16).
func (c *Cluster) pending(w *world, s int, term uint8) (set uint8) {
	ld := &w.leaders[s][term]
	if c.mutation == CleanIgnoresPrepared {
		return 0
	}
	return ld.prep &^ ld.view & c.writesHere(s)
}

// mayResolve: all numbers that this leader has asked for have arrived and are proposed (rule 29).
func (c *Cluster) mayResolve(w *world, s int) bool {
	for o := range c.Ops {
		if c.isWrite(o, s) && w.ops[o].status == queued && w.ops[o].by == w.cur[s] && c.mutation != ResolveEarly {
			return false
		}
	}
	return true
}

func (c *Cluster) txnActions(w *world, o int, add func(kind, int, int)) {
	p, t, anchor := &w.ops[o], &w.txns[o], c.Ops[o].Shard
	all, coordinated := c.participants(o), p.status == unborn || w.cur[anchor] == p.by
	busy := false
	for s := range c.Shards {
		at := &t.at[s]
		switch {
		case all>>s&1 == 0:
		case at.stage == unknown && s == anchor && (!coordinated || t.says != undecided):
		case at.stage == unknown && c.preparable(w, s, w.cur[s], o):
			add(doPrepare, o, s)
		case at.stage == unknown:
			busy = busy || c.locked(w, s, w.cur[s], o)
		case at.stage == prepared && s == anchor && t.says == undecided && coordinated && p.rev != 0 && t.acked == all && c.mayResolve(w, s):
			add(doResolve, o, s) // the decision
		case at.stage == prepared && s != anchor && (t.says == abort || t.says == commit && c.mayResolve(w, s)):
			add(doResolve, o, s)
		case at.stage == resolving && at.by == w.cur[s] && c.chained(w, s, at.by, at.log):
			add(doLand, o, s)
		case at.stage == committed && at.by < w.cur[s] && at.log != 0 && w.leaders[s][at.by].view>>o&1 == 0 && c.learnsInOrder(w, s, at.by, at.log):
			add(doLateLand, o, s)
		}
		if at.stage == prepared && s != anchor && t.says == undecided && c.mutation == MissingIsAbort {
			add(doGiveUp, o, s)
		}
	}
	if p.status == unborn {
		return
	}
	if t.ticket == 0 && t.says == undecided && (t.acked == all || c.mutation == IssueBeforeLocks) {
		add(doMulti, o, 0)
	}
	open := t.says == undecided && t.at[anchor].stage != resolving
	switch {
	case open && (!coordinated || busy):
		add(doAbort, o, 0)
	case open && w.aborts < c.Aborts:
		add(doAbandon, o, 0)
	case t.says == commit && !coordinated && c.mutation == RecoveryForgetsDecision:
		add(doAbandon, o, 0)
	}
}

func (c *Cluster) prepare(w *world, o, s int) {
	p, t := &w.ops[o], &w.txns[o]
	if p.status == unborn {
		*p = operation{status: queued, by: w.cur[c.Ops[o].Shard], floor: w.answered}
	}
	ld := &w.leaders[s][w.cur[s]]
	t.at[s] = share{stage: prepared, saw: c.newest(w, s, c.Ops[o].Key, everything, ld.view), stamp: c.top(w, s, w.cur[s])}
	ld.prep |= 1 << o
	t.acked |= 1 << s
}

// askMulti: the coordinator asks for the revision (rules 1 and 5). It may be deposed by then.
func (c *Cluster) askMulti(w *world, o int) {
	n := c.nodeOf(c.Ops[o].Shard, w.ops[o].by)
	w.txns[o].ticket = uint8(c.ask(w, n, input{verb: verbMulti, number: uint64(c.writers(o))}).number)
}

// revise takes revisions that have come to a node.
func (c *Cluster) revise(w *world, n int, ticket, rev uint8) {
	for o := range c.Ops {
		p, t := &w.ops[o], &w.txns[o]
		if !c.isTxn(o) || t.ticket != ticket || c.nodeOf(c.Ops[o].Shard, p.by) != n {
			continue
		}
		if p.rev == 0 {
			p.rev = rev
		} else {
			t.second = rev
		}
	}
}

// askAgain: with mutation TwoRevisions a coordinator asks again whenever its session ends, also for what has come.
func (c *Cluster) askAgain(w *world, n int) {
	for o := range c.Ops {
		if p := &w.ops[o]; c.mutation == TwoRevisions && c.isTxn(o) && p.rev != 0 && w.txns[o].says == undecided && c.nodeOf(c.Ops[o].Shard, p.by) == n {
			c.askMulti(w, o)
		}
	}
}

// resolve: the leader proposes what is decided; at the anchor that is the decision.
func (c *Cluster) resolve(w *world, o, s int) {
	t := &w.txns[o]
	at, ld := &t.at[s], &w.leaders[s][w.cur[s]]
	switch {
	case t.says == abort:
		at.stage = aborted
		ld.view |= 1 << o
	case c.touches(o, s) == Writes:
		at.log = c.nextLog(w, s, w.cur[s])
		at.stage, at.by = resolving, w.cur[s]
	default:
		c.land(w, o, s)
	}
}

// land: a commit is applied. At the anchor it decides.
func (c *Cluster) land(w *world, o, s int) {
	t := &w.txns[o]
	at := &t.at[s]
	if s == c.Ops[o].Shard {
		if t.says == abort {
			c.violate(w, OneDecision, "%s is committed after it was aborted", c.name(o))
		}
		t.says, t.rev = commit, w.ops[o].rev
	}
	if at.rev = t.rev; s != c.Ops[o].Shard && t.second != 0 {
		at.rev = t.second
	}
	at.stage = committed
	if c.touches(o, s) == Writes {
		c.ascends(w, s, o, at.rev)
	}
	w.leaders[s][w.cur[s]].view |= 1 << o
}

// answer: the client hears that its transaction is committed.
func (c *Cluster) answerTxn(w *world, o, s int) {
	if s == c.Ops[o].Shard {
		w.answered = max(w.answered, w.txns[o].rev)
	}
}

// abandon: the anchor's log says ABORT.
func (c *Cluster) abandon(w *world, o int) {
	t, anchor := &w.txns[o], c.Ops[o].Shard
	if t.says == commit {
		c.violate(w, OneDecision, "%s is aborted after it was committed at %d", c.name(o), t.rev)
	}
	t.says = abort
	if at := &t.at[anchor]; at.stage == prepared {
		at.stage = aborted
		w.leaders[anchor][w.cur[anchor]].view |= 1 << o
	}
}

// inherit is what a new leader finds in the log of its transactions.
func (c *Cluster) inherit(w *world, s, o int) {
	at, ld := &w.txns[o].at[s], &w.leaders[s][w.cur[s]]
	switch at.stage {
	case resolving: // it was dropped with the tail
		at.stage, at.by, at.log = prepared, 0, 0
		ld.prep |= 1 << o
	case prepared:
		if c.touches(o, s) == Writes || c.mutation != ReadOnlyInMemory {
			ld.prep |= 1 << o
		}
	case committed, aborted:
		ld.view |= 1 << o
	}
}

// effective is the revision at which an operation takes effect, as far as that is certain; 0: it is not.
func (c *Cluster) effective(w *world, o int) uint8 {
	switch {
	case c.isTxn(o) && w.txns[o].says == commit:
		return w.txns[o].rev
	case c.Ops[o].Kind == Write && w.ops[o].status == applied:
		return w.ops[o].rev
	}
	return 0
}

func (c *Cluster) judgeTxn(w *world, o int) {
	p, t := &w.ops[o], &w.txns[o]
	for s := range c.Shards {
		at := &t.at[s]
		switch {
		case c.touches(o, s) != Writes:
		case at.stage == committed && t.says != commit:
			c.violate(w, Atomic, "%s takes effect in shard %d, and no COMMIT is decided", c.name(o), shardID(s))
		case at.stage == committed && at.rev != t.rev:
			c.violate(w, Atomic, "%s takes effect at %d, but in shard %d at %d", c.name(o), t.rev, shardID(s), at.rev)
		case at.stage == aborted && t.says == commit:
			c.violate(w, Atomic, "%s is committed at %d, and aborted in shard %d", c.name(o), t.rev, shardID(s))
		}
	}
	if t.says != commit {
		return
	}
	if t.rev <= p.floor {
		c.violate(w, RealTime, "%s takes effect at %d, but %d had been answered before it began", c.name(o), t.rev, p.floor)
	}
	c.judgeOnce(w, o)
	for s := range c.Shards {
		at := &t.at[s]
		if c.touches(o, s) == Untouched {
			continue
		}
		if c.newest(w, s, c.Ops[o].Key, t.rev-1, everything) != at.saw {
			c.violate(w, ActedOn, "%s at %d acted on something else than the state at %d of shard %d", c.name(o), t.rev, t.rev-1, shardID(s))
		}
		if c.Watch && c.touches(o, s) == Writes && t.rev <= w.closed[s] && w.delivered[s]>>o&1 == 0 {
			c.violate(w, Closed, "shard %d was closed at %d, and %s takes effect there at %d", shardID(s), w.closed[s], c.name(o), t.rev)
		}
	}
}

// judgeTxnRest: nothing of a transaction is left open.
func (c *Cluster) judgeTxnRest(w *world, o int) {
	for s := range c.Shards {
		if at := w.txns[o].at[s].stage; at == prepared || at == resolving {
			c.violate(w, Liveness, "%s stays prepared in shard %d for ever", c.name(o), shardID(s))
		}
	}
	if w.txns[o].says == undecided {
		c.violate(w, Liveness, "%s waits for ever", c.name(o))
	}
}
