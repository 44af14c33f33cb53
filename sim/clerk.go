package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// A revision that was issued and never takes effect is a gap. Only failures make gaps, so the world follows each revision on its way, from the sequencer to the
// driver that asked for it, and at the end wants to know what became of it.

// reign is one leadership of a shard: its term.
type reign struct {
	shard kv.ShardID
	term  consensus.Term
}

// run is revisions in a row that were issued at once.
type run struct {
	at, asked   time.Duration // when they were issued, and asked for
	first, last kv.Revision
	to          reign
	by          life // whose sequencer it was
	epoch       consensus.Term
	withheld    bool // whoever took them was not given them, for want of a lease
	arrived     bool // whoever asked for them has got them
	// decided: something was decided by other revisions, which the batch was promised. Then the driver begins anew, and does not use these.
	decided bool
}

// life is one process of a node.
type life struct {
	node   *node
	number uint64
}

func (n *node) thisLife() life { return life{n, n.life} }

// over tells whether the process has ended.
func (l life) over() bool { return !l.node.up || l.node.life != l.number }

// led says where a leadership was, and how it ended.
type led struct {
	life
	ended bool
	asked time.Duration // when it last asked for revisions
}

// ledger is what the world knows of revisions that were issued.
type ledger struct {
	runs   []run // ascending
	reigns map[reign]*led
	// births are the first revisions that sequencers may have issued, by epoch.
	births map[consensus.Term]kv.Revision
	// sessions and leaseless are when a node last began a session with a sequencer elsewhere, and last found that it had no lease on the system shard.
	sessions, leaseless map[*node]time.Duration
	// multis are the revisions that coordinators of transactions have got.
	multis map[kv.Revision]numbered
}

func newLedger() *ledger {
	return &ledger{
		reigns: map[reign]*led{}, births: map[consensus.Term]kv.Revision{}, sessions: map[*node]time.Duration{}, leaseless: map[*node]time.Duration{},
		multis: map[kv.Revision]numbered{},
	}
}

// clerk is a node's issuer as its driver sees it, and its driver as the issuer does. It notes who gets which revisions.
type clerk struct {
	*issuer.Issuer
	node  *node
	terms map[consensus.GroupID]consensus.Term // of the shards that are led here
	held  kv.Revision                          // the last revision that was issued, as Hold has said exactly; 0: it has not
	told  uint64                               // alarms, when Hold said so: the batch that it began goes by them
	// arrived are the revisions that came last for the batch of each group, until the next one asks: if the driver is told of other alarms than the batch was
	// decided by before it looks at them, the batch is decided once more.
	arrived map[consensus.GroupID]arrival
	// promised are the revisions that batches were promised and did not get: they ask then.
	promised map[consensus.GroupID]kv.Revision
}

// arrival is what was issued for a batch that was decided by some alarms.
type arrival struct {
	first  kv.Revision
	alarms uint64
}

// Alarms is of driver.Numbers.
func (c *clerk) Alarms() uint64 {
	alarms := c.Issuer.Alarms()
	for _, a := range c.arrived { // each by itself
		if r := c.node.w.ledger.find(a.first); r != nil && a.alarms != alarms {
			r.decided = true
		}
	}
	return alarms
}

func newClerk(n *node) *clerk {
	return &clerk{Issuer: n.issuer, node: n, terms: map[consensus.GroupID]consensus.Term{}, promised: map[consensus.GroupID]kv.Revision{}, arrived: map[consensus.GroupID]arrival{}}
}

// Lead is of driver.Sequencing.
func (c *clerk) Lead(group consensus.GroupID, term consensus.Term, applied, limit kv.Revision) {
	w := c.node.w
	c.terms[group] = term
	w.ledger.reigns[reign{kv.ShardID(group), term}] = &led{life: c.node.thisLife()}
	if group == consensus.GroupID(kv.SystemShard) {
		if applied > limit {
			w.fail(Correctness, "node %d: revision %d is applied in the system shard, the limit is %d (rule 3)", c.node.id, applied, limit)
		}
		w.ledger.births[term] = limit + 1
		w.noteIssued(limit) // which it tells whoever asks for the present
	}
	c.Issuer.Lead(group, term, applied, limit)
}

// StepDown is of driver.Sequencing.
func (c *clerk) StepDown(group consensus.GroupID) {
	if l := c.node.w.ledger.reigns[reign{kv.ShardID(group), c.terms[group]}]; l != nil {
		l.ended = true
	}
	delete(c.terms, group)
	delete(c.promised, group)
	c.Issuer.StepDown(group)
}

// Hold is of driver.Numbers.
func (c *clerk) Hold() (present kv.Present, exact bool) {
	present, exact = c.Issuer.Hold()
	if c.held = 0; exact {
		c.held = present.Revision
	}
	c.told = c.Alarms()
	return present, exact
}

// Take is of driver.Numbers.
func (c *clerk) Take(group consensus.GroupID, n int) (first, compacted kv.Revision, issued bool) {
	first, compacted, issued = c.Issuer.Take(group, n)
	if delete(c.promised, group); !issued {
		c.promised[group] = c.held + 1
	}
	to := reign{kv.ShardID(group), c.terms[group]}
	if r := c.node.w.ledger.find(c.held + 1); n > 0 && r != nil && r.to == to && r.by == c.node.thisLife() && !r.arrived {
		r.arrived, r.withheld = issued, !issued
	}
	return first, compacted, issued
}

// Ask is of driver.Numbers.
func (c *clerk) Ask(group consensus.GroupID, term consensus.Term, n int, bounds kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	if l := c.node.w.ledger.reigns[reign{kv.ShardID(group), term}]; l != nil {
		l.asked = c.node.w.now
	}
	promised, alarms := c.promised[group], c.told
	delete(c.promised, group)
	delete(c.arrived, group)
	c.Issuer.Ask(group, term, n, bounds, func(first, compacted kv.Revision, issued bool) {
		if r := c.node.w.ledger.find(first); n > 0 {
			switch {
			case !issued:
				c.node.w.mark("revisions not issued")
			case r == nil || r.first != first || r.last != first+kv.Revision(n)-1 || r.to != reign{kv.ShardID(group), term}:
				c.node.w.fail(Correctness, "node %d: the leader of shard %d in term %d gets %d revisions on from %d, which were not issued to it", c.node.id, group, term, n, first)
			default:
				r.arrived, r.decided = true, promised != 0 && promised != first
				c.arrived[group] = arrival{first, alarms}
				c.Alarms()
			}
		}
		got(first, compacted, issued)
	})
}

// leases is a node's driver as its issuer sees it.
type leases struct {
	*driver.Driver
	node *node
}

// SystemLeaseHolds is of issuer.Node.
func (l leases) SystemLeaseHolds() bool {
	holds := l.Driver.SystemLeaseHolds()
	if !holds {
		l.node.w.ledger.leaseless[l.node] = l.node.w.now
	}
	return holds
}

// issued notes what the node's sequencer issues.
func (n *node) issued(numbers sequencer.Numbers) {
	w := n.w
	r := run{
		at: w.now, first: numbers.First, last: numbers.First + kv.Revision(numbers.N) - 1, by: n.thisLife(), epoch: n.clerk.terms[consensus.GroupID(kv.SystemShard)],
		to: reign{numbers.Shard, consensus.Term(numbers.Leadership)},
	}
	if r.asked = r.at; w.ledger.reigns[r.to] != nil {
		r.asked = w.ledger.reigns[r.to].asked
	}
	runs := w.ledger.runs
	at, _ := slices.BinarySearchFunc(runs, r.first, func(one run, first kv.Revision) int { return cmp.Compare(one.last, first) })
	if at < len(runs) && runs[at].first <= r.last {
		w.fail(Correctness, "node %d issues revisions %d to %d, and %d to %d were issued before", n.id, r.first, r.last, runs[at].first, runs[at].last)
	}
	if birth := w.ledger.births[r.epoch]; r.first < birth {
		w.fail(Correctness, "node %d issues revision %d in epoch %d, which begins with %d", n.id, r.first, r.epoch, birth)
	}
	w.ledger.runs = slices.Insert(runs, at, r)
	w.noteIssued(r.last)
}

// find is the run of a revision; nil: it was never issued.
func (l *ledger) find(rev kv.Revision) *run {
	at, _ := slices.BinarySearchFunc(l.runs, rev, func(one run, rev kv.Revision) int { return cmp.Compare(one.last, rev) })
	if at < len(l.runs) && l.runs[at].first <= rev {
		return &l.runs[at]
	}
	return nil
}

// openFor is how long after it was issued a revision may be on its way when a run ends.
const openFor = time.Second

// explainGaps wants to know of every revision that did not take effect what is to blame.
func (w *world) explainGaps() {
	took := map[kv.Revision]bool{}
	last := map[reign]kv.Revision{} // that took effect of what a leadership got
	for _, g := range w.groups {
		for i := range g.truth.events {
			rev := g.truth.events[i].KV.ModRevision
			r := w.ledger.find(rev)
			if of := w.ledger.multis[rev].writers; r == nil || r.to.shard != g.id && !slices.Contains(of, g.id) {
				w.fail(Correctness, "revision %d took effect in shard %d, and was not issued to it", rev, g.id)
				return
			}
			took[rev] = true
			last[r.to] = max(last[r.to], rev)
		}
	}
	births := slices.Sorted(maps.Values(w.ledger.births))
	for rev := kv.Revision(2); rev <= w.groups[0].history.Final; rev++ {
		if took[rev] {
			continue
		}
		r := w.ledger.find(rev)
		why := ""
		switch {
		case r != nil:
			why = w.blame(r, rev < last[r.to])
		case len(births) > 0 && rev < births[len(births)-1]:
			why = whyBirth
		}
		changed := (w.plan.Users || w.marks["fence"] > 0) && (why == whyDecided || why == whyTransaction) // what was under way then begins anew, or is refused
		if why == "" || len(w.plan.Faults) == 0 && w.marks["crash"] == 0 && why != whyOpen && !changed {
			w.fail(Correctness, "revision %d never took effect, and no failure explains it (%q): %s", rev, why, w.describeRun(r))
			return
		}
		w.marks["gap: "+why]++ // no mark: only stores of several shards have them
	}
}

// What is to blame for a gap. whyOpen blames nobody.
const (
	whyBirth          = "another sequencer begins above the limit"
	whyOpen           = "on its way at the end"
	whyDecided        = "decided by other revisions or other alarms"
	whyLedNoMore      = "the leadership ended"
	whyNoLease        = "no lease"
	whyNoSequencer    = "the sequencer ended"
	whyNoLeaseForLong = "no lease, for too long"
	whySession        = "the session broke"
	whyTransaction    = "the transaction was aborted"
)

// blame says why a revision of the run did not take effect; "": nothing explains it. passed: a later one of the same leadership did.
func (w *world) blame(r *run, passed bool) string {
	to, epoch := w.ledger.reigns[r.to], w.ledger.reigns[reign{kv.SystemShard, r.epoch}]
	gone := to == nil || to.ended || to.over()
	switch {
	case r.to == reign{}:
		return w.blameTransaction(r)
	case r.decided:
		return whyDecided
	case r.arrived && w.plan.Users && w.users.changedSince(r.asked):
		return whyDecided // all that the batch had was allowed by an older state, and refused
	case r.arrived && passed:
		return "" // they take effect in their order, or end with the leadership (rule 28)
	case gone:
		return whyLedNoMore
	case w.now-r.at < openFor:
		return whyOpen
	case r.arrived:
		return ""
	case r.withheld:
		return whyNoLease
	case epoch == nil || epoch.ended || r.by.over():
		return whyNoSequencer
	case to.node == r.by.node && w.ledger.leaseless[r.by.node] >= r.at:
		return whyNoLeaseForLong
	case to.node != r.by.node && w.ledger.sessions[to.node] >= r.asked:
		return whySession
	}
	return ""
}

// blameTransaction is blame for the revision of a transaction over several shards.
func (w *world) blameTransaction(r *run) string {
	of, numbered := w.ledger.multis[r.first]
	switch {
	case w.now-r.at < openFor:
		return whyOpen
	case !numbered:
		return whySession
	case of.by.over():
		return whyLedNoMore
	}
	return whyTransaction
}

// describeRun says what is known of a run.
func (w *world) describeRun(r *run) string {
	if r == nil {
		return "it was never issued"
	}
	return fmt.Sprintf("%d to %d were issued at %s by node %d in epoch %d to the leader of shard %d in term %d; arrived %v, withheld %v", r.first, r.last, seconds(r.at),
		r.by.node.id, r.epoch, r.to.shard, r.to.term, r.arrived, r.withheld)
}
