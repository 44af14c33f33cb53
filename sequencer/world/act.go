package world

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/statespace"
)

// step is statespace.Space.Do.
func (c *Cluster) step(w world, a action) (world, bool, *statespace.Violation) {
	c.do(&w, a)
	c.judge(&w)
	if w.violated == "" {
		c.judgeRest(&w)
	}
	if w.violated != "" {
		return w, true, &statespace.Violation{Invariant: w.violated, What: w.what}
	}
	return w, true, nil
}

func (c *Cluster) do(w *world, a action) {
	switch i := int(a.a); a.kind {
	case doEvaluate:
		c.evaluate(w, i)
	case doAlloc:
		c.alloc(w, i, a.b)
	case doHear:
		c.hear(w, i, w.nodes[i].up.pop())
	case doHearOld:
		c.sequence(w, &w.former, input{verb: verbHear, node: nodeID(i), frame: w.nodes[i].up.pop()})
	case doGet, doRefuse:
		if a.kind == doRefuse {
			w.refused++
		}
		c.get(w, i, w.nodes[i].down.pop(), a.kind == doRefuse)
	case doPrepare:
		c.prepare(w, i, int(a.b))
	case doMulti:
		c.askMulti(w, i)
	case doResolve:
		c.resolve(w, i, int(a.b))
		c.answerTxn(w, i, int(a.b))
	case doLand:
		c.land(w, i, int(a.b))
		c.answerTxn(w, i, int(a.b))
	case doLateLand:
		w.leaders[a.b][w.txns[i].at[a.b].by].view |= 1 << i
		c.answerTxn(w, i, int(a.b))
	case doAbort:
		c.abandon(w, i)
	case doCommit:
		c.apply(w, c.Ops[i].Shard, i)
		w.answered = max(w.answered, w.ops[i].rev)
	case doLateCommit:
		w.leaders[c.Ops[i].Shard][w.ops[i].by].view |= 1 << i
		w.answered = max(w.answered, w.ops[i].rev)
	case doAsk:
		c.beginRead(w, i)
	case doServe:
		c.serve(w, i, a.b)
	case doReport:
		c.report(w, i, a.b)
	case doFrontier:
		w.asking = true
		w.doubted |= c.raisesDoubts(w)
		c.ask(w, gateway, input{verb: verbFrontier, number: uint64(c.Shards)})
	case doLearnNow:
		c.ask(w, c.nodeOf(i, a.b), input{verb: verbRead})
	case doLearn:
		c.learn(w, i, a.b)
	case doClean:
		c.clean(w, i, a.b)
	default:
		c.doRare(w, a)
	}
}

func (c *Cluster) doRare(w *world, a action) {
	switch i := int(a.a); a.kind {
	case doLimit:
		w.limit, w.pending = w.pending, 0
		c.sequence(w, &w.sequencer, input{verb: verbCommitted, number: uint64(w.limit)})
	case doRetarget:
		c.retarget(w, i)
	case doPatience:
		w.nodes[i].lost = false
		c.ask(w, i, input{verb: verbTick})
	case doLate:
		l := w.late[i]
		w.late[i] = late{}
		c.arriveLate(w, l)
	case doFailover:
		c.failover(w, i, a.b)
	case doSeqFail:
		w.seqFailed++
		if i == 1 {
			w.limit = w.pending
		}
		if c.mutation == ExpiredSequencerAllocates || c.mutation == ExpiredSequencerReads {
			w.former = w.sequencer
		}
		c.newSequencer(w)
	case doHandOver:
		w.handed++
		w.handing = 1
		c.sequence(w, &w.sequencer, input{verb: verbHandOver})
	case doTransfer:
		before := c.sequencers.View(w.sequencer).next
		c.newSequencer(w)
		if after := c.sequencers.View(w.sequencer).next; after != before {
			c.violate(w, Dense, "a planned hand-over changed the next revision from %d to %d", before, after)
		}
	case doGoOn:
		w.handing = 0
		c.sequence(w, &w.sequencer, input{verb: verbHandOverFailed})
	case doLoseUp:
		w.losses++
		w.nodes[i].lost = true
		w.nodes[i].up.pop()
	case doLoseDown:
		c.loseDown(w, i)
	case doBreak:
		w.breaks++
		c.cut(w, i)
		c.ask(w, i, input{verb: verbBroken})
		c.askAgain(w, i)
	case doGetSecond:
		c.direct(w, i, w.nodes[i].down.frames[1])
	case doTold:
		_, last := c.probe(w)
		c.ask(w, c.nodeOf(i, a.b), input{verb: verbVoided, shard: shardID(i), number: uint64(last[i])})
	case doAbandon:
		w.aborts++
		c.abandon(w, i)
	case doGiveUp:
		w.txns[i].at[a.b].stage = aborted
		w.leaders[a.b][w.cur[a.b]].view |= 1 << i
	case doVoid:
		w.leaders[c.Ops[i].Shard][w.ops[i].by].gone |= 1 << i
	case doRepropose:
		w.ops[i].by = w.cur[c.Ops[i].Shard]
		c.propose(w, c.Ops[i].Shard, i)
	}
}

func (c *Cluster) newSequencer(w *world) {
	w.epoch++
	w.pending, w.handing = 0, 0
	w.sequencer = c.sequencers.Enter(newSeqMachine(c.Window, sequencer.Epoch(w.epoch), 1, kv.Revision(w.limit)))
	c.sequence(w, &w.sequencer, input{verb: verbReady})
}

func (c *Cluster) hear(w *world, n int, f frameID) {
	c.sequence(w, &w.sequencer, input{verb: verbHear, node: nodeID(n), frame: f})
}

// get: a frame reaches a node.
func (c *Cluster) get(w *world, n int, f frameID, refuse bool) {
	e := c.ask(w, n, input{verb: verbGet, frame: f})
	if n == gateway {
		c.told(w, &e)
		return
	}
	for _, run := range e.numbers {
		c.number(w, shardIndex(run.Shard), c.termOf(n), uint8(run.Batch), uint8(run.First), run.N, refuse)
	}
	for _, r := range e.revisions {
		c.revise(w, n, uint8(r.Ticket), uint8(r.Revision))
	}
}

// arriveLate: a frame of an older session.
func (c *Cluster) arriveLate(w *world, l late) {
	switch {
	case l.up == 0 && c.mutation == LateReplyAccepted:
		c.direct(w, int(l.node), l.frame)
	case l.up == 0:
		c.get(w, int(l.node), l.frame, false)
	case c.mutation == CleanOfOlderEpoch:
		c.forgeClean(w, l.frame)
	default:
		c.hear(w, int(l.node), l.frame)
	}
}

// direct hands the numbers of a frame to the shard's leader although the asker would not. Mutations do that.
func (c *Cluster) direct(w *world, n int, f frameID) {
	if n == gateway {
		return
	}
	for _, run := range c.frames.reply(f).Numbers {
		c.number(w, shardIndex(run.Shard), c.termOf(n), uint8(run.Batch), uint8(run.First), run.N, false)
	}
}

// forgeClean makes a Clean that was meant for an earlier sequencer count.
func (c *Cluster) forgeClean(w *world, f frameID) {
	q := c.frames.request(f)
	if len(q.Cleans) == 0 {
		return
	}
	q.Session, q.Counter, q.Epoch, q.Allocs, q.Multis, q.Frontier = sequencer.Session{Instance: 98, Number: 1}, 1, 0, nil, nil, nil
	q.Cleans[0].Epoch = sequencer.Epoch(w.epoch)
	c.sequence(w, &w.sequencer, input{verb: verbHear, node: prober + 1, frame: c.frames.number(sequencer.AppendRequest(nil, q))})
}

// loseDown: with mutation GapIgnored nobody minds the gap, and the frame behind it is taken.
func (c *Cluster) loseDown(w *world, n int) {
	at := &w.nodes[n]
	w.losses++
	at.lost = true
	at.down.pop()
	if c.mutation == GapIgnored && at.down.length > 0 {
		c.direct(w, n, at.down.frames[0])
	}
}

// learn does the first two steps of a Clean: now, then the confirmation.
func (c *Cluster) learn(w *world, s int, term uint8) {
	n := c.nodeOf(s, term)
	if c.mutation == CleanNowLater {
		w.leaders[s][term].found = 1 + c.top(w, s, term)
		return
	}
	w.leaders[s][term].asOf = c.pending(w, s, term)
	c.ask(w, n, input{verb: verbLearn, shard: shardID(s)})
}

// clean does the third step: it is called if nothing is open that was issued up to what was learnt, and all is resolved that was prepared then. What is prepared
// since gets a revision above that.
func (c *Cluster) clean(w *world, s int, term uint8) {
	n, ld := c.nodeOf(s, term), &w.leaders[s][term]
	top := c.top(w, s, term)
	switch c.mutation {
	case CleanNowLater:
		top, ld.found = ld.found-1, 0
		c.ask(w, n, input{verb: verbLearn, shard: shardID(s)})
	case CleanAsOfLater: // than what was open was compared with
		c.ask(w, n, input{verb: verbLearn, shard: shardID(s)})
	case CleanTopIsClosed:
		top = c.closed(w, s, term)
	}
	ld.asOf = 0
	c.ask(w, n, input{verb: verbClean, shard: shardID(s), top: kv.Revision(top)})
}
