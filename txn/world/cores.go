package world

import (
	"fmt"
	"reflect"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
)

// table gives values numbers; equal ones have the same. Number 0 is none.
type table[K comparable, V any] struct {
	numbers map[K]uint16
	keys    []K
	values  []V
}

func newTable[K comparable, V any]() *table[K, V] {
	return &table[K, V]{numbers: make(map[K]uint16), keys: make([]K, 1), values: make([]V, 1)}
}

func (t *table[K, V]) number(key K, value V) uint16 {
	if n, ok := t.numbers[key]; ok {
		return n
	}
	n := uint16(len(t.values))
	if int(n) != len(t.values) {
		panic("world: too many different values")
	}
	t.numbers[key] = n
	t.keys, t.values = append(t.keys, key), append(t.values, value)
	return n
}

// askKey is what tells questions apart.
type askKey struct {
	kind     kv.Kind
	shard    kv.ShardID
	id       kv.TransactionID
	client   int8 // whose share it is; -1: there is none
	patient  bool
	finished finished
	ballot   kv.Ballot
	decision kv.Decision
}

func (c *Cluster) keyOf(a *txn.Ask) askKey {
	b := a.Request.Commit
	k := askKey{a.Request.Kind, b.Shard, b.ID, -1, b.Patient, c.finishedOf(b.Finished), b.Ballot, b.Decision}
	if b.Share != nil {
		k.client = clientOf(b.Share)
	}
	return k
}

// clientOf tells whose share it is: keys end with the client's number. -1: the share is empty.
func clientOf(s *kv.Share) int8 {
	if len(s.Ops) == 0 {
		return -1
	}
	o := s.Ops[0].Op
	key := []byte(nil)
	if o.Put != nil {
		key = o.Put.Key
	} else {
		key = o.Range.Span.Start
	}
	return int8(key[1] - '0')
}

// reply is an answer, or an error.
type reply struct {
	standing           kv.Standing
	busy, writes       bool
	promised, accepted kv.Ballot
	decision           kv.Decision
	code               kv.Code
}

func (r *reply) answer(share *kv.Share) (*kv.CommitResponse, error) {
	if r.code != 0 {
		return nil, kv.ErrorOf(r.code)
	}
	a := &kv.CommitResponse{Standing: r.standing, Busy: r.busy, Writes: r.writes, Promised: r.promised, Accepted: r.accepted, Decision: r.decision}
	if share != nil && r.standing == kv.StandingPrepared {
		for _, o := range share.Ops {
			if o.Op.Put != nil {
				a.Results = append(a.Results, kv.OpResponse{Put: &kv.PutResponse{}})
			} else {
				a.Results = append(a.Results, kv.OpResponse{Range: &kv.RangeResponse{}})
			}
		}
	}
	return a, nil
}

// verb is one call of a core.
type verb uint8

const (
	verbBegin verb = iota // client
	verbAnswered
	verbNumbered
	verbNotNumbered
	verbTick // of a recovery: with a list
	verbLate // a coordinator's clients' time is over
	verbCancel
	verbStop
	verbOlder
	verbGranted
)

// input is given to one core.
type input struct {
	verb   verb
	client uint8
	call   uint8
	txn    uint8
	rev    uint8
	ask    uint16
	reply  uint16
	list   uint16
}

// done is how a request ended.
type done struct {
	client uint8
	rev    kv.Revision
	code   kv.Code
}

// number is a revision that is asked for.
type number struct {
	id      kv.TransactionID
	writers uint8
}

// effect is what a call does.
type effect struct {
	asks    []uint16
	numbers []number
	done    []done
	call    uint8
	err     string
	// Of a recovery: older transactions are finished, and told is the number of what it says of them.
	older bool
	told  uint16
}

// view is what can be seen of a core.
type view struct {
	live uint8 // transactions, by place
}

type coordinatorMachine struct {
	core     *txn.Coordinator
	anchor   uint8 // from 0 on
	term     uint8
	finished finished
	fresh    bool
}

type recoveryMachine struct {
	core  *txn.Recovery
	shard uint8
	term  uint8
	fresh bool
}

type (
	coordinators = statespace.Automaton[*coordinatorMachine, input, *effect, view]
	recoveries   = statespace.Automaton[*recoveryMachine, input, *effect, view]
)

func shardID(s int) kv.ShardID { return kv.ShardID(s + 1) }

func keyOfClient(s, client int) []byte { return []byte{byte('a' + s), byte('0' + client)} }

func (c *Cluster) request(client int, anchor uint8) *kv.Request {
	t := &kv.TxnRequest{}
	for s := range c.Shards {
		if c.Clients[client].Reads>>s&1 == 1 {
			t.Success = append(t.Success, kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: keyOfClient(s, client)}}})
		}
		if c.Clients[client].Writes>>s&1 == 1 {
			t.Success = append(t.Success, kv.Op{Put: &kv.PutRequest{Key: keyOfClient(s, client)}})
		}
	}
	if c.Clients[client].Writes>>anchor&1 == 0 { // the anchor may write, in a branch that is not taken
		t.Failure = []kv.Op{{Put: &kv.PutRequest{Key: keyOfClient(int(anchor), client)}}}
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: t}
}

func (c *Cluster) newPartition() *partition.Table {
	scheme := partition.Scheme{Kind: partition.Range, Shards: c.Shards}
	for s := 1; s < c.Shards; s++ {
		scheme.SplitKeys = append(scheme.SplitKeys, []byte{byte('a' + s)})
	}
	t, err := partition.New(scheme)
	if err != nil {
		panic(err)
	}
	return t
}

var fingerprinter = statespace.Fingerprinter{Skipped: []reflect.Type{
	reflect.TypeFor[kv.Request](), reflect.TypeFor[kv.Share](), reflect.TypeFor[partition.Table](), reflect.TypeFor[kv.CommitResponse](), reflect.TypeFor[txn.Plan](),
}}

func (c *Cluster) newCoordinators() *coordinators {
	return statespace.NewAutomaton(statespace.Machine[*coordinatorMachine, input, *effect, view]{
		Take: func(m *coordinatorMachine, in input, _ bool) *effect { return c.takeCoordinator(m, in) },
		Look: func(m *coordinatorMachine) (v view) {
			for i := range maxTxns {
				if m.core.Live(c.id(i)) {
					v.live |= 1 << i
				}
			}
			return v
		},
		Identity: func(m *coordinatorMachine, _ view) uint64 { return fingerprinter.Of(m) },
		Copy: func(m *coordinatorMachine) (*coordinatorMachine, bool) {
			if !m.fresh {
				return nil, false
			}
			return c.coordinator(m.term, m.finished), true
		},
	})
}

func (c *Cluster) coordinator(term uint8, f finished) *coordinatorMachine {
	core, err := txn.NewCoordinator(txn.Options{
		Protocol: c.Protocol, Anchor: shardID(0), Term: uint64(term) + 1, Table: c.table, Finished: c.finished(f), MaxTransactions: 8,
	})
	if err != nil {
		panic(err)
	}
	return &coordinatorMachine{core: core, term: term, finished: f, fresh: true}
}

func (c *Cluster) takeCoordinator(m *coordinatorMachine, in input) *effect {
	m.fresh = false
	e := &effect{}
	if c.poke.Coordinator != nil {
		c.poke.Coordinator(m.core)
	}
	switch in.verb {
	case verbBegin:
		call, err := m.core.Begin(int(in.client), c.request(int(in.client), m.anchor), 1)
		if err != nil {
			e.done = append(e.done, done{client: in.client, code: kv.CodeOf(err)})
		}
		e.call = uint8(call)
	case verbAnswered:
		ask := c.asks.values[in.ask]
		answer, err := c.replies.keys[in.reply].answer(ask.Request.Commit.Share)
		m.core.Answered(ask, answer, err)
	case verbGranted:
		m.core.Granted(c.asks.values[in.ask])
	case verbNumbered:
		id := c.id(int(in.txn))
		id.Anchor = shardID(int(m.anchor))
		m.core.Numbered(id, kv.Revision(in.rev), nil)
	case verbNotNumbered:
		m.core.Numbered(c.id(int(in.txn)), 0, kv.ErrTimeout)
	case verbTick:
		m.core.Tick(0)
	case verbLate:
		m.core.Tick(1)
	case verbCancel:
		m.core.Cancel(txn.Call(in.call))
	case verbStop:
		m.core.Stop()
	case verbOlder:
		older := c.olders.values[in.list]
		m.core.OlderFinished(older.told, older.open)
	}
	if err := m.core.Check(); err != nil {
		e.err = err.Error()
	}
	r := m.core.Ready()
	e.asks = c.numberAsks(r.Asks)
	for _, n := range r.Numbers {
		mask := uint8(0)
		for _, s := range n.Writers {
			mask |= 1 << (s - 1)
		}
		e.numbers = append(e.numbers, number{n.ID, mask})
	}
	for _, d := range r.Done {
		item := done{client: uint8(d.Owner.(int)), code: kv.CodeOf(d.Err)}
		if d.Err != nil && item.code == 0 {
			e.err = d.Err.Error()
		}
		if d.Response != nil {
			item.rev = d.Response.Revision
		}
		e.done = append(e.done, item)
	}
	if len(r.Reads) > 0 {
		e.err = "a request without compares is probed"
	}
	return e
}

func (c *Cluster) numberAsks(asks []txn.Ask) (numbers []uint16) {
	for i := range asks {
		numbers = append(numbers, c.asks.number(c.keyOf(&asks[i]), asks[i]))
	}
	return numbers
}

func (c *Cluster) newRecoveries() *recoveries {
	return statespace.NewAutomaton(statespace.Machine[*recoveryMachine, input, *effect, view]{
		Take:     func(m *recoveryMachine, in input, _ bool) *effect { return c.takeRecovery(m, in) },
		Look:     func(m *recoveryMachine) view { return view{} },
		Identity: func(m *recoveryMachine, _ view) uint64 { return fingerprinter.Of(m) },
		Copy: func(m *recoveryMachine) (*recoveryMachine, bool) {
			if !m.fresh {
				return nil, false
			}
			return c.recovery(m.shard, m.term), true
		},
	})
}

func (c *Cluster) recovery(shard, term uint8) *recoveryMachine {
	core, err := txn.NewRecovery(txn.RecoveryOptions{Protocol: c.Protocol, Shard: shardID(int(shard)), Term: uint64(term) + 1, MaxQuestions: 8})
	if err != nil {
		panic(err)
	}
	return &recoveryMachine{core: core, shard: shard, term: term, fresh: true}
}

func (c *Cluster) takeRecovery(m *recoveryMachine, in input) *effect {
	m.fresh = false
	if c.poke.Recovery != nil {
		c.poke.Recovery(m.core)
	}
	switch in.verb {
	case verbAnswered:
		ask := c.asks.values[in.ask]
		answer, err := c.replies.keys[in.reply].answer(nil)
		m.core.Answered(ask, answer, err)
	case verbTick:
		m.core.Tick(time.Duration(0), c.lists.values[in.list])
	}
	e := &effect{asks: c.numberAsks(m.core.Ready())}
	if in.verb == verbTick {
		var o older
		if o.told, o.open, e.older = m.core.OlderFinished(); e.older {
			e.told = c.olders.number(fmt.Sprint(o), o)
		}
	}
	return e
}

// id is that of the transaction with a place in the world: Attempts of each leadership of the anchor.
func (c *Cluster) id(place int) kv.TransactionID {
	return kv.TransactionID{Anchor: shardID(0), Term: uint64(place/c.Attempts) + 1, Number: uint64(place%c.Attempts) + 1}
}

// place is that of a transaction; false: there is none for it.
func (c *Cluster) place(id kv.TransactionID) (int, bool) {
	at := int(id.Term-1)*c.Attempts + int(id.Number) - 1
	return at, id.Number >= 1 && id.Number <= uint64(c.Attempts) && at < maxTxns
}

// older is what a recovery says of the transactions of earlier leaderships.
type older struct {
	told []kv.ShardID
	open []kv.TransactionID
}

// finished is a kv.Finished in two bytes of the world: the term and the number; a bit for the place of each that is open. Zero: there is none.
type finished struct{ at, open uint8 }

func (c *Cluster) finishedOf(f kv.Finished) (small finished) {
	small.at = uint8(f.At.Term<<5 | f.At.Number)
	for _, id := range f.Open {
		if at, ok := c.place(id); ok {
			small.open |= 1 << at
		}
	}
	return small
}

func (c *Cluster) finished(f finished) (large kv.Finished) {
	if f.at == 0 {
		return large
	}
	large.At = kv.TransactionID{Anchor: shardID(0), Term: uint64(f.at >> 5), Number: uint64(f.at & 31)}
	for at := range maxTxns {
		if f.open>>at&1 == 1 {
			large.Open = append(large.Open, c.id(at))
		}
	}
	return large
}

// over tells whether a shard has heard that a transaction is finished.
func (c *Cluster) over(w *world, s int, id kv.TransactionID) bool {
	f := c.finished(w.finished[s])
	return f.Covers(id)
}

func (k askKey) String() string {
	names := map[kv.Kind]string{
		kv.KindTxnPrepare: "prepare", kv.KindTxnDecide: "decide", kv.KindTxnAccept: "accept", kv.KindTxnPromise: "promise", kv.KindTxnResolve: "resolve", kv.KindTxnState: "state",
	}
	text := fmt.Sprintf("%s of %d.%d at shard %d", names[k.kind], k.id.Term, k.id.Number, k.shard)
	if k.id.Number == 0 {
		text = fmt.Sprintf("notice at shard %d", k.shard)
	}
	if k.ballot != (kv.Ballot{}) {
		text += fmt.Sprintf(", ballot %d/%d", k.ballot.Round, k.ballot.Shard)
	}
	if k.patient {
		text += ", patient"
	}
	if k.finished.at != 0 {
		text += fmt.Sprintf(", finished below %d.%d", k.finished.at>>5, k.finished.at&31)
		if k.finished.open != 0 {
			text += fmt.Sprintf(" but for places %b", k.finished.open)
		}
	}
	return text + decisionText(k.decision)
}

func decisionText(d kv.Decision) string {
	switch d.Verdict {
	case kv.Commit:
		return fmt.Sprintf(": COMMIT at %d", d.Revision)
	case kv.Abort:
		return ": ABORT"
	}
	return ""
}

func (r reply) String() string {
	if r.code != 0 {
		return kv.ErrorOf(r.code).Error()
	}
	text := [...]string{"unknown", "prepared", "promised", "resolved", "over"}[r.standing]
	if r.busy {
		text = "busy"
	}
	if r.promised.Round != 0 {
		text += fmt.Sprintf(", ballot %d/%d promised", r.promised.Round, r.promised.Shard)
	}
	return text + decisionText(r.decision)
}
