package world

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/statespace"
)

// kind of an action.
type kind uint8

const (
	doBegin   kind = iota // a: client
	doExecute             // a: message; the shard's leader does what it is asked for
	doGrant               // a: message; the anchor's leader has evaluated the prepare, which has its locks, and is not in the log
	doReply               // a: message; its answer arrives
	doTimeout             // a: message to a shard that is lost
	doNumber              // a: transaction; it gets a revision
	doTick                // a: term of a coordinator
	doRecover             // a: shard; its recovery looks at what is undecided
	doStop                // a: term of a coordinator that hears that it is deposed
	// Faults, and what may never happen.
	doLoseAsk   // a: message; who asked hears nothing. It may come late
	doLoseReply // a: message
	doDouble    // a: message that will come again
	doLate      // a: place
	doFailover  // a: shard
	doLose      // a: shard, for ever
	doCancel    // a: client
	doDeadline  // a: term of a coordinator; the time of its clients is over
	doRefuse    // a: transaction; no revision for it
)

type action struct {
	kind kind
	a    uint8
}

func (c *Cluster) actions(w world) (all []action) {
	all = c.natural(&w)
	add := func(k kind, a int) { all = append(all, action{kind: k, a: uint8(a)}) }
	for i, m := range w.messages {
		if m.from == 0 || i > 0 && m == w.messages[i-1] {
			continue
		}
		silent := !c.Silent || c.asks.keys[m.ask].kind == kv.KindTxnState
		if w.losses < c.Losses && silent && m.reply == 0 {
			add(doLoseAsk, i)
		}
		if w.losses < c.Losses && silent && m.reply != 0 && !c.Silent {
			add(doLoseReply, i)
		}
		if w.doubles < c.Doubles && m.reply == 0 && c.room(&w) {
			add(doDouble, i)
		}
	}
	for i, a := range w.late {
		if a != 0 && !w.lost[c.asks.keys[a].shard-1] && c.free(&w, a) {
			add(doLate, i)
		}
	}
	for s := range c.Shards {
		if w.failovers[s] < c.Failovers[s] && !w.lost[s] && w.term[s] < maxTerms-1 {
			add(doFailover, s)
		}
		if w.lostShards < c.Lost && !w.lost[s] && (c.Dies == 0 || int(c.Dies) == s+1) {
			add(doLose, s)
		}
	}
	for i := range c.Clients {
		if k := w.clients[i]; k.status == waits && w.cancels < c.Cancels && w.coordinators[k.term].exists && !w.coordinators[k.term].stopped {
			add(doCancel, i)
		}
	}
	for term, k := range w.coordinators {
		if k.exists && !k.stopped && w.deadlines < c.Deadlines {
			add(doDeadline, term)
		}
	}
	for i, n := range w.numbers {
		if n != 0 && w.refused < c.Refusals {
			add(doRefuse, i)
		}
	}
	return all
}

// natural lists what goes on without faults.
func (c *Cluster) natural(w *world) (all []action) {
	add := func(k kind, a int) { all = append(all, action{kind: k, a: uint8(a)}) }
	for i, m := range w.messages {
		switch {
		case m.from == 0 || i > 0 && m == w.messages[i-1]:
		case m.reply != 0:
			add(doReply, i)
		case w.lost[c.asks.keys[m.ask].shard-1]:
			add(doTimeout, i)
		case c.free(w, m.ask):
			add(doExecute, i)
			if c.grants(w, m) {
				add(doGrant, i)
			}
		}
	}
	for i, n := range w.numbers {
		if n != 0 {
			add(doNumber, i)
		}
	}
	for i := range c.Clients {
		if w.clients[i].status == unborn && w.coordinators[w.term[0]].exists {
			add(doBegin, i)
		}
	}
	for term, k := range w.coordinators {
		if !k.exists || k.stopped {
			continue
		}
		add(doTick, term)
		if uint8(term) < w.term[0] {
			add(doStop, term)
		}
	}
	for s := range c.Shards {
		if w.recoveries[s][w.term[s]].exists && c.mutation != NoRecovery && (c.Recoverers == 0 || c.Recoverers>>s&1 == 1) {
			add(doRecover, s)
		}
	}
	return all
}

// grants tells whether the anchor's leader may evaluate a question before it is in the log, and say so.
func (c *Cluster) grants(w *world, m message) bool {
	k := c.asks.keys[m.ask]
	if k.kind != kv.KindTxnPrepare || k.shard != 1 || m.from != 1+w.term[0] || w.granted != 0 || c.lockedBy(w, 0) >= 0 || w.coordinators[w.term[0]].stopped {
		return false
	}
	at, _ := c.place(k.id)
	r := c.registerOf(w, 0, at)
	return r.MayPrepare() && !c.over(w, 0, k.id) && k.id.Term == uint64(w.term[0])+1
}

// free tells whether a question does not wait for a lock.
func (c *Cluster) free(w *world, ask uint16) bool {
	k := c.asks.keys[ask]
	if k.kind != kv.KindTxnPrepare || !k.patient {
		return true
	}
	at, _ := c.place(k.id)
	holder := c.lockedBy(w, int(k.shard-1))
	return holder < 0 || holder == at || c.registerOf(w, int(k.shard-1), at).Standing != kv.StandingUnknown
}

func (c *Cluster) room(w *world) bool { return w.late[maxLate-1] == 0 }

// later has a question come again some time.
func (w *world) later(ask uint16) {
	for i := range w.late {
		if w.late[i] == 0 {
			w.late[i] = ask
			return
		}
	}
}

// step is statespace.Space.Do.
func (c *Cluster) step(w world, a action) (world, bool, *statespace.Violation) {
	c.do(&w, a)
	if !w.beyond {
		c.judge(&w)
		c.judgeEnd(&w)
	}
	if w.violated != "" && !w.beyond {
		return w, true, &statespace.Violation{Invariant: w.violated, What: w.what}
	}
	return w, !w.beyond, nil
}

func (c *Cluster) do(w *world, a action) {
	i := int(a.a)
	switch a.kind {
	case doBegin:
		term := w.term[0]
		w.clients[i] = client{status: waits, term: term}
		w.clients[i].call = c.coordinate(w, term, input{verb: verbBegin, client: a.a}).call
	case doExecute:
		w.messages[i].reply = c.execute(w, w.messages[i].ask)
		w.tidy()
	case doGrant:
		m := w.messages[i]
		at, _ := c.place(c.asks.keys[m.ask].id)
		w.granted = uint8(at) + 1
		c.coordinate(w, m.from-1, input{verb: verbGranted, ask: m.ask})
	case doReply:
		m := w.drop(i)
		c.deliver(w, m.from, m.ask, m.reply)
	case doTimeout:
		m := w.drop(i)
		c.deliver(w, m.from, m.ask, c.failure(kv.ErrTimeout))
	case doNumber:
		c.number(w, i)
	case doTick:
		c.coordinate(w, a.a, input{verb: verbTick})
	case doRecover:
		c.tick(w, i)
	case doStop:
		w.coordinators[i].stopped = true
		c.coordinate(w, a.a, input{verb: verbStop})
		for n := range w.numbers {
			if id := c.id(n); id.Term == uint64(i)+1 {
				w.numbers[n] = 0
			}
		}
	default:
		c.doFault(w, a)
	}
}

func (c *Cluster) failure(err *kv.Error) uint16 {
	return c.replies.number(reply{code: err.Code}, struct{}{})
}

// number gives a transaction its revision.
func (c *Cluster) number(w *world, at int) {
	id := c.id(at)
	writers := w.numbers[at] - 1
	w.numbers[at] = 0
	if c.mutation == OmitWriter && writers != 0 {
		writers &= writers - 1
	}
	if want := c.Clients[w.owners[at]-1].Writes; writers != want {
		c.violate(w, Atomic, "the revision of %d.%d is for shards %03b, and %03b write", id.Term, id.Number, writers, want)
	}
	w.rev++
	rev := w.rev
	c.coordinate(w, uint8(id.Term-1), input{verb: verbNumbered, txn: uint8(at), rev: rev})
	if c.mutation == AnswerBeforeDecision {
		w.clients[w.owners[at]-1].status = succeeded
		c.judgeSuccess(w, done{client: w.owners[at] - 1, rev: kv.Revision(rev)})
	}
}

func (c *Cluster) doFault(w *world, a action) {
	i := int(a.a)
	switch a.kind {
	case doLoseAsk:
		w.losses++
		m := w.drop(i)
		w.later(m.ask)
		c.revoke(w, m.ask)
		if c.mutation == LossIsResolved && c.asks.keys[m.ask].kind == kv.KindTxnResolve {
			c.deliver(w, m.from, m.ask, c.replies.number(reply{standing: kv.StandingResolved}, struct{}{}))
			break
		}
		c.deliver(w, m.from, m.ask, c.failure(c.loss(m.ask)))
	case doLoseReply:
		w.losses++
		m := w.drop(i)
		c.deliver(w, m.from, m.ask, c.failure(c.loss(m.ask)))
	case doDouble:
		w.doubles++
		w.later(w.messages[i].ask)
	case doLate:
		ask := w.late[i]
		w.late[i] = 0
		if i == 0 {
			w.late[0], w.late[1] = w.late[1], 0
		}
		c.execute(w, ask)
	case doFailover:
		w.failovers[i]++
		c.failOver(w, i)
	case doLose:
		w.lostShards++
		c.lose(w, i)
	case doCancel:
		w.cancels++
		c.coordinate(w, w.clients[i].term, input{verb: verbCancel, call: w.clients[i].call})
	case doDeadline:
		w.deadlines++
		c.coordinate(w, a.a, input{verb: verbLate})
	case doRefuse:
		w.refused++
		w.numbers[i] = 0
		c.coordinate(w, uint8(c.id(i).Term-1), input{verb: verbNotNumbered, txn: a.a})
	}
}

// loss is what who asks hears of a question without answer.
func (c *Cluster) loss(ask uint16) *kv.Error {
	switch kind := c.asks.keys[ask].kind; {
	case c.mutation == LossIsRefusal && kind == kv.KindTxnDecide:
		return kv.ErrLeaderChanged
	}
	return kv.ErrOutcomeUnknown
}
