package sequencer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Asker asks the sequencer on behalf of one node. It is not safe for concurrent use.
type Asker struct {
	options AskerOptions
	now     time.Duration
	talk    talk
	led     map[kv.ShardID]*led
	// outstanding is how many batches of all shards are unanswered.
	outstanding int
	// unsent are shards with batches that are still to be asked for in this session. Invariant: each once, namely those with led.listed.
	unsent []kv.ShardID
	multis multis
	cleans []Clean // to be sent in this session

	reads     reads
	frontiers frontiers
	quiet     quiet
	ready     AskerReady
}

// talk is the session from this end.
type talk struct {
	with   kv.NodeID // 0: nobody knows where the sequencer is
	number uint64    // of the session
	epoch  Epoch     // 0: nothing has been heard in this session
	// sent and heard count the frames of the session in each direction; reached is the last of ours that theirs say they came after.
	sent, heard, reached uint64
	now                  kv.Revision // the last that was told in this session
}

// led is a shard that this node leads.
type led struct {
	leadership Leadership
	generation Generation
	last       Batch   // the last that was asked for
	batches    []batch // unanswered, in the order of evaluation
	asked      int     // how many of them are asked for in this session
	listed     bool    // in Asker.unsent
	cleaned    Epoch   // in which the shard has been called clean since there was a reason to
	// voided is the highest revision that is known to be void since then; 0: none is.
	voided kv.Revision
}

type batch struct {
	number Batch
	n      uint64
	bounds kv.Bounds
}

// answeredBy tells whether the numbers are those that were asked for, or none, if they would be beyond the bounds. How far history is compacted only the
// sequencer knows.
func (b *batch) answeredBy(n *Numbers) bool {
	return b.number == n.Batch && (b.n == n.N || n.N == 0 && (b.tooHigh(n.First) || b.bounds.Compacted != 0)) && (n.Compacted == 0 || n.Compacted == b.bounds.Compacted)
}

func (b *batch) tooHigh(first kv.Revision) bool { return !b.bounds.Hold(first, 0) }

// AskerReady is work for the shell.
type AskerReady struct {
	// Frame, if not nil, is for the node To. If it cannot be sent, call Broken.
	Frame *Request
	To    kv.NodeID
	// Numbers have arrived, for each leadership in the order in which it asked. They must be proposed in that order, and in this leadership or
	// never (rule 19).
	Numbers []Numbers
	// Revisions have arrived for transactions.
	Revisions []MultiRevision
	// Told: something was heard. Reads with a ticket up to Served are at Now, or later (rule 17).
	Told   bool
	Served Ticket
	Now    kv.Revision
	Notice
	// Frontier answers what Asker.Frontier asked for.
	Frontier *Frontier
	// Unclean are shards led here for which WantsClean has become true.
	Unclean []kv.ShardID
	// HandOver are shards led here that should be led where the sequencer can be reached; it cannot from here.
	HandOver []kv.ShardID
}

// NewAsker returns the asker of a process.
func NewAsker(options AskerOptions) (*Asker, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Asker{options: options, talk: talk{number: 1}, led: make(map[kv.ShardID]*led), frontiers: newFrontiers()}, nil
}

// Target says on which node the sequencer is, as far as this node knows; 0: nobody knows. Say it again when the same node leads in another term.
func (a *Asker) Target(node kv.NodeID) {
	a.hangUp()
	a.talk.with = node
}

// Broken: frames to or from the node may have been lost.
func (a *Asker) Broken(node kv.NodeID) {
	if node == a.talk.with {
		a.hangUp()
	}
}

// Lead says that this node leads the shard from now on. What was asked for by an earlier leadership is asked for no more, and replies to it
// are ignored (rule 11).
func (a *Asker) Lead(id kv.ShardID, leadership Leadership, generation Generation) {
	a.StepDown(id)
	a.led[id] = &led{leadership: leadership, generation: generation}
	a.wantClean(id)
}

// StepDown says that this node does not lead the shard any more.
func (a *Asker) StepDown(id kv.ShardID) {
	l := a.led[id]
	if l == nil {
		return
	}
	delete(a.led, id)
	a.outstanding -= len(l.batches)
	if l.listed {
		a.unsent = slices.DeleteFunc(a.unsent, func(other kv.ShardID) bool { return other == id })
	}
	a.cleans = slices.DeleteFunc(a.cleans, func(c Clean) bool { return c.Shard == id })
	a.ready.Numbers = slices.DeleteFunc(a.ready.Numbers, func(n Numbers) bool { return n.Shard == id })
	a.ready.Unclean = slices.DeleteFunc(a.ready.Unclean, func(other kv.ShardID) bool { return other == id })
	a.attend()
}

// Alloc asks for n numbers for a shard led here: for all that was evaluated since the last call (rule 32). If the bounds do not hold none is wanted; the answer
// then has none. It is refused while too much is unanswered.
func (a *Asker) Alloc(id kv.ShardID, n uint64, bounds kv.Bounds) (Batch, bool) {
	l := a.led[id]
	if l == nil || n > MaxBatchNumbers || len(l.batches) >= MaxBatches || a.outstanding >= MaxWaiting {
		return 0, false
	}
	l.last++
	l.batches = append(l.batches, batch{l.last, n, bounds})
	a.outstanding++
	a.list(id, l)
	a.attend()
	return l.last, true
}

func (a *Asker) list(id kv.ShardID, l *led) {
	if !l.listed {
		l.listed = true
		a.unsent = append(a.unsent, id)
	}
}

// Step takes a frame from a node. Frames of an older session are ignored (rule 11). After a gap nothing that comes later counts (rule 9). An
// error is for the operator: the frame claims what cannot be, and the session is over.
func (a *Asker) Step(from kv.NodeID, r *Reply) error {
	t := &a.talk
	if from != t.with || r.Session != a.session() || t.sent == 0 {
		return nil
	}
	if r.Over || r.Counter != t.heard+1 || t.epoch != 0 && r.Epoch != t.epoch {
		a.hangUp()
		return nil
	}
	if err := a.judge(r); err != nil {
		a.hangUp()
		return err
	}
	begun := t.epoch == 0
	t.heard, t.epoch, t.reached, t.now = r.Counter, r.Epoch, r.Heard, r.Now
	a.quiet.heard(a.now)
	a.reads.reached(r.Heard)
	a.ready.Told, a.ready.Served, a.ready.Now, a.ready.Notice = true, a.reads.served, r.Now, r.Notice
	if begun {
		for _, id := range a.leads() {
			a.wantClean(id)
		}
	}
	for _, n := range r.Numbers {
		a.number(n)
	}
	a.ready.Revisions = a.multis.answered(r.Revisions, a.ready.Revisions)
	for _, d := range r.Doubts {
		a.Voided(d.Shard, d.Last) // or it has taken effect; in any case a word as of it clears it
	}
	if len(r.Frontier) > 0 {
		a.ready.Frontier = a.frontiers.answered(r)
		a.seeUnclean(r.Frontier)
	}
	a.attend()
	return nil
}

// judge looks at a whole frame before anything of it counts.
func (a *Asker) judge(r *Reply) error {
	t := &a.talk
	if r.Heard > t.sent || r.Heard < t.reached || r.Now < t.now {
		return fmt.Errorf("%w: frame %d of %d sent, revision %d after %d", errClaims, r.Heard, t.sent, r.Now, t.now)
	}
	if len(r.Frontier) > 0 && len(r.Frontier) != len(a.frontiers.asked) {
		return fmt.Errorf("%w: %d shards, asked for %d", errClaims, len(r.Frontier), len(a.frontiers.asked))
	}
	if err := a.multis.judge(r.Revisions, t.now, r.Now); err != nil {
		return err
	}
	for _, d := range r.Doubts {
		if d.Last > r.Now {
			return fmt.Errorf("%w: shard %d has revision %d after %d", errClaims, d.Shard, d.Last, r.Now)
		}
	}
	var answered map[kv.ShardID]int // by this frame
	if len(r.Numbers) > 1 {
		answered = make(map[kv.ShardID]int, len(r.Numbers))
	}
	for _, n := range r.Numbers {
		if n.First <= t.now || n.First+kv.Revision(n.N) > r.Now+1 {
			return fmt.Errorf("%w: %d numbers from %d on, between revisions %d and %d", errClaims, n.N, n.First, t.now, r.Now)
		}
		l := a.led[n.Shard]
		if l == nil || n.Leadership != l.leadership {
			continue
		}
		at := answered[n.Shard]
		if at >= l.asked || !l.batches[at].answeredBy(&n) {
			return fmt.Errorf("%w: batch %d of shard %d is not the one that is waited for", errClaims, n.Batch, n.Shard)
		}
		if answered != nil {
			answered[n.Shard]++
		}
	}
	return nil
}

// number takes the answer to the oldest batch of a leadership.
func (a *Asker) number(n Numbers) {
	l := a.led[n.Shard]
	if l == nil || n.Leadership != l.leadership {
		return // of an older leadership (rule 11)
	}
	if n.N > 0 && l.batches[0].tooHigh(n.First) { // a sequencer of before bounds were known
		a.Voided(n.Shard, n.First+kv.Revision(n.N)-1)
		n.First, n.N = n.First+kv.Revision(n.N), 0
	}
	l.batches = l.batches[1:]
	l.asked--
	a.outstanding--
	a.ready.Numbers = append(a.ready.Numbers, n)
}

func (a *Asker) session() Session { return Session{a.options.Instance, a.talk.number} }

// hangUp ends the session. What was asked for and has not arrived is asked for again in the next one, in the order of evaluation (rule 9). The
// sequencer may have numbered it, so every shard is to be called clean again.
func (a *Asker) hangUp() {
	a.talk = talk{with: a.talk.with, number: a.talk.number + 1}
	a.cleans = nil
	a.multis.restart()
	a.reads.restart()
	a.frontiers.restart()
	a.quiet.restart(a.now)
	for _, id := range slices.Sorted(maps.Keys(a.led)) {
		l := a.led[id]
		l.asked, l.cleaned = 0, 0
		if len(l.batches) > 0 {
			a.list(id, l)
		}
	}
	a.attend()
}

// Ready moves the pending work out.
func (a *Asker) Ready() AskerReady {
	r := a.ready
	a.ready = AskerReady{}
	if a.talk.with != 0 && a.due() {
		r.Frame, r.To = a.frame(), a.talk.with
		a.attend()
	}
	return r
}

// due tells whether there is something to be said. Who leads a shard needs a session even if nobody writes: it must be able to call the shard clean.
func (a *Asker) due() bool {
	return len(a.led) > 0 && a.talk.sent == 0 || len(a.unsent) > 0 || a.multis.due() || len(a.cleans) > 0 || a.reads.due() || a.frontiers.due() || a.quiet.ping
}

func (a *Asker) frame() *Request {
	t := &a.talk
	t.sent++
	q := &Request{Session: a.session(), Counter: t.sent, Epoch: t.epoch, Multis: a.multis.ask(), Cleans: a.cleans, Frontier: a.frontiers.ask()}
	a.reads.sent++
	a.cleans, a.quiet.ping = nil, false
	for _, id := range a.unsent {
		l := a.led[id]
		for _, b := range l.batches[l.asked:] {
			q.Allocs = append(q.Allocs, Alloc{Shard: id, Generation: l.generation, Leadership: l.leadership, Batch: b.number, N: b.n, Bounds: b.bounds})
		}
		l.asked, l.listed = len(l.batches), false
	}
	a.unsent = a.unsent[:0]
	return q
}

// Check tells what is wrong with the state; nil: nothing.
func (a *Asker) Check() error {
	outstanding := 0
	unsent := slices.Clone(a.unsent)
	slices.SortFunc(unsent, cmp.Compare[kv.ShardID])
	for id, l := range a.led {
		outstanding += len(l.batches)
		if _, listed := slices.BinarySearch(unsent, id); listed != l.listed || listed != (l.asked < len(l.batches)) {
			return fmt.Errorf("sequencer: of shard %d, %d of %d batches are asked for; listed: %v, %v", id, l.asked, len(l.batches), l.listed, listed)
		}
		for i, b := range l.batches {
			if want := l.last - Batch(len(l.batches)-1-i); b.number != want {
				return fmt.Errorf("sequencer: shard %d waits for batch %d, not %d", id, b.number, want)
			}
		}
	}
	if outstanding != a.outstanding || len(unsent) != len(slices.Compact(unsent)) {
		return fmt.Errorf("sequencer: %d batches are unanswered, not %d; shards to be sent: %v", outstanding, a.outstanding, unsent)
	}
	if err := a.multis.check(); err != nil {
		return err
	}
	if a.talk.heard > 0 && a.talk.epoch == 0 || a.talk.reached > a.talk.sent {
		return fmt.Errorf("sequencer: heard %d frames of epoch %d, after %d of %d", a.talk.heard, a.talk.epoch, a.talk.reached, a.talk.sent)
	}
	return nil
}
