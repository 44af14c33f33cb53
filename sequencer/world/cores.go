package world

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/statespace"
)

// The cores of package sequencer as automata: each input is a call, and what Ready returns is its effect at once.

// frames gives every frame that was ever sent a number; equal frames have the same. Number 0 is none.
type frames struct {
	numbers map[string]frameID
	texts   []string
}

type frameID uint16

func (f *frames) number(text []byte) frameID {
	if id, ok := f.numbers[string(text)]; ok {
		return id
	}
	id := frameID(len(f.texts))
	if int(id) != len(f.texts) {
		panic("world: too many different frames")
	}
	f.numbers[string(text)] = id
	f.texts = append(f.texts, string(text))
	return id
}

func newFrames() *frames { return &frames{numbers: make(map[string]frameID), texts: []string{""}} }

func (f *frames) request(id frameID) *sequencer.Request {
	q, err := sequencer.DecodeRequest([]byte(f.texts[id]))
	if err != nil {
		panic(fmt.Sprintf("world: a frame does not survive its encoding: %v", err))
	}
	return q
}

func (f *frames) reply(id frameID) *sequencer.Reply {
	r, err := sequencer.DecodeReply([]byte(f.texts[id]))
	if err != nil {
		panic(fmt.Sprintf("world: a frame does not survive its encoding: %v", err))
	}
	return r
}

// verb is one call of a core.
type verb uint8

const (
	// Of a sequencer.
	verbHear      verb = iota // a frame
	verbProbe                 // what a frontier would say; the state after it is not used
	verbCommitted             // limit
	verbRefused
	verbTake
	verbApplied
	verbHandOver
	verbHandOverFailed
	verbReady
	// Of an asker.
	verbTarget
	verbBroken
	verbLead
	verbAlloc
	verbGet // a frame
	verbRead
	verbFrontier
	verbVoided
	verbLearn
	verbClean
	verbTick
	verbMulti // number: the set of shards
)

// input is given to one core. Its fields mean what the verb says.
type input struct {
	verb   verb
	node   kv.NodeID
	frame  frameID
	shard  kv.ShardID
	number uint64
	top    kv.Revision
}

// seqMachine is a sequencer.
type seqMachine struct {
	core    *sequencer.Sequencer
	epoch   sequencer.Epoch
	applied kv.Revision
	limit   kv.Revision // at the beginning
	fresh   bool
}

// seqEffect is what an input made a sequencer do.
type seqEffect struct {
	limit    kv.Revision
	transfer bool
	replies  []addressed
	probe    *sequencer.Reply
	first    kv.Revision // of Take
	refused  bool
	err      string
}

type addressed struct {
	node  kv.NodeID
	frame frameID
}

// seqView is what can be seen of a sequencer.
type seqView struct {
	now, next kv.Revision
	room      uint64
}

// seqAutomaton are all states of all sequencers.
type seqAutomaton = statespace.Automaton[*seqMachine, input, seqEffect, seqView]

func newSeqMachine(window uint64, epoch sequencer.Epoch, applied, limit kv.Revision) *seqMachine {
	core, err := sequencer.New(sequencer.Options{Window: window, MaxShards: maxShards + 1, Doubts: 1}, epoch, applied, limit)
	if err != nil {
		panic(err)
	}
	return &seqMachine{core: core, epoch: epoch, applied: applied, limit: limit, fresh: true}
}

func newSeqAutomaton(window uint64, shards int, all *frames, poke Poke) *seqAutomaton {
	return statespace.NewAutomaton(statespace.Machine[*seqMachine, input, seqEffect, seqView]{
		Take: func(m *seqMachine, in input, _ bool) seqEffect { return m.take(in, shards, all, poke) },
		Look: func(m *seqMachine) seqView {
			next, room := m.core.Peek()
			return seqView{now: m.core.Now(), next: next, room: room}
		},
		Identity: func(m *seqMachine, _ seqView) uint64 {
			return statespace.Fingerprinter{}.Of(m.core, m.epoch, m.fresh)
		},
		Copy: func(m *seqMachine) (*seqMachine, bool) {
			if !m.fresh {
				return nil, false
			}
			return newSeqMachine(window, m.epoch, m.applied, m.limit), true
		},
	})
}

// prober asks for the frontier without being part of the world.
const prober kv.NodeID = maxNodes + 1

func (m *seqMachine) take(in input, shards int, all *frames, poke Poke) (e seqEffect) {
	m.fresh = false
	restore := func() {}
	if poke.Reach != nil && (in.verb == verbHear || in.verb == verbTake) {
		restore = poke.Reach(m.core)
	}
	var err error
	switch in.verb {
	case verbHear:
		err = m.core.Step(in.node, all.request(in.frame))
	case verbProbe:
		q := &sequencer.Request{Session: sequencer.Session{Instance: 99, Number: 1}, Counter: 1}
		for s := range shards {
			q.Frontier = append(q.Frontier, sequencer.ShardGeneration{Shard: shardID(s)})
		}
		err = m.core.Step(prober, q)
	case verbCommitted:
		err = m.core.LimitCommitted(kv.Revision(in.number))
	case verbRefused:
		m.core.LimitRefused()
	case verbTake:
		e.first, _ = m.core.Peek()
		e.refused = m.core.Take(in.shard, 0, 1, in.number) != nil
	case verbApplied:
		m.core.Applied(kv.Revision(in.number))
	case verbHandOver:
		m.core.HandOver()
	case verbHandOverFailed:
		m.core.HandOverFailed()
	}
	if err == nil {
		err = m.core.Check()
	}
	if err != nil {
		e.err = err.Error()
	}
	if !poke.AfterReady {
		restore()
	}
	r := m.core.Ready(sequencer.Notice{})
	if poke.AfterReady {
		restore()
	}
	e.limit, e.transfer = r.Limit, r.Transfer
	for _, f := range r.Frames {
		if f.To == prober {
			e.probe = f.Reply
			continue
		}
		e.replies = append(e.replies, addressed{f.To, all.number(sequencer.AppendReply(nil, f.Reply))})
	}
	return e
}

// askMachine is an asker.
type askMachine struct {
	core   *sequencer.Asker
	node   kv.NodeID
	fresh  bool
	time   time.Duration
	learnt [maxShards]sequencer.Confirmed
	holds  [maxShards]kv.Revision // the revision of learnt, 0: none
	// What was heard in the session.
	session sequencer.Session
	epoch   sequencer.Epoch
	now     kv.Revision
}

// askEffect is what an input made an asker do.
type askEffect struct {
	frame     frameID // 0: none
	numbers   []sequencer.Numbers
	told      bool
	served    sequencer.Ticket
	now       kv.Revision
	frontier  *sequencer.Frontier
	revisions []sequencer.MultiRevision
	number    uint64 // that the call returned
	ok        bool
	err       string
}

// askView is what can be seen of an asker.
type askView struct {
	holds [maxShards]kv.Revision
	now   kv.Revision
	epoch sequencer.Epoch // 0: nothing was heard in this session
	wants [maxShards]bool // to be called clean
	knows [maxShards]bool // enough of now for that
}

type askAutomaton = statespace.Automaton[*askMachine, input, askEffect, askView]

const patience = time.Second

func newAskMachine(node kv.NodeID) *askMachine {
	core, err := sequencer.NewAsker(sequencer.AskerOptions{Instance: uint64(node), Patience: patience, ElectionTimeout: 1000 * patience})
	if err != nil {
		panic(err)
	}
	return &askMachine{core: core, node: node, fresh: true}
}

func newAskAutomaton(all *frames) *askAutomaton {
	return statespace.NewAutomaton(statespace.Machine[*askMachine, input, askEffect, askView]{
		Take: func(m *askMachine, in input, _ bool) askEffect { return m.take(in, all) },
		Look: func(m *askMachine) askView {
			v := askView{holds: m.holds, now: m.now, epoch: m.epoch}
			for s := range v.wants {
				v.wants[s] = m.core.WantsClean(shardID(s))
				_, v.knows[s] = m.core.Learn(shardID(s))
			}
			return v
		},
		Identity: func(m *askMachine, _ askView) uint64 { return statespace.Fingerprinter{}.Of(m) },
		Copy: func(m *askMachine) (*askMachine, bool) {
			if !m.fresh {
				return nil, false
			}
			return newAskMachine(m.node), true
		},
	})
}

func (m *askMachine) take(in input, all *frames) (e askEffect) {
	m.fresh = false
	var err error
	switch in.verb {
	case verbTarget:
		m.core.Target(sequencerNode)
	case verbBroken:
		m.core.Broken(sequencerNode)
	case verbLead:
		m.core.Lead(in.shard, sequencer.Leadership(in.number), 0)
	case verbAlloc:
		var batch sequencer.Batch
		batch, e.ok = m.core.Alloc(in.shard, in.number, kv.Bounds{})
		e.number = uint64(batch)
	case verbGet:
		r := all.reply(in.frame)
		if r.Session == m.session && !r.Over {
			m.epoch, m.now = r.Epoch, r.Now
		}
		err = m.core.Step(sequencerNode, r)
	case verbMulti:
		var ticket sequencer.MultiTicket
		ticket, e.ok = m.core.AllocMulti(shardsIn(in.number))
		e.number = uint64(ticket)
	case verbRead:
		e.number = uint64(m.core.Read())
	case verbFrontier:
		e.number, e.ok = m.core.Frontier(shardsOf(in.number))
	case verbVoided:
		m.core.Voided(in.shard, kv.Revision(in.number))
	case verbLearn:
		learnt, ok := m.core.Learn(in.shard)
		s := shardIndex(in.shard)
		m.learnt[s], e.ok = learnt.Confirmed(), ok
		if m.holds[s] = m.now; !ok {
			m.holds[s] = 0
		}
	case verbClean:
		s := shardIndex(in.shard)
		e.ok = m.core.Clean(m.learnt[s], sequencer.Found{Top: in.top})
		m.learnt[s], m.holds[s] = sequencer.Confirmed{}, 0
	case verbTick:
		m.time += patience
		m.core.Tick(m.time)
	}
	if err == nil {
		err = m.core.Check()
	}
	if err != nil {
		e.err = err.Error()
	}
	r := m.core.Ready()
	e.numbers, e.told, e.served, e.now, e.frontier = r.Numbers, r.Told, r.Served, r.Now, r.Frontier
	e.revisions = r.Revisions
	if r.Frame != nil {
		if r.Frame.Session != m.session {
			m.session, m.epoch, m.now = r.Frame.Session, 0, 0
		}
		e.frame = all.number(sequencer.AppendRequest(nil, r.Frame))
	}
	return e
}

// shardsIn lists a set of indexes.
func shardsIn(set uint64) (all []sequencer.ShardGeneration) {
	for s := range maxShards {
		if set>>s&1 == 1 {
			all = append(all, sequencer.ShardGeneration{Shard: shardID(s)})
		}
	}
	return all
}

func shardsOf(n uint64) (all []sequencer.ShardGeneration) {
	for s := range n {
		all = append(all, sequencer.ShardGeneration{Shard: shardID(int(s))})
	}
	return all
}
