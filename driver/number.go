package driver

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Numbers gives the groups of a node their revisions, if groups are shards of one store. It is safe for concurrent use.
type Numbers interface {
	// Hold returns the last revision that was issued to anybody, and up to where history is compacted; or was so at some time. exact: it is so, and nothing
	// is issued to anybody else until Take, which must follow soon.
	Hold() (present kv.Present, exact bool)
	// Take issues n revisions in a row to the group, and returns the first; with n = 0 the one that is issued next. It ends what Hold began. compacted is up to
	// where history was compacted then, or later. false: this node may not issue revisions any more, and has issued none.
	Take(group consensus.GroupID, n int) (first, compacted kv.Revision, issued bool)
	// Ask has whoever may issue revisions issue n in a row to the group, after those that were asked for before in the term; none, if the bounds do not hold
	// when they would be issued. got is called once, from any goroutine, with what Take returns; or never, if the group's leadership here ends before. If it
	// is told that some were issued, compacted is not beyond the bounds. The question may wait for SendAsked.
	Ask(group consensus.GroupID, term consensus.Term, n int, bounds kv.Bounds, got func(first, compacted kv.Revision, issued bool))
	// SendAsked has everything leave at once that was asked for: what several groups ask for in a round is one question.
	SendAsked()
	// Alarms are those that are raised in the system shard, bit n for type n. After Hold that was exact: as of then. When Ask calls got: as of when the
	// revisions were issued, or later. Otherwise as this node was told last.
	Alarms() uint64
}

// numbering is where a replica stands with revisions that come from elsewhere. It evaluates a batch, and does not go on before that has its revisions: answers
// are given when they tell the right ones, and nothing is proposed before.
type numbering struct {
	open    bool
	exact   bool   // what Hold began is not ended
	asked   uint64 // counts what was asked for; what comes for an earlier one is late
	waiting bool   // for what was asked for last
	// first and compacted have come for it; first is 0 before.
	first, compacted kv.Revision
	refused          bool       // none were issued, as the bounds did not hold
	alarms           uint64     // that the open batch is decided by
	decided          []decision // in the open batch; its space is used again
	later            []request  // for the next batch: they depend on revisions that this one does not have yet
	// informed were such, and come first in the next batch: since they came, the sequencer has said how far the store is.
	informed []request
	anew     bool // the leadership is to begin anew, once nothing is in flight
}

// decision is what an evaluation said of a request.
type decision struct {
	request request
	outcome shard.Outcome
}

// isSequenced tells whether revisions come from elsewhere.
func (r *Replica) isSequenced() bool { return r.front.opts.Numbers != nil }

// due tells whether a round has something to do for it.
func (n *numbering) due() bool { return n.first != 0 || n.anew || len(n.informed) > 0 && !n.waiting }

// beginBatch is called before anything is evaluated. wait: there is nothing, or nothing can be for now.
func (r *driven) beginBatch() (wait bool, err error) {
	n := &r.numbering
	switch {
	case !r.isSequenced():
		return false, nil
	case !r.pending() && !r.leaseTick && n.first == 0 && !n.anew && len(n.informed) == 0 && !r.sequenced.behind:
		return true, nil
	case n.anew:
		return r.beginAnew()
	case n.open: // a batch whose revisions have come
		return false, nil
	}
	present, exact := r.driver.opts.Numbers.Hold()
	n.open, n.exact = true, exact
	if err := r.machine.Begin(present, exact); err != nil {
		r.letGo()
		return false, err
	}
	n.alarms = r.toldAlarms()
	r.machine.TellAlarms(n.alarms)
	r.sequenced.behind = false
	return false, nil
}

// toldAlarms are those that the replica has to be told: the system shard knows its own.
func (r *driven) toldAlarms() uint64 {
	if r.system() {
		return 0
	}
	return r.driver.opts.Numbers.Alarms()
}

// letGo ends what Hold began, when the batch comes to nothing.
func (r *driven) letGo() {
	if r.numbering.exact {
		r.numbering.exact = false
		r.driver.opts.Numbers.Take(r.group, 0)
	}
}

// endBatch gives the batch its revisions, or asks for them. numbered: what was evaluated may be proposed.
func (r *driven) endBatch() (numbered bool, err error) {
	n := &r.numbering
	if !r.isSequenced() {
		return true, nil
	}
	need := r.machine.Unnumbered()
	if n.exact {
		n.exact = false
		if first, compacted, issued := r.driver.opts.Numbers.Take(r.group, need); issued {
			return r.number(first, compacted)
		}
	}
	if need == 0 && !n.needsPresent(r.machine) {
		return r.number(0, 0)
	}
	id := n.ask()
	r.driver.asked = true
	r.driver.opts.Numbers.Ask(r.group, r.role.Term, need, r.machine.Bounds(), func(first, compacted kv.Revision, issued bool) {
		r.driver.call(func() { r.numbersCame(id, first, compacted, issued) })
	})
	return false, nil
}

// ask notes that revisions are asked for, and which question that is.
func (n *numbering) ask() (id uint64) {
	n.asked++
	n.waiting = true
	return n.asked
}

// came notes the revisions that came for a question; false: it is not what is waited for.
func (n *numbering) came(id uint64, first, compacted kv.Revision, issued bool) bool {
	if !n.waiting || n.asked != id {
		return false
	}
	n.waiting, n.first, n.compacted, n.refused = false, first, compacted, !issued
	return true
}

// needsPresent tells whether the batch has to know how far the store is, even without revisions of its own. What was asked about transactions over several shards
// does not tell that.
func (n *numbering) needsPresent(m Machine) bool {
	ofTransaction := func(d *decision) bool {
		return d.request.req != nil && d.request.req.Commit != nil && d.outcome.Err == nil
	}
	for i := range n.decided {
		if !ofTransaction(&n.decided[i]) {
			return true
		}
	}
	return len(n.later) > 0 || len(n.decided) > 0 && m.NeedsPresent()
}

// numbersCame has the batch proposed in this round.
func (r *driven) numbersCame(id uint64, first, compacted kv.Revision, issued bool) {
	if r.numbering.came(id, first, compacted, issued) {
		r.driver.markWorking(r)
	}
}

// number decides the requests of the batch, which has its revisions.
func (r *driven) number(first, compacted kv.Revision) (numbered bool, err error) {
	n := &r.numbering
	last := first + kv.Revision(r.machine.Unnumbered()) - 1
	issued := !n.refused
	// If an alarm was raised or cleared before the revisions were issued, what was decided by others is decided once more.
	if err = shard.ErrBegunAnew; issued && (n.first == 0 || n.alarms == r.toldAlarms()) {
		err = r.machine.Number(first, compacted)
	}
	decided := n.decided
	n.open, n.first, n.refused, n.decided = false, 0, false, nil
	if errors.Is(err, shard.ErrBegunAnew) {
		n.anew, r.sequenced.behind = true, true
		if issued && last >= first {
			r.driver.opts.Sequencing.Voided(r.group, last)
		}
		for i := range decided {
			if decided[i].request.bulk {
				r.beside.taking-- // its bulk does not take effect
			}
			r.evaluateAgain(decided[i].request)
		}
		r.evaluateLater()
		n.keep(decided)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range decided {
		if err := r.decide(decided[i].request, decided[i].outcome); err != nil {
			return false, err
		}
	}
	r.evaluateLater()
	n.keep(decided)
	return true, nil
}

// evaluateLater has the requests evaluated in the next batch that could not be in the last one, whose numbers have come.
func (r *driven) evaluateLater() {
	if r.numbering.inform(); len(r.numbering.informed) > 0 {
		r.driver.kick() // if the batch had no effects, nothing else brings the next round
	}
}

// inform has those come first in the next batch that waited for the sequencer to say how far the store is.
func (n *numbering) inform() {
	for _, q := range n.later {
		q.informed = true
		n.informed = append(n.informed, q)
	}
	clear(n.later)
	n.later = n.later[:0]
}

// evaluateAgain queues a request that was evaluated in this leadership, which begins anew: nothing came of it.
func (r *driven) evaluateAgain(q request) {
	if q.granted {
		r.revoke(q)
		return
	}
	q.resp, q.err, q.bulk = nil, nil, false
	r.queue.push(q)
	r.driver.kick()
}

// keptDecisions is up to how many decisions have their space used again: a shard with few writes does not hold what a busy moment took.
const keptDecisions = 64

// keep has the space of decisions that were taken used again.
func (n *numbering) keep(decided []decision) {
	if cap(decided) <= keptDecisions && n.decided == nil {
		clear(decided)
		n.decided = decided[:0]
	}
}

// evaluateInformed evaluates, before anything else of the batch, what waited for the sequencer to say how far the store is.
func (r *driven) evaluateInformed() error {
	n := &r.numbering
	evaluated := 0
	defer func() { n.informed = slices.Delete(n.informed, 0, evaluated) }()
	for evaluated < len(n.informed) && !r.machine.Sealed() && !r.driver.outOfTime() {
		q := n.informed[evaluated]
		evaluated++
		r.driver.evaluated = true
		if err := r.evaluateOne(q); err != nil {
			return err
		}
	}
	return nil
}

// beginAnew begins the leadership anew, if nothing is in flight.
func (r *driven) beginAnew() (wait bool, err error) {
	if r.inflight > 0 {
		return true, nil
	}
	r.numbering.anew = false
	r.beginBesideAnew()
	if err := r.machine.BeginAnew(); err != nil {
		return false, fmt.Errorf("begin the leadership anew: %w", err)
	}
	r.nothingInFlight()
	return r.beginBatch()
}

// refuseNumbering fails what is in a batch without revisions: it had and will have no effect.
func (r *driven) refuseNumbering(err, evaluated error) {
	n := r.numbering
	r.numbering = numbering{asked: n.asked}
	for i := range n.decided {
		q := n.decided[i].request
		q.resp, q.err = nil, evaluated
		r.finish(q, 0)
	}
	r.refuse(slices.Concat(n.informed, n.later), err)
}
