package world

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
)

// Waits explores waiting for locks: each shard has a coordinator and one lock, which all transactions want, with a queue. Messages come in any order. None is
// lost, and nobody's time is over, so whoever waits in a circle does so for ever. Everything must end.
type Waits struct {
	Name     string
	Protocol txn.Protocol
	Shards   int
	// Clients have their lowest write for their anchor: any shard.
	Clients []Client
	// Anew is how often a leadership may begin anew, of any shard: locks that are not in the log are gone. Cancels is how many clients may go away.
	Anew, Cancels uint8
	// Silent: a leader does not say that a prepare has its locks. It can be known from the answer.
	Silent   bool
	Mutation WaitsMutation
}

// WaitsMutation is a rule that is broken.
type WaitsMutation string

// The mutations.
const (
	NoRevoke       WaitsMutation = "no-revoke"       // a leader that begins anew lets those wait again whose locks it has told of
	EverybodyWaits WaitsMutation = "everybody-waits" // so does one who is not patient
	NobodyWakes    WaitsMutation = "nobody-wakes"    // a lock is free, and who waits is not told
	ForgottenLock  WaitsMutation = "forgotten-lock"  // an abort leaves the lock
	ToldTooEarly   WaitsMutation = "told-too-early"  // a leader tells of the lock that a prepare waits for
)

// standing is where a question is.
type standing uint8

const (
	coming  standing = iota // it may arrive now
	queued                  // it waits for the lock
	holding                 // it has the lock in the memory of the leader, and is not in the log
	going                   // its answer may arrive
)

// question is one to a shard.
type question struct {
	ask   uint16 // 0: there is none
	reply uint16
	where standing
	told  bool // its coordinator knows that it has the lock
}

const (
	maxWaiters   = 3 // clients
	maxTries     = 8 // of a coordinator
	maxQuestions = 12
)

// waiters is one state.
type waiters struct {
	cores     [maxShards]statespace.StateID
	questions [maxQuestions]question
	locks     [maxShards]uint16           // the prepare that has it
	queues    [maxShards][maxTries]uint16 // prepares
	calls     [maxWaiters]uint8           // 0: the client has not begun
	ended     [maxWaiters]bool
	anew      uint8
	cancels   uint8
	wrong     string
}

// Actions of waiters.
const (
	waitsBegin  kind = iota // a: client
	waitsArrive             // a: question
	waitsLog                // a: question
	waitsReply              // a: question
	waitsAnew               // a: shard
	waitsCancel             // a: client
)

// Explore visits the states of a setting.
func (s Waits) Explore(limits statespace.Limits) Explored {
	c := &waitsCluster{Waits: s, of: NewCluster(Setting{Protocol: s.Protocol, Shards: s.Shards, Clients: s.Clients, Attempts: maxTries}, Sound, "", Poke{})}
	c.cores = statespace.NewAutomaton(statespace.Machine[*coordinatorMachine, input, *effect, view]{
		Take:     func(m *coordinatorMachine, in input, _ bool) *effect { return c.of.takeCoordinator(m, in) },
		Look:     func(*coordinatorMachine) view { return view{} },
		Identity: func(m *coordinatorMachine, _ view) uint64 { return fingerprinter.Of(m) },
		Copy: func(m *coordinatorMachine) (*coordinatorMachine, bool) {
			return c.newCore(int(m.anchor)), m.fresh
		},
	})
	var begin waiters
	for i := range s.Shards {
		begin.cores[i] = c.cores.Enter(c.newCore(i))
	}
	space := statespace.Space[waiters, action]{Actions: c.actions, Do: c.step, Key: func(w waiters) uint64 { return hashOf(w) }}
	r := statespace.Search(space, begin, limits)
	e := Explored{States: r.States, Depth: r.Depth, Complete: r.Complete, Violation: r.Violation, Cores: c.cores.States(), Calls: c.cores.Transitions()}
	for i, a := range r.Way {
		e.Story = append(e.Story, fmt.Sprintf("%2d. %s", i+1, c.describe(&begin, a)))
		c.do(&begin, a)
	}
	return e
}

type waitsCluster struct {
	Waits
	of    *Cluster // for its tables
	cores *coordinators
}

func (c *waitsCluster) newCore(anchor int) *coordinatorMachine {
	core, err := txn.NewCoordinator(txn.Options{Protocol: c.Protocol, Anchor: shardID(anchor), Term: 1, Table: c.of.table, MaxTransactions: 8})
	if err != nil {
		panic(err)
	}
	core.OlderFinished(nil, nil)
	return &coordinatorMachine{core: core, anchor: uint8(anchor), fresh: true}
}

// anchor is that of a client, from 0 on.
func (c *waitsCluster) anchor(client int) int {
	for s := range c.Shards {
		if c.Clients[client].Writes>>s&1 == 1 {
			return s
		}
	}
	panic("world: a client that writes nothing")
}

func (c *waitsCluster) key(q question) askKey { return c.of.asks.keys[q.ask] }

// natural lists what happens without faults.
func (c *waitsCluster) natural(w *waiters) (all []action) {
	add := func(k kind, i int) { all = append(all, action{kind: k, a: uint8(i)}) }
	for i := range c.Clients {
		if w.calls[i] == 0 {
			add(waitsBegin, i)
		}
	}
	for i, q := range w.questions {
		switch {
		case q.ask == 0 || q.where == queued:
		case q.where == coming:
			add(waitsArrive, i)
		case q.where == holding:
			add(waitsLog, i)
		case q.where == going:
			add(waitsReply, i)
		}
	}
	return all
}

func (c *waitsCluster) actions(w waiters) []action {
	all := c.natural(&w)
	for s := range c.Shards {
		if w.anew < c.Anew {
			all = append(all, action{kind: waitsAnew, a: uint8(s)})
		}
	}
	for i := range c.Clients {
		if w.cancels < c.Cancels && w.calls[i] != 0 && !w.ended[i] {
			all = append(all, action{kind: waitsCancel, a: uint8(i)})
		}
	}
	return all
}

func (c *waitsCluster) step(w waiters, a action) (waiters, bool, *statespace.Violation) {
	c.do(&w, a)
	if w.wrong == "" && len(c.natural(&w)) == 0 {
		w.wrong = c.atRest(&w)
	}
	if w.wrong != "" {
		return w, true, &statespace.Violation{Invariant: Ends, What: w.wrong}
	}
	return w, true, nil
}

// atRest tells what is wrong when nothing happens any more.
func (c *waitsCluster) atRest(w *waiters) string {
	for i := range c.Clients {
		if !w.ended[i] {
			return fmt.Sprintf("client %d waits for ever", i+1)
		}
	}
	for s, lock := range w.locks {
		if lock != 0 {
			return fmt.Sprintf("shard %d is locked for ever: %v", s+1, c.of.asks.keys[lock])
		}
	}
	return ""
}

func (c *waitsCluster) do(w *waiters, a action) {
	i := int(a.a)
	switch a.kind {
	case waitsBegin:
		e := c.coordinate(w, c.anchor(i), input{verb: verbBegin, client: a.a})
		w.calls[i] = e.call
	case waitsArrive:
		c.arrive(w, i)
	case waitsLog:
		k := c.key(w.questions[i])
		c.answer(w, i, reply{standing: kv.StandingPrepared, writes: c.Clients[k.client].Writes>>(k.shard-1)&1 == 1})
	case waitsReply:
		q := w.questions[i]
		w.questions[i] = question{}
		c.coordinate(w, int(c.key(q).id.Anchor)-1, input{verb: verbAnswered, ask: q.ask, reply: q.reply})
	case waitsAnew:
		w.anew++
		c.beginAnew(w, i)
	case waitsCancel:
		w.cancels++
		c.coordinate(w, c.anchor(i), input{verb: verbCancel, call: w.calls[i]})
	}
	w.tidy()
}

// coordinate gives a coordinator an input, and does what it wants. A revision comes at once.
func (c *waitsCluster) coordinate(w *waiters, shard int, in input) *effect {
	t := c.cores.Do(w.cores[shard], in)
	w.cores[shard] = t.After
	e := t.Effect
	if e.err != "" {
		w.wrong = e.err
	}
	for _, ask := range e.asks {
		w.push(question{ask: ask})
		if c.of.asks.keys[ask].id.Number >= maxTries {
			w.wrong = "it is tried again and again"
		}
	}
	for _, d := range e.done {
		w.ended[d.client] = true
		if d.code != 0 && d.code != kv.ErrCanceled.Code && d.code != kv.ErrOutcomeUnknown.Code {
			w.wrong = fmt.Sprintf("client %d is told: %v", d.client+1, kv.ErrorOf(d.code))
		}
	}
	for _, n := range e.numbers {
		c.coordinate(w, shard, input{verb: verbNumbered, txn: uint8(n.id.Number - 1), rev: 2})
	}
	return e
}

func (w *waiters) push(q question) {
	i := slices.Index(w.questions[:], question{})
	if i < 0 {
		panic("world: too many questions")
	}
	w.questions[i] = q
}

func (w *waiters) tidy() {
	slices.SortFunc(w.questions[:], func(a, b question) int {
		return cmp.Or(cmp.Compare(b.ask, a.ask), cmp.Compare(a.where, b.where), cmp.Compare(a.reply, b.reply))
	})
}

func (c *waitsCluster) answer(w *waiters, i int, r reply) {
	w.questions[i].where, w.questions[i].reply, w.questions[i].told = going, c.of.replies.number(r, struct{}{}), false
}

// arrive: a shard is asked.
func (c *waitsCluster) arrive(w *waiters, i int) {
	q := &w.questions[i]
	k := c.key(*q)
	s := int(k.shard - 1)
	switch k.kind {
	case kv.KindTxnPrepare:
		switch {
		case w.locks[s] == 0 && w.queues[s][0] == 0:
			c.grant(w, i)
		case k.patient || c.Mutation == EverybodyWaits:
			w.queues[s][slices.Index(w.queues[s][:], 0)] = q.ask
			if q.where = queued; c.Mutation == ToldTooEarly && k.id.Anchor == k.shard {
				c.coordinate(w, s, input{verb: verbGranted, ask: q.ask})
			}
		default:
			c.answer(w, i, reply{busy: true})
		}
	case kv.KindTxnAccept:
		c.answer(w, i, reply{standing: kv.StandingPrepared, decision: k.decision})
	default:
		c.answer(w, i, reply{standing: kv.StandingResolved, decision: k.decision})
		if lock := w.locks[s]; lock != 0 && c.of.asks.keys[lock].id == k.id && (k.decision.Verdict == kv.Commit || c.Mutation != ForgottenLock) {
			c.release(w, s)
		}
	}
}

// grant gives a prepare the lock.
func (c *waitsCluster) grant(w *waiters, i int) {
	q := &w.questions[i]
	k := c.key(*q)
	w.locks[k.shard-1], q.where = q.ask, holding
	if k.id.Anchor == k.shard && !c.Silent {
		q.told = true
		c.coordinate(w, int(k.shard)-1, input{verb: verbGranted, ask: q.ask})
	}
}

// release gives the lock to the first who waits.
func (c *waitsCluster) release(w *waiters, s int) {
	w.locks[s] = 0
	first := w.queues[s][0]
	if first == 0 || c.Mutation == NobodyWakes {
		return
	}
	copy(w.queues[s][:], w.queues[s][1:])
	w.queues[s][maxTries-1] = 0
	c.grant(w, slices.IndexFunc(w.questions[:], func(q question) bool { return q.ask == first }))
}

// beginAnew: what is not in the log comes again, in any order. Who was told of its lock is busy.
func (c *waitsCluster) beginAnew(w *waiters, s int) {
	w.queues[s] = [maxTries]uint16{}
	for i := range w.questions {
		q := &w.questions[i]
		switch {
		case q.ask == 0 || int(c.key(*q).shard) != s+1:
		case q.where == queued:
			q.where = coming
		case q.where == holding:
			w.locks[s] = 0
			if q.told && c.Mutation != NoRevoke {
				c.answer(w, i, reply{busy: true})
			} else {
				q.where, q.told = coming, false
			}
		}
	}
}

func (c *waitsCluster) describe(w *waiters, a action) string {
	i := int(a.a)
	q := w.questions[min(i, maxQuestions-1)]
	switch a.kind {
	case waitsBegin:
		return fmt.Sprintf("client %d begins at shard %d", i+1, c.anchor(i)+1)
	case waitsArrive:
		return fmt.Sprintf("comes: %v, of shard %d", c.key(q), c.key(q).id.Anchor)
	case waitsLog:
		return fmt.Sprintf("it is in the log: %v, of shard %d", c.key(q), c.key(q).id.Anchor)
	case waitsReply:
		return fmt.Sprintf("is answered (%v): %v, of shard %d", c.of.replies.keys[q.reply], c.key(q), c.key(q).id.Anchor)
	case waitsAnew:
		return fmt.Sprintf("FAULT: the leadership of shard %d begins anew", i+1)
	}
	return fmt.Sprintf("FAULT: client %d goes away", i+1)
}
