package world

import (
	"fmt"
	"math/bits"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/statespace"
)

// Upbringing is what may happen in a Birth.
type Upbringing struct {
	Name string
	// Paxos: a fail-over keeps any part of the log's tail. Otherwise a beginning of it.
	Paxos  bool
	Window uint64
	// Writes go to the system shard, Remotes are numbers that the leader of another shard asks for.
	Writes, Remotes, Fails, HandOvers, Refusals uint8
}

// The mutations of a Birth.
const (
	IssueAboveLimit       Mutation = "issue-above-limit"       // rule 3
	LimitBeforeBarrier    Mutation = "limit-before-barrier"    // rule 3
	HandOverLastApplied   Mutation = "hand-over-last-applied"  // rule 6
	HandOverGoesOn        Mutation = "hand-over-goes-on"       // rule 6
	ReadRevLastIssued     Mutation = "readrev-last-issued"     // rule 7
	NoChainCheck          Mutation = "no-chain-check"          // rule 7
	ManyBeforeCommit      Mutation = "many-before-commit"      // rule 8
	UnboundedWhilePending Mutation = "unbounded-while-pending" // rule 8
)

// Poke breaks a rule inside a sequencer while it is given a frame or taken numbers from.
type Poke struct {
	// Reach changes the sequencer; restore undoes that.
	Reach func(*sequencer.Sequencer) (restore func())
	// AfterReady: restore comes only when Ready has returned.
	AfterReady bool
}

const maxTail = 4

// entry is in the tail of the system shard's log: a write, or a limit.
type entry struct{ rev, limit uint8 }

// birthWorld is one state of a Birth.
type birthWorld struct {
	sequencer statespace.StateID
	epoch     uint8
	node      node
	// last and limit are what has been applied.
	last, limit uint8
	tail        [maxTail]entry
	length      uint8
	want        uint8 // limit that is still to be proposed
	handing     uint8 // as in world
	// What happened.
	reported                              uint8 // the highest revision that a client, a reader or another shard has seen
	local, remote                         uint32
	wrote, asked, failed, handed, refused uint8

	violated statespace.Invariant
	what     string
}

// Birth explores an upbringing.
type Birth struct {
	Upbringing
	mutation   Mutation
	only       statespace.Invariant
	frames     *frames
	sequencers *seqAutomaton
	askers     *askAutomaton
}

// NewBirth returns the space of an upbringing. If only is not empty, no other invariant is judged.
func NewBirth(u Upbringing, m Mutation, only statespace.Invariant, poke Poke) *Birth {
	all := newFrames()
	return &Birth{Upbringing: u, mutation: m, only: only, frames: all, sequencers: newSeqAutomaton(u.Window, 1, all, poke), askers: newAskAutomaton(all)}
}

// Explore visits at most so many states.
func (b *Birth) Explore(limits statespace.Limits) Explored {
	return explore(b.begin(), b.actions, b.step, b.story, limits, b.sequencers, b.askers)
}

func (b *Birth) begin() birthWorld {
	w := birthWorld{last: 1, reported: 1}
	b.newSequencer(&w, 0)
	w.node = node{asker: b.askers.Enter(newAskMachine(nodeID(1))), exists: true, epoch: 1}
	b.ask(&w, input{verb: verbTarget})
	b.ask(&w, input{verb: verbLead, shard: shardID(0), number: 1})
	return w
}

// get: a frame reaches the leader of the other shard, which tells the world.
func (b *Birth) get(w *birthWorld) {
	e := b.ask(w, input{verb: verbGet, frame: w.node.down.pop()})
	if e.told {
		w.reported = max(w.reported, uint8(e.now))
	}
	for _, run := range e.numbers {
		b.use(w, uint8(run.First))
		w.remote |= 1 << run.First
		w.reported = max(w.reported, uint8(run.First))
	}
}

func (b *Birth) use(w *birthWorld, rev uint8) {
	if (w.local|w.remote)>>rev&1 == 1 {
		b.violate(w, Once, "revision %d is used for two writes", rev)
	}
}

// apply is what every replica does with a committed entry. With one shard a write applies only on top of its predecessor (rule 7): a hole in the log
// would be a hole in the count.
func (b *Birth) apply(w *birthWorld, e entry) (effective bool) {
	switch {
	case e.limit != 0:
		w.limit = e.limit
	case w.limit == 0 && e.rev != w.last+1 && b.mutation != NoChainCheck:
		return false
	default:
		b.use(w, e.rev)
		w.local |= 1 << e.rev
		w.last = max(w.last, e.rev)
	}
	return true
}

// commit: the leader applies an entry, and answers its client.
func (b *Birth) commit(w *birthWorld, e entry) {
	if b.apply(w, e) {
		w.reported = max(w.reported, e.rev)
	}
	if e.limit == 0 {
		b.sequence(w, input{verb: verbApplied, number: uint64(w.last)})
		return
	}
	told := e.limit
	if b.mutation == HandOverLastApplied && w.handing != 0 {
		told = uint8(b.sequencers.View(w.sequencer).next - 1) // what the core wanted
	}
	b.sequence(w, input{verb: verbCommitted, number: uint64(told)})
}

// fail: another leader takes over, with these entries of the tail.
func (b *Birth) fail(w *birthWorld, keep uint8) {
	w.failed++
	before := w.limit
	for i, e := range w.tail[:w.length] {
		if keep>>i&1 == 1 {
			b.apply(w, e)
		}
	}
	w.tail, w.length = [maxTail]entry{}, 0
	if b.mutation == LimitBeforeBarrier {
		b.newSequencer(w, before)
	} else {
		b.newSequencer(w, w.limit)
	}
}

func (b *Birth) newSequencer(w *birthWorld, limit uint8) {
	w.epoch++
	w.want, w.handing = 0, 0
	w.sequencer = b.sequencers.Enter(newSeqMachine(b.Window, sequencer.Epoch(w.epoch), kv.Revision(w.last), kv.Revision(limit)))
	b.sequence(w, input{verb: verbReady})
}

func (b *Birth) sequence(w *birthWorld, in input) seqEffect {
	t := b.sequencers.Do(w.sequencer, in)
	w.sequencer = t.After
	if t.Effect.err != "" {
		b.violate(w, CoreCheck, "%s", t.Effect.err)
	}
	for _, r := range t.Effect.replies {
		w.node.down.push(r.frame)
	}
	if t.Effect.limit != 0 {
		w.want = uint8(t.Effect.limit)
	}
	if t.Effect.transfer {
		w.handing = 2
	}
	return t.Effect
}

func (b *Birth) ask(w *birthWorld, in input) askEffect {
	t := b.askers.Do(w.node.asker, in)
	w.node.asker = t.After
	if t.Effect.err != "" {
		b.violate(w, CoreCheck, "%s", t.Effect.err)
	}
	if t.Effect.frame != 0 {
		w.node.up.push(t.Effect.frame)
	}
	return t.Effect
}

func (b *Birth) violate(w *birthWorld, i statespace.Invariant, format string, args ...any) {
	if w.violated == "" && (b.only == "" || b.only == i) {
		w.violated, w.what = i, fmt.Sprintf(format, args...)
	}
}

func (b *Birth) judge(w *birthWorld) {
	next := uint8(b.sequencers.View(w.sequencer).next)
	switch {
	case next <= w.reported:
		b.violate(w, Once, "revision %d was reported, and %d is issued next", w.reported, next)
	case w.reported > max(w.last, w.limit):
		b.violate(w, Once, "revision %d was reported, above the last committed one (%d) and the limit (%d)", w.reported, w.last, w.limit)
	case w.limit == 0 && w.local != 1<<(w.last+1)-4:
		b.violate(w, Dense, "one shard, last revision %d, but a revision below it is missing", w.last)
	}
	for _, a := range b.actions(*w) {
		if !a.kind.isBirthFault() {
			return
		}
	}
	if w.wrote < b.Writes || w.asked < b.Remotes || w.handing != 0 || bits.OnesCount32(w.remote) < int(b.Remotes) {
		b.violate(w, Liveness, "%d of %d writes and %d of %d remote numbers, and nothing can happen any more", w.wrote, b.Writes, bits.OnesCount32(w.remote), b.Remotes)
	}
}
