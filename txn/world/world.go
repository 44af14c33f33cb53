package world

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
	"github.com/quoratedb/quorate/txn/register"
)

// record is what a participant has of a transaction.
type record struct {
	register uint16 // number of what it holds
	applied  uint8  // how often it took effect
	rev      uint8  // at which revision it did last
}

// message is a question under way, or its answer.
type message struct {
	from  uint8 // core; 0: there is no message
	ask   uint16
	reply uint16 // 0: it has not arrived
}

// coordinator is one leadership of the anchor.
type coordinator struct {
	core    statespace.StateID
	exists  bool
	stopped bool
}

type recovery struct {
	core   statespace.StateID
	exists bool
}

type status uint8

const (
	unborn status = iota
	waits
	succeeded // the client was told so
	failed    // it was told that nothing is done
	unsure
)

type client struct {
	status status
	rev    uint8
	term   uint8 // of the coordinator
	call   uint8
}

// fate is what is known of a transaction by anybody, ever.
type fate struct {
	verdict kv.Verdict
	rev     uint8
}

// world is one state.
type world struct {
	coordinators [maxTerms]coordinator
	recoveries   [maxShards][maxTerms]recovery
	term         [maxShards]uint8
	lost         [maxShards]bool
	finished     [maxShards]finished
	records      [maxShards][maxTxns]record
	messages     [maxMsgs]message
	late         [maxLate]uint16
	granted      uint8          // 1 + the transaction that has the anchor's locks without being in the log
	numbers      [maxTxns]uint8 // 1 + the writers, if a revision is asked for
	rev          uint8
	clients      [maxClients]client
	owners       [maxTxns]uint8 // 1 + client
	fates        [maxTxns]fate

	failovers                                                [maxShards]uint8
	losses, doubles, lostShards, cancels, deadlines, refused uint8

	beyond   bool // the setting's attempts: the world is left out
	violated statespace.Invariant
	what     string
}

// Cluster explores a setting.
type Cluster struct {
	Setting
	mutation     Mutation
	only         statespace.Invariant
	poke         Poke
	table        *partition.Table
	asks         *table[askKey, txn.Ask]
	replies      *table[reply, struct{}]
	lists        *table[string, []kv.UnfinishedTransaction]
	olders       *table[string, older]
	registers    *table[register.Register, struct{}]
	coordinators *coordinators
	recoveries   *recoveries
	settled      map[uint64]struct{} // worlds that come to a good end
	settleAll    bool
}

// NewCluster returns the space of a setting. If only is not empty, no other invariant is judged.
func NewCluster(s Setting, m Mutation, only statespace.Invariant, poke Poke) *Cluster {
	c := &Cluster{
		Setting: s, mutation: m, only: only, poke: poke, settled: make(map[uint64]struct{}), settleAll: m != Sound || poke.Coordinator != nil || poke.Recovery != nil,
		asks: newTable[askKey, txn.Ask](), replies: newTable[reply, struct{}](), lists: newTable[string, []kv.UnfinishedTransaction](), olders: newTable[string, older](), registers: newTable[register.Register, struct{}](),
	}
	c.table = c.newPartition()
	c.coordinators, c.recoveries = c.newCoordinators(), c.newRecoveries()
	c.registers.numbers[register.Register{}] = 0
	return c
}

// Explored is what an exploration saw.
type Explored struct {
	States, Depth int
	// Cores are the states of single cores, Calls what was tried in them.
	Cores, Calls int
	Complete     bool // every state was visited
	// Violation is the first broken invariant found, Story the actions that lead to it.
	Violation *statespace.Violation
	Story     []string
}

var hashSeed = maphash.MakeSeed()

func key(w world) uint64 { return hashOf(w) }

func hashOf[W comparable](w W) uint64 { return maphash.Comparable(hashSeed, w) }

// Explore visits at most so many states.
func (c *Cluster) Explore(limits statespace.Limits) Explored {
	r := statespace.Search(statespace.Space[world, action]{Actions: c.actions, Do: c.step, Key: key}, c.begin(), limits)
	e := Explored{
		States: r.States, Depth: r.Depth, Complete: r.Complete, Violation: r.Violation,
		Cores: c.coordinators.States() + c.recoveries.States(), Calls: c.coordinators.Transitions() + c.recoveries.Transitions(),
	}
	if r.Violation != nil {
		e.Story = c.story(r.Way)
	}
	return e
}

// begin: every shard has its first leader.
func (c *Cluster) begin() world {
	w := world{rev: 1}
	for s := range c.Shards {
		c.lead(&w, s)
	}
	if c.Prepared != 0 {
		c.advance(&w)
	}
	return w
}

// advance takes the first client's transaction to where the setting begins.
func (c *Cluster) advance(w *world) {
	c.do(w, action{kind: doBegin})
	if c.Prepared != 0 && c.Prepared&1 == 0 { // the others are asked when the anchor has its locks
		if i := slices.IndexFunc(w.messages[:], func(m message) bool { return m.from != 0 && c.grants(w, m) }); i >= 0 {
			c.do(w, action{kind: doGrant, a: uint8(i)})
		}
	}
	for again := true; again; {
		again = false
		for i, m := range w.messages {
			if m.from == 0 || c.Prepared>>(c.asks.keys[m.ask].shard-1)&1 == 0 || c.asks.keys[m.ask].kind != kv.KindTxnPrepare {
				continue
			}
			a := action{kind: doExecute, a: uint8(i)}
			if m.reply != 0 {
				a.kind = doReply
			}
			c.do(w, a)
			again = true
			break
		}
	}
	if w.numbers[0] != 0 {
		c.do(w, action{kind: doNumber})
	}
}

// lead gives a shard's current leader its cores.
func (c *Cluster) lead(w *world, s int) {
	term := w.term[s]
	if s == 0 {
		w.coordinators[term] = coordinator{core: c.coordinators.Enter(c.coordinator(term, w.finished[0])), exists: true}
		if c.mutation == OldForgotten {
			c.coordinate(w, term, input{verb: verbOlder})
		}
	}
	w.recoveries[s][term] = recovery{core: c.recoveries.Enter(c.recovery(uint8(s), term)), exists: true}
	if c.mutation != NoRecovery {
		c.tick(w, s)
	}
}

// Cores are numbered: 1 + term of a coordinator, or 1 + maxTerms + shard * maxTerms + term of a recovery.
func recoveryCore(s int, term uint8) uint8 { return 1 + maxTerms + uint8(s)*maxTerms + term }

// coordinate gives a coordinator an input.
func (c *Cluster) coordinate(w *world, term uint8, in input) *effect {
	k := &w.coordinators[term]
	t := c.coordinators.Do(k.core, in)
	k.core = t.After
	e := t.Effect
	if e.err != "" {
		c.violate(w, CoreCheck, "%s", e.err)
	}
	c.send(w, 1+term, e.asks)
	for _, n := range e.numbers {
		if at, ok := c.place(n.id); ok {
			w.numbers[at] = 1 + n.writers
		}
	}
	for _, d := range e.done {
		c.answered(w, d)
	}
	return e
}

// answered: a client gets its answer.
func (c *Cluster) answered(w *world, d done) {
	k := &w.clients[d.client]
	code := d.code
	if c.mutation == UnknownIsTimeout && code == kv.ErrOutcomeUnknown.Code {
		code = kv.ErrTimeout.Code
	}
	if k.status != waits && k.status != unborn {
		if c.mutation != AnswerBeforeDecision {
			c.violate(w, Told, "client %d is answered twice", d.client+1)
		}
		return
	}
	switch code {
	case 0:
		k.status, k.rev = succeeded, uint8(d.rev)
		c.judgeSuccess(w, d)
	case kv.ErrOutcomeUnknown.Code:
		k.status = unsure
	default:
		k.status = failed
	}
}

// recover gives a recovery an input.
func (c *Cluster) recover(w *world, s int, term uint8, in input) *effect {
	k := &w.recoveries[s][term]
	t := c.recoveries.Do(k.core, in)
	k.core = t.After
	c.send(w, recoveryCore(s, term), t.Effect.asks)
	return t.Effect
}

func (c *Cluster) send(w *world, from uint8, asks []uint16) {
	for _, a := range asks {
		k := c.asks.keys[a]
		if k.id.Number != 0 {
			at, ok := c.place(k.id)
			if !ok {
				w.beyond = true
				return
			}
			if k.client >= 0 {
				w.owners[at] = uint8(k.client) + 1
			}
		} else if c.mutation == NoNotice {
			continue
		}
		c.push(w, message{from: from, ask: a})
	}
}

func (c *Cluster) push(w *world, m message) {
	for i := range w.messages {
		if w.messages[i].from == 0 {
			w.messages[i] = m
			w.tidy()
			return
		}
	}
	w.beyond = true
}

// tidy sorts messages: their order does not matter.
func (w *world) tidy() {
	slices.SortFunc(w.messages[:], func(a, b message) int {
		return cmp.Or(cmp.Compare(b.from, a.from), cmp.Compare(a.ask, b.ask), cmp.Compare(a.reply, b.reply))
	})
}

func (w *world) drop(i int) message {
	m := w.messages[i]
	w.messages[i] = message{}
	w.tidy()
	return m
}

// deliver gives a core the answer to its question.
func (c *Cluster) deliver(w *world, from uint8, ask, r uint16) {
	in := input{verb: verbAnswered, ask: ask, reply: r}
	if from <= maxTerms {
		if k := w.coordinators[from-1]; k.exists && !k.stopped {
			c.coordinate(w, from-1, in)
		}
		return
	}
	at := from - 1 - maxTerms
	if s, term := int(at/maxTerms), at%maxTerms; w.recoveries[s][term].exists {
		c.recover(w, s, term, in)
	}
}

// tick tells a recovery what its shard has undecided, and the coordinator beside it what that means.
func (c *Cluster) tick(w *world, s int) {
	term := w.term[s]
	e := c.recover(w, s, term, input{verb: verbTick, list: c.undecided(w, s)})
	if s == 0 && e.older && w.coordinators[term].exists {
		c.coordinate(w, term, input{verb: verbOlder, list: e.told})
	}
}

// undecided is the list of a machine.
func (c *Cluster) undecided(w *world, s int) uint16 {
	var list []kv.UnfinishedTransaction
	text := ""
	live := c.live(w)
	for i := range maxTxns {
		r := c.registerOf(w, s, i)
		open := r.Standing == kv.StandingPrepared || r.Standing == kv.StandingPromised
		if !open && (s != 0 || r.Standing != kv.StandingResolved) || s == 0 && live>>i&1 == 1 {
			continue
		}
		u := kv.UnfinishedTransaction{ID: c.id(i), Participants: c.participants(w, i), Own: s == 0}
		if !open {
			u.Decision = r.Decision
		}
		list = append(list, u)
		text += fmt.Sprintln(u)
	}
	return c.lists.number(text, list)
}

// live are the transactions that the coordinator beside the anchor's leader has live.
func (c *Cluster) live(w *world) uint8 {
	if k := w.coordinators[w.term[0]]; k.exists && !k.stopped {
		return c.coordinators.View(k.core).live
	}
	return 0
}

func (c *Cluster) mask(w *world, at int) uint8 {
	if w.owners[at] == 0 {
		return 1
	}
	return c.Clients[w.owners[at]-1].participants()
}

func (c *Cluster) participants(w *world, at int) (ids []kv.ShardID) {
	for s := range c.Shards {
		if c.mask(w, at)>>s&1 == 1 {
			ids = append(ids, shardID(s))
		}
	}
	return ids
}

func (c *Cluster) registerOf(w *world, s, at int) register.Register {
	return c.registers.keys[w.records[s][at].register]
}

func (c *Cluster) setRegister(w *world, s, at int, r register.Register) {
	w.records[s][at].register = c.registers.number(r, struct{}{})
}

// violate notes the first broken invariant that is to be judged.
func (c *Cluster) violate(w *world, i statespace.Invariant, format string, args ...any) {
	if w.violated == "" && (c.only == "" || c.only == i) {
		w.violated, w.what = i, fmt.Sprintf(format, args...)
	}
}
