package world

import (
	"fmt"

	"github.com/quoratedb/quorate/statespace"
)

// status is how far an operation has come.
type status uint8

const (
	unborn   status = iota
	queued          // evaluated by leader by, and not proposed; a read: it waits for its revision
	numbered        // a read: it has its revision
	inTail          // proposed by leader by, not known to be committed
	applied         // committed and applied; a read: answered
	dead            // a proposal of a deposed leader, or lost with its term
	void            // the consensus core refused it, and its leader knows
)

// operation is the state of one operation.
type operation struct {
	status status
	by     uint8 // term of the leader
	place  uint8 // write: in its leader's order of evaluation, from 1 on
	batch  uint8 // write: in which it is asked for; 0: in none yet
	log    uint8 // write: in its leader's order of proposals, from 1 on
	rev    uint8 // write: its revision; read: the one it reads at
	floor  uint8 // the highest revision that any client had been answered when it began
	saw    uint8 // 1 + the write that it read or acted on; 0: none
	wait   uint8 // read: ticket, or ID of the frontier
	last   uint8 // read at a replica: Last of the frontier that told rev; noLast: it was unclean
}

const noLast = 255

// leader is one term of a shard, as that leader knows it.
type leader struct {
	view  uint8 // operations that it has applied; transactions that it knows to be resolved
	prep  uint8 // transactions whose prepare it has applied
	asOf  uint8 // those that were prepared and wrote here when it learnt now, for a Clean
	gone  uint8 // mutation VoidInLog: those it takes for void
	lease bool  // while it is valid no later leader exists (assumption A2)
	spare uint8 // mutation PreLeasedBlocks: a number for the next write
	found uint8 // mutation CleanNowLater: 1 + what was found before now was learnt
}

// queue holds frames in the order in which they were sent.
type queue struct {
	length uint8
	frames [maxQueue]frameID
}

// node is one asker with the connection to the sequencer.
type node struct {
	asker    statespace.StateID
	exists   bool
	epoch    uint8 // of the sequencer it was told about
	lost     bool  // a frame was, and nothing has noticed yet
	up, down queue
}

// late is a frame of an older session.
type late struct {
	node, up uint8 // up: 1
	frame    frameID
}

// world is one state of a Cluster.
type world struct {
	sequencer statespace.StateID
	former    statespace.StateID // the sequencer before, under mutations that let it go on
	epoch     uint8
	limit     uint8 // committed
	pending   uint8 // limit that is proposed; 0: none
	handing   uint8 // 1: a hand-over is under way, 2: leadership may be transferred
	nodes     [maxNodes]node
	late      [maxLate]late
	cur       [maxShards]uint8 // terms
	leaders   [maxShards][maxTerms]leader
	ops       [maxOps]operation
	txns      [maxOps]txn
	// The gateway's watch: up to where it has everything of each shard, and what it has got.
	closed, delivered [maxShards]uint8
	answered          uint8 // the highest revision that any client was answered
	asking            bool  // the gateway has a question under way for the watch
	doubted           uint8 // shards whose leaders the gateway has made hear of a doubt
	// Spent of the setting's bounds.
	seqFailed, handed, losses, breaks, refused, aborts uint8

	violated statespace.Invariant // by the step that led here
	what     string
}

// Cluster explores a setting.
type Cluster struct {
	Setting
	mutation   Mutation
	only       statespace.Invariant
	frames     *frames
	sequencers *seqAutomaton
	askers     *askAutomaton
}

// NewCluster returns the space of a setting. If only is not empty, no other invariant is judged.
func NewCluster(s Setting, m Mutation, only statespace.Invariant, poke Poke) *Cluster {
	all := newFrames()
	return &Cluster{Setting: s, mutation: m, only: only, frames: all, sequencers: newSeqAutomaton(s.Window, s.Shards, all, poke), askers: newAskAutomaton(all)}
}

// Explore visits at most so many states.
func (c *Cluster) Explore(limits statespace.Limits) Explored {
	return explore(c.begin(), c.actions, c.step, c.story, limits, c.sequencers, c.askers)
}

// begin: every shard has its first leader, with a session with the first sequencer, and is clean. The empty store is at revision 1.
func (c *Cluster) begin() world {
	w := world{limit: 1, answered: 1}
	c.newSequencer(&w)
	c.do(&w, action{kind: doLimit})
	c.addNode(&w, gateway)
	c.ask(&w, gateway, input{verb: verbRead})
	for s := range c.Shards {
		w.closed[s] = 1
		w.leaders[s][0].lease = true
		c.lead(&w, s, 0)
	}
	c.calm(&w)
	for s := range c.Shards {
		n := c.nodeOf(s, 0)
		c.ask(&w, n, input{verb: verbLearn, shard: shardID(s)})
		c.ask(&w, n, input{verb: verbClean, shard: shardID(s), top: 1})
	}
	c.calm(&w)
	return w
}

// calm delivers everything.
func (c *Cluster) calm(w *world) {
	for again := true; again; {
		again = false
		for n := range w.nodes {
			if w.nodes[n].up.length > 0 {
				c.hear(w, n, w.nodes[n].up.pop())
				again = true
			}
			if w.nodes[n].down.length > 0 {
				c.get(w, n, w.nodes[n].down.pop(), false)
				again = true
			}
		}
	}
}

func (q *queue) push(f frameID) {
	if int(q.length) == maxQueue {
		panic("world: a queue is too short")
	}
	q.frames[q.length] = f
	q.length++
}

func (q *queue) pop() frameID {
	f := q.frames[0]
	copy(q.frames[:], q.frames[1:])
	q.length--
	q.frames[q.length] = 0
	return f
}

// violate notes the first broken invariant that is to be judged.
func (c *Cluster) violate(w *world, i statespace.Invariant, format string, args ...any) {
	if w.violated == "" && (c.only == "" || c.only == i) {
		w.violated, w.what = i, fmt.Sprintf(format, args...)
	}
}

// addNode starts a process, which knows where the sequencer is.
func (c *Cluster) addNode(w *world, n int) {
	w.nodes[n] = node{asker: c.askers.Enter(newAskMachine(nodeID(n))), exists: true}
	c.retarget(w, n)
}

func (c *Cluster) retarget(w *world, n int) {
	c.cut(w, n)
	w.nodes[n].epoch = w.epoch
	c.ask(w, n, input{verb: verbTarget})
	c.askAgain(w, n)
}

// lead makes a new leader.
func (c *Cluster) lead(w *world, s int, term uint8) {
	n := c.nodeOf(s, term)
	if !w.nodes[n].exists {
		c.addNode(w, n)
	}
	c.ask(w, n, input{verb: verbLead, shard: shardID(s), number: uint64(term) + 1})
}

// cut: what is on the way may still come, but nothing knows when.
func (c *Cluster) cut(w *world, n int) {
	at := &w.nodes[n]
	for _, d := range []struct {
		q  *queue
		up uint8
	}{{&at.up, 1}, {&at.down, 0}} {
		for d.q.length > 0 {
			f := d.q.pop()
			if c.mutation == CleanOfOlderEpoch && (d.up == 0 || len(c.frames.request(f).Cleans) == 0) {
				continue // it is of no interest
			}
			for i := range c.Late {
				if w.late[i].frame == 0 {
					w.late[i] = late{uint8(n), d.up, f}
					break
				}
			}
		}
	}
	at.lost = false
}

// ask gives an asker an input, and does what it wants done.
func (c *Cluster) ask(w *world, n int, in input) askEffect {
	t := c.askers.Do(w.nodes[n].asker, in)
	w.nodes[n].asker = t.After
	e := t.Effect
	if e.err != "" {
		c.violate(w, CoreCheck, "%s", e.err)
	}
	if e.frame != 0 {
		w.nodes[n].up.push(e.frame)
	}
	return e
}

// sequence gives the sequencer an input, and does what it wants done.
func (c *Cluster) sequence(w *world, which *statespace.StateID, in input) seqEffect {
	t := c.sequencers.Do(*which, in)
	*which = t.After
	e := t.Effect
	if e.err != "" {
		c.violate(w, CoreCheck, "%s", e.err)
	}
	for _, r := range e.replies {
		if n := int(r.node) - 1; n < maxNodes && w.nodes[n].exists {
			w.nodes[n].down.push(r.frame)
		}
	}
	if e.limit != 0 && which == &w.sequencer {
		w.pending = uint8(e.limit)
	}
	if e.transfer {
		w.handing = 2
	}
	return e
}

// raisesDoubts are the shards whose leaders a question for the frontier would have hear that somebody waits for the number of a transaction.
func (c *Cluster) raisesDoubts(w *world) (shards uint8) {
	if c.mutation == NeverDoubted {
		return 0
	}
	for _, r := range c.sequencers.Do(w.sequencer, input{verb: verbProbe}).Effect.replies {
		for _, d := range c.frames.reply(r.frame).Doubts {
			shards |= 1 << shardIndex(d.Shard)
		}
	}
	return shards
}

// probe tells what a frontier would say at this moment.
func (c *Cluster) probe(w *world) (now uint8, last [maxShards]uint8) {
	r := c.sequencers.Do(w.sequencer, input{verb: verbProbe}).Effect.probe
	for s, f := range r.Frontier {
		if last[s] = uint8(f.Last); !f.Clean {
			last[s] = noLast
		}
	}
	return uint8(r.Now), last
}
