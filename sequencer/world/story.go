package world

import (
	"fmt"

	"github.com/quoratedb/quorate/sequencer"
)

// What happened, for people.

func (c *Cluster) name(o int) string {
	what := "read"
	switch c.Ops[o].Kind {
	case Write:
		what = "write"
	case Txn:
		what = "transaction"
	}
	return fmt.Sprintf("%s %d", what, o+1)
}

func (c *Cluster) leaderName(w *world, s int, term uint8) string {
	text := fmt.Sprintf("leader %d/%d", shardID(s), term+1)
	if term < w.cur[s] {
		text += " (deposed)"
	}
	return text
}

func (c *Cluster) nodeName(w *world, n int) string {
	if n == gateway {
		return "the gateway"
	}
	term := c.termOf(n)
	if c.Together {
		return fmt.Sprintf("the node with the leaders of term %d", term+1)
	}
	return c.leaderName(w, (n-1)/maxTerms, term)
}

// story tells a way. "leader 2/1" leads shard 2 in term 1.
func (c *Cluster) story(way []action) (lines []string) {
	w := c.begin()
	for i, a := range way {
		text := c.describe(&w, a)
		before := w
		c.do(&w, a)
		lines = append(lines, fmt.Sprintf("%2d. %s%s", i+1, text, c.consequences(&before, &w)))
	}
	return lines
}

func (c *Cluster) describe(w *world, a action) string {
	i := int(a.a)
	leader := func() string { return c.leaderName(w, i, a.b) }
	switch a.kind {
	case doEvaluate:
		return fmt.Sprintf("%s evaluates %s", c.leaderName(w, c.Ops[i].Shard, w.cur[c.Ops[i].Shard]), c.name(i))
	case doAlloc:
		return leader() + " asks for numbers for all that it has evaluated"
	case doHear, doHearOld:
		text := "the sequencer gets"
		if a.kind == doHearOld {
			text = "the sequencer before, whose lease is over, gets"
		}
		return fmt.Sprintf("%s a frame of %s: %s", text, c.nodeName(w, i), requestText(c.frames.request(w.nodes[i].up.frames[0])))
	case doGet:
		return fmt.Sprintf("%s gets a frame: %s", c.nodeName(w, i), replyText(c.frames.reply(w.nodes[i].down.frames[0])))
	case doRefuse:
		return fmt.Sprintf("FAULT: %s gets a frame: %s; its core refuses the proposal", c.nodeName(w, i), replyText(c.frames.reply(w.nodes[i].down.frames[0])))
	case doCommit:
		return fmt.Sprintf("%s at %d is committed and answered", c.name(i), w.ops[i].rev)
	case doLateCommit:
		return fmt.Sprintf("%s learns that %s at %d was committed, and answers it", c.leaderName(w, c.Ops[i].Shard, w.ops[i].by), c.name(i), w.ops[i].rev)
	case doAsk:
		return fmt.Sprintf("%s of shard %d arrives at the gateway", c.name(i), shardID(c.Ops[i].Shard))
	case doServe:
		return fmt.Sprintf("%s is served at %d by %s", c.name(i), w.ops[i].rev, c.leaderName(w, c.Ops[i].Shard, a.b))
	case doReport:
		return fmt.Sprintf("%s tells the gateway that shard %d is closed at %d", leader(), shardID(i), c.top(w, i, a.b))
	case doFrontier:
		return "the gateway asks for the frontier"
	case doLearnNow:
		return leader() + " asks for now"
	case doLearn:
		if c.mutation == CleanNowLater {
			return leader() + " finds nothing open"
		}
		return leader() + " learns now, and makes sure that it leads"
	case doTold:
		return leader() + " hears that the frontier is above its closed revision"
	case doPrepare:
		return fmt.Sprintf("%s prepares %s", c.leaderName(w, int(a.b), w.cur[a.b]), c.name(i))
	case doMulti:
		return fmt.Sprintf("%s asks for the revision of %s", c.leaderName(w, c.Ops[i].Shard, w.ops[i].by), c.name(i))
	case doResolve:
		return c.resolution(w, i, int(a.b))
	case doLand:
		if int(a.b) == c.Ops[i].Shard {
			return fmt.Sprintf("COMMIT of %s at %d is in the log of shard %d: it is decided, and answered", c.name(i), w.ops[i].rev, shardID(int(a.b)))
		}
		return fmt.Sprintf("%s takes effect in shard %d", c.name(i), shardID(int(a.b)))
	case doClean:
		if c.mutation == CleanNowLater {
			return leader() + " learns now, and calls its shard clean"
		}
		return leader() + " finds nothing open, and calls its shard clean"
	}
	return c.describeRare(w, a)
}

func (c *Cluster) describeRare(w *world, a action) string {
	i := int(a.a)
	switch a.kind {
	case doLimit:
		return fmt.Sprintf("limit %d is committed", w.pending)
	case doRetarget:
		return fmt.Sprintf("%s hears of the new sequencer", c.nodeName(w, i))
	case doPatience:
		return fmt.Sprintf("%s loses patience", c.nodeName(w, i))
	case doTransfer:
		return fmt.Sprintf("the sequencer hands over, at limit %d", w.limit)
	case doLate:
		if l := w.late[i]; l.up == 1 {
			return fmt.Sprintf("a late frame of %s reaches the sequencer: %s", c.nodeName(w, int(l.node)), requestText(c.frames.request(l.frame)))
		}
		return fmt.Sprintf("a late frame reaches %s: %s", c.nodeName(w, int(w.late[i].node)), replyText(c.frames.reply(w.late[i].frame)))
	case doFailover:
		return fmt.Sprintf("FAULT: %s takes over%s", c.leaderName(w, i, w.cur[i]+1), c.fates(w, i, a.b))
	case doSeqFail:
		return "FAULT: another sequencer takes over"
	case doHandOver:
		return "a hand-over of the sequencer begins"
	case doGoOn:
		return "the hand-over fails; the sequencer goes on"
	case doLoseUp:
		return fmt.Sprintf("FAULT: a frame of %s is lost: %s", c.nodeName(w, i), requestText(c.frames.request(w.nodes[i].up.frames[0])))
	case doLoseDown:
		return fmt.Sprintf("FAULT: a frame to %s is lost: %s", c.nodeName(w, i), replyText(c.frames.reply(w.nodes[i].down.frames[0])))
	case doBreak:
		return fmt.Sprintf("FAULT: the connection of %s breaks", c.nodeName(w, i))
	case doGetSecond:
		return fmt.Sprintf("%s takes a frame before its turn: %s", c.nodeName(w, i), replyText(c.frames.reply(w.nodes[i].down.frames[1])))
	case doLateLand:
		return fmt.Sprintf("%s learns that %s was committed in shard %d", c.leaderName(w, int(a.b), w.txns[i].at[a.b].by), c.name(i), shardID(int(a.b)))
	case doAbort:
		return fmt.Sprintf("%s decides ABORT of %s", c.leaderName(w, c.Ops[i].Shard, w.cur[c.Ops[i].Shard]), c.name(i))
	case doAbandon:
		return fmt.Sprintf("FAULT: %s gives up, and decides ABORT of %s", c.leaderName(w, c.Ops[i].Shard, w.cur[c.Ops[i].Shard]), c.name(i))
	case doGiveUp:
		return fmt.Sprintf("%s has heard of no decision, and takes %s for aborted", c.leaderName(w, int(a.b), w.cur[a.b]), c.name(i))
	case doVoid:
		return fmt.Sprintf("%s takes %s for void, although it is in the log", c.leaderName(w, c.Ops[i].Shard, w.ops[i].by), c.name(i))
	case doRepropose:
		return fmt.Sprintf("%s proposes %s again at %d", c.leaderName(w, c.Ops[i].Shard, w.cur[c.Ops[i].Shard]), c.name(i), w.ops[i].rev)
	}
	return "?"
}

// resolution tells of a decision that is proposed, or acted on.
func (c *Cluster) resolution(w *world, o, s int) string {
	t, leader := &w.txns[o], c.leaderName(w, s, w.cur[s])
	switch {
	case t.says == abort:
		return fmt.Sprintf("%s hears that %s is aborted", leader, c.name(o))
	case s == c.Ops[o].Shard && c.touches(o, s) == Writes:
		return fmt.Sprintf("%s proposes to decide COMMIT of %s at %d", leader, c.name(o), w.ops[o].rev)
	case s == c.Ops[o].Shard:
		return fmt.Sprintf("%s decides COMMIT of %s at %d", leader, c.name(o), w.ops[o].rev)
	}
	return fmt.Sprintf("%s hears that %s is committed at %d, and proposes that", leader, c.name(o), t.rev)
}

// fates tells what becomes of the tail.
func (c *Cluster) fates(w *world, s int, survive uint8) (text string) {
	for o := range c.Ops {
		switch {
		case c.tail(w, s)>>o&1 == 0:
		case survive>>o&1 == 1:
			text += fmt.Sprintf(", keeps %s", c.name(o))
		default:
			text += fmt.Sprintf(", drops %s", c.name(o))
		}
	}
	return text
}

// consequences tells what else has changed.
func (c *Cluster) consequences(before, after *world) (text string) {
	for s := range c.Shards {
		if before.closed[s] != after.closed[s] {
			text += fmt.Sprintf("; shard %d is closed at %d", shardID(s), after.closed[s])
		}
		for o := range c.Ops {
			if at := &after.txns[o].at[s]; at.stage == prepared && before.txns[o].at[s].stage == unknown && at.stamp > 1 {
				text += fmt.Sprintf("; stamp %d", at.stamp)
			}
		}
	}
	if after.pending != 0 && after.pending != before.pending {
		text += fmt.Sprintf("; limit %d is proposed", after.pending)
	}
	return text
}

func requestText(q *sequencer.Request) string {
	text := ""
	for _, a := range q.Allocs {
		text += fmt.Sprintf("Alloc(%d for shard %d, batch %d) ", a.N, a.Shard, a.Batch)
	}
	for _, m := range q.Multis {
		text += "AllocMulti(shards"
		for _, s := range m.Writers {
			text += fmt.Sprintf(" %d", s.Shard)
		}
		text += ") "
	}
	for _, m := range q.Cleans {
		text += fmt.Sprintf("Clean(shard %d, epoch %d, as of %d, top %d) ", m.Shard, m.Epoch, m.AsOf, m.Top)
	}
	if len(q.Frontier) > 0 {
		text += "Frontier "
	}
	if text == "" {
		text = "ReadRev "
	}
	if q.Counter == 1 {
		text = "Hello " + text
	}
	return fmt.Sprintf("%s[%d.%d]", text, q.Session.Number, q.Counter)
}

func replyText(r *sequencer.Reply) string {
	if r.Over {
		return fmt.Sprintf("session %d is over", r.Session.Number)
	}
	text := ""
	for _, n := range r.Numbers {
		text += fmt.Sprintf("shard %d, batch %d: %d from %d on; ", n.Shard, n.Batch, n.N, n.First)
	}
	for _, m := range r.Revisions {
		text += fmt.Sprintf("a transaction has %d; ", m.Revision)
	}
	for _, d := range r.Doubts {
		text += fmt.Sprintf("somebody waits for %d of shard %d; ", d.Last, d.Shard)
	}
	for _, f := range r.Frontier {
		if f.Clean {
			text += fmt.Sprintf("shard %d has %d; ", f.Shard, f.Last)
		} else {
			text += fmt.Sprintf("shard %d is unclean; ", f.Shard)
		}
	}
	return fmt.Sprintf("%snow %d [%d.%d]", text, r.Now, r.Session.Number, r.Counter)
}
