package world

// kind of an action.
type kind uint8

const (
	doEvaluate   kind = iota // a: write
	doAlloc                  // a: shard, b: term
	doHear                   // a: node; its oldest frame reaches the sequencer
	doGet                    // a: node; the oldest frame to it arrives
	doCommit                 // a: write
	doLateCommit             // a: write; the deposed leader that proposed it learns of it
	doAsk                    // a: read
	doServe                  // a: read, b: term
	doReport                 // a: shard, b: term; a replica sends events and closed revision to the gateway
	doFrontier               // the gateway asks
	doLearnNow               // a: shard, b: term; the leader asks for now
	doLearn                  // a: shard, b: term; the first two steps of a Clean
	doClean                  // a: shard, b: term
	doLimit                  // is committed
	doRetarget               // a: node; it hears of the new sequencer
	doPatience               // a: node
	doTransfer
	doPrepare  // a: transaction, b: shard
	doMulti    // a: transaction; the coordinator asks for its revision
	doResolve  // a: transaction, b: shard; at the anchor it is the decision
	doLand     // a: transaction, b: shard; its commit is applied
	doLateLand // a: transaction, b: shard; as doLateCommit
	doAbort    // a: transaction; who leads the anchor since, or a coordinator that meets another transaction's lock
	// Faults, and what may never happen.
	doTold      // a: shard, b: term; the leader hears that the frontier is above its closed revision. Nobody need tell it
	doRefuse    // a: node; as doGet, and the consensus core does not take what is proposed
	doLate      // a: place
	doFailover  // a: shard, b: set of writes that survive
	doSeqFail   // a: 1: the pending limit survives
	doHandOver  //
	doGoOn      //
	doLoseUp    // a: node
	doLoseDown  // a: node
	doBreak     // a: node
	doHearOld   // a: node; mutations: as doHear, but the sequencer before is reached
	doGetSecond // a: node; mutation UnorderedStream
	doVoid      // a: write; mutation VoidInLog
	doRepropose // a: write; mutation ReproposeOldRevision
	doAbandon   // a: transaction; the coordinator gives it up
	doGiveUp    // a: transaction, b: shard; mutation MissingIsAbort
)

// action is one thing that happens.
type action struct {
	kind kind
	a, b uint8
}

func (k kind) isFault() bool { return k >= doTold }

// actions lists what may happen next.
func (c *Cluster) actions(w world) (all []action) {
	add := func(k kind, a, b int) { all = append(all, action{k, uint8(a), uint8(b)}) }
	for o := range c.Ops {
		switch c.Ops[o].Kind {
		case Write:
			c.writeActions(&w, o, add)
		case Txn:
			c.txnActions(&w, o, add)
		default:
			c.readActions(&w, o, add)
		}
	}
	for n := range w.nodes {
		if w.nodes[n].exists {
			c.nodeActions(&w, n, add)
		}
	}
	for s := range c.Shards {
		for term := range w.cur[s] + 1 {
			c.leaderActions(&w, s, term, add)
		}
		if w.cur[s] < c.ShardFailovers[s] {
			tail := c.tail(&w, s)
			for set := tail; ; set = (set - 1) & tail {
				if c.isBeginning(&w, s, tail, set) {
					add(doFailover, s, int(set))
				}
				if set == 0 {
					break
				}
			}
		}
	}
	if c.usefulFrontier(&w) {
		add(doFrontier, 0, 0)
	}
	for i := range w.late {
		if w.late[i].frame != 0 {
			add(doLate, i, 0)
		}
	}
	c.sequencerActions(&w, add)
	return all
}

func (c *Cluster) sequencerActions(w *world, add func(kind, int, int)) {
	if w.pending != 0 {
		add(doLimit, 0, 0)
	}
	if w.seqFailed < c.SeqFailovers {
		add(doSeqFail, 0, 0)
		if w.pending != 0 {
			add(doSeqFail, 1, 0)
		}
	}
	if w.handing == 0 && w.handed < c.HandOvers {
		add(doHandOver, 0, 0)
	}
	if w.handing == 2 {
		add(doTransfer, 0, 0)
	}
	if w.handing != 0 {
		add(doGoOn, 0, 0)
	}
}

func (c *Cluster) writeActions(w *world, o int, add func(kind, int, int)) {
	p, s := &w.ops[o], c.Ops[o].Shard
	switch p.status {
	case unborn:
		if !c.locked(w, s, w.cur[s], o) {
			add(doEvaluate, o, 0)
		}
	case inTail:
		if c.chained(w, s, p.by, p.log) {
			add(doCommit, o, 0)
		}
		if c.mutation == VoidInLog && w.leaders[s][p.by].gone>>o&1 == 0 {
			add(doVoid, o, 0)
		}
	case applied:
		if p.by < w.cur[s] && w.leaders[s][p.by].view>>o&1 == 0 && c.learnsInOrder(w, s, p.by, p.log) {
			add(doLateCommit, o, 0)
		}
	case dead:
		if c.mutation == ReproposeOldRevision && p.by < w.cur[s] && p.rev != 0 {
			add(doRepropose, o, 0)
		}
	}
}

func (c *Cluster) nodeActions(w *world, n int, add func(kind, int, int)) {
	at := &w.nodes[n]
	if at.up.length > 0 {
		add(doHear, n, 0)
		if w.losses < c.Losses {
			add(doLoseUp, n, 0)
		}
		if w.former != 0 && at.epoch < w.epoch && (len(c.frames.request(at.up.frames[0]).Allocs) > 0) == (c.mutation == ExpiredSequencerAllocates) {
			add(doHearOld, n, 0)
		}
	}
	if at.down.length > 0 {
		add(doGet, n, 0)
		if w.losses < c.Losses {
			add(doLoseDown, n, 0)
		}
		if w.refused < c.Refusals && len(c.frames.reply(at.down.frames[0]).Numbers) > 0 {
			add(doRefuse, n, 0)
		}
	}
	if at.down.length > 1 && c.mutation == UnorderedStream {
		add(doGetSecond, n, 0)
	}
	if at.epoch < w.epoch {
		add(doRetarget, n, 0)
	}
	if at.lost && at.up.length+at.down.length == 0 && c.mutation != NoPatience {
		add(doPatience, n, 0)
	}
	if w.breaks < c.Breaks {
		add(doBreak, n, 0)
	}
}

func (c *Cluster) leaderActions(w *world, s int, term uint8, add func(kind, int, int)) {
	for o := range c.Ops {
		if c.Batches && c.unasked(w, s, term, o) {
			add(doAlloc, s, int(term))
			break
		}
	}
	if c.Watch && c.closed(w, s, term) > w.closed[s] {
		add(doReport, s, int(term))
	}
	if !c.watches() {
		return
	}
	seen := c.askers.View(w.nodes[c.nodeOf(s, term)].asker)
	_, last := c.probe(w)
	behind := last[s] != noLast && last[s] > c.closed(w, s, term)
	needed := behind && seen.wants[s]
	ld := &w.leaders[s][term]
	leads := ld.lease || c.mutation == CleanByBelief
	at := &w.nodes[c.nodeOf(s, term)]
	quiet := at.up.length+at.down.length == 0 && c.open(w, s, term, anyRevision) == 0 && c.pending(w, s, term) == 0
	if leads && seen.epoch != 0 && needed && !seen.knows[s] && quiet {
		add(doLearnNow, s, int(term))
	}
	if leads && seen.epoch != 0 && behind && !seen.wants[s] && quiet {
		add(doTold, s, int(term))
	}
	if leads && seen.epoch != 0 && seen.wants[s] && c.mutation != NeverClean {
		if c.mutation == CleanNowLater {
			if ld.found == 0 && c.open(w, s, term, anyRevision) == 0 {
				add(doLearn, s, int(term))
			}
		} else if seen.holds[s] < seen.now && seen.knows[s] {
			add(doLearn, s, int(term))
		}
	}
	if c.mutation == CleanNowLater && ld.found != 0 || seen.holds[s] != 0 && c.open(w, s, term, seen.holds[s]) == 0 && ld.asOf&^ld.view == 0 {
		add(doClean, s, int(term))
	}
}

// watches tells whether anybody needs closed revisions.
func (c *Cluster) watches() bool {
	for _, op := range c.Ops {
		if op.Kind == ReplicaRead {
			return true
		}
	}
	return c.Watch
}
