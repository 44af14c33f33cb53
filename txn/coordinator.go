package txn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Coordinator has all transactions of one leadership of one anchor. It is not safe for concurrent use.
//
// A request (call) makes one attempt after the other, each of which is a transaction with an ID of its own, until one is decided, the request is refused,
// or its time is over. What is left of an attempt that failed, participants that are to be told, goes on beside it.
type Coordinator struct {
	options Options
	now     time.Duration
	stopped bool
	// older: transactions of earlier leaderships may not be finished.
	older bool

	calls    map[Call]*call
	lastCall Call
	// live are the transactions that are not finished, by number. Invariant: none is above last, and those below passed are stuck.
	live map[uint64]*transaction
	last uint64
	// passed: all transactions of this leadership below it are finished, but for those that are stuck. older of them, of earlier leaderships, are not finished
	// either. What is open is both, in order; it is replaced when it changes.
	passed           uint64
	stuck, olderOpen []kv.TransactionID
	open             []kv.TransactionID
	// owed are shards that may keep records of transactions that are finished: of this leadership up to the number, and of earlier ones.
	owed   map[kv.ShardID]uint64
	timers timers
	ready  Ready
}

// call is a request that waits for its answer.
type call struct {
	id       Call
	owner    any
	req      *kv.Request
	deadline time.Duration
	path     Path
	past     []kv.OpResponse
	// attempt is the number of the transaction that is tried; 0: none is, but a probe is read.
	attempt uint64
	// patient: a participant was busy before. From now on all transactions of it are.
	patient bool
	// refusal is why a participant refused its share. It is the answer if the path was the right one, which is looked up.
	refusal error
}

// NewCoordinator returns the coordinator of a leadership.
func NewCoordinator(options Options) (*Coordinator, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Coordinator{
		options: options, older: true, passed: 1,
		calls: make(map[Call]*call), live: make(map[uint64]*transaction), owed: make(map[kv.ShardID]uint64),
		timers: timers{places: make(map[timer]int)},
	}, nil
}

// Begin takes a valid request (kv.KindTxn, kv.KindDeleteRange or kv.KindLeaseEnd) whose Anchor is the shard. The owner comes back with Done. deadline: in the time of Tick;
// 0: none. kv.ErrTooManyRequests: there is no room. The request is kept, and must not change.
func (c *Coordinator) Begin(owner any, req *kv.Request, deadline time.Duration) (Call, error) {
	anchor := Anchor(c.options.Table, req)
	switch {
	case c.stopped:
		return 0, kv.ErrNotLeader
	case anchor != c.options.Anchor:
		return 0, fmt.Errorf("txn: coordinate a request in shard %d: its anchor is shard %d: %w", c.options.Anchor, anchor, kv.ErrInvalidRequest)
	case len(c.calls) >= c.options.MaxTransactions || len(c.live) >= 2*c.options.MaxTransactions:
		return 0, kv.ErrTooManyRequests
	}
	c.lastCall++
	w := &call{id: c.lastCall, owner: owner, req: req, deadline: deadline}
	c.calls[w.id] = w
	if deadline > 0 {
		c.timers.set(timer{deadline: w.id}, deadline)
	}
	if req.Kind == kv.KindTxn && (ReadsPast(req.Txn) || !MayWrite(req, nil)) {
		c.probe(w)
	} else {
		c.try(w)
	}
	return w.id, nil
}

// probe finds out which path a request takes.
func (c *Coordinator) probe(w *call) {
	w.attempt = 0
	read := &kv.Request{Kind: kv.KindTxn, Principal: w.req.Principal, AuthVersion: w.req.AuthVersion, Txn: Probe(w.req.Txn), Memory: w.req.Memory}
	c.ready.Reads = append(c.ready.Reads, Read{Call: w.id, Request: read, Deadline: w.deadline})
}

// Seen takes the answer to a Read: of kind kv.KindTxn.
func (c *Coordinator) Seen(id Call, answer *kv.Response, err error) {
	w := c.calls[id]
	if w == nil || w.attempt != 0 {
		return
	}
	if err != nil {
		c.finish(w, nil, harmless(err))
		return
	}
	if answer == nil {
		answer = &kv.Response{}
	}
	v, err := See(w.req.Txn, answer.Txn)
	switch {
	case err != nil:
		c.finish(w, nil, err)
	case v.Answer != nil:
		c.finish(w, &kv.Response{Kind: kv.KindTxn, Revision: answer.Revision, Txn: v.Answer}, nil)
	case w.refusal != nil && samePath(v.Path, w.path):
		c.finish(w, nil, w.refusal)
	default:
		w.path, w.past, w.refusal = v.Path, v.Past, nil
		c.try(w)
	}
}

// samePath tells whether two paths are the same way. One may leave out turns at its end.
func samePath(a, b Path) bool {
	for len(a) > 0 || len(b) > 0 {
		if a.next() != b.next() {
			return false
		}
	}
	return true
}

// finish answers a request.
func (c *Coordinator) finish(w *call, response *kv.Response, err error) {
	delete(c.calls, w.id)
	c.timers.stop(timer{deadline: w.id})
	c.ready.Done = append(c.ready.Done, Done{Owner: w.owner, Response: response, Err: err})
}

// harmless is an error in words for a request that has had no effect.
func harmless(err error) error {
	if errors.Is(err, kv.ErrOutcomeUnknown) {
		return kv.ErrLeaderChanged
	}
	return err
}

// Cancel says that nobody waits for the answer any more. The request is done (Ready.Done) at once: with kv.ErrCanceled if it has no effect and never will,
// otherwise with kv.ErrOutcomeUnknown. An unknown call is ignored.
func (c *Coordinator) Cancel(id Call) {
	if w := c.calls[id]; w != nil {
		c.abandon(w, kv.ErrCanceled)
	}
}

// abandon ends a request. Its transaction is aborted, unless its decision was asked for.
func (c *Coordinator) abandon(w *call, err error) {
	t := c.live[w.attempt]
	switch {
	case t == nil:
	case t.phase == deciding:
		t.call, t.answers, err = 0, nil, kv.ErrOutcomeUnknown
	default:
		c.abort(t)
	}
	c.finish(w, nil, err)
}

// Stop says that the leadership is over. All requests are done (Ready.Done): with kv.ErrLeaderChanged if they have no effect and never will, otherwise with
// kv.ErrOutcomeUnknown. Nothing else happens afterwards.
func (c *Coordinator) Stop() {
	for _, id := range slices.Sorted(maps.Keys(c.calls)) {
		c.abandon(c.calls[id], kv.ErrLeaderChanged)
	}
	c.stopped, c.live, c.timers, c.ready = true, nil, timers{places: make(map[timer]int)}, Ready{Done: c.ready.Done}
	c.stuck, c.olderOpen, c.open = nil, nil, nil
	clear(c.owed)
}

// Tick says what time it is: monotonic, from any origin. Its cost is that of what is due.
func (c *Coordinator) Tick(now time.Duration) {
	c.now = max(c.now, now)
	for _, what := range c.timers.due(c.now) {
		switch {
		case what.notice != 0:
			c.notify(what.notice)
		case what.deadline != 0:
			if w := c.calls[what.deadline]; w != nil {
				c.abandon(w, kv.ErrTimeout)
			}
		default:
			if t := c.live[what.number]; t != nil {
				c.askAgain(t, what.part)
			}
		}
	}
}

// OlderFinished says that all transactions of earlier leaderships of the anchor are finished but for the open ones, and which shards may have records of those
// that are (Recovery.OlderFinished).
func (c *Coordinator) OlderFinished(shards []kv.ShardID, open []kv.TransactionID) {
	if c.stopped {
		return
	}
	for _, id := range shards {
		c.owe(id, 0)
	}
	if len(open)+len(c.stuck) > kv.MaxOpen {
		return // it is said again when there are fewer
	}
	c.older, c.olderOpen = false, slices.Clone(open)
	c.reopen()
}

// Finished says which transactions of the anchor are finished, as far as it is known.
func (c *Coordinator) Finished() kv.Finished {
	if c.older {
		return c.options.Finished
	}
	return kv.Finished{At: kv.TransactionID{Anchor: c.options.Anchor, Term: c.options.Term, Number: c.passed}, Open: c.open}
}

// mention is what other messages say of what is finished: nothing if something is open, which is told apart (notify), not with every message.
func (c *Coordinator) mention() kv.Finished {
	if f := c.Finished(); len(f.Open) == 0 {
		return f
	}
	return kv.Finished{}
}

func (c *Coordinator) reopen() { c.open = slices.Concat(c.olderOpen, c.stuck) }

// movePassed moves what is passed over all that are finished, and over those that are stuck if there is room to name them.
func (c *Coordinator) movePassed() {
	before := len(c.stuck)
	for ; c.passed <= c.last; c.passed++ {
		if t := c.live[c.passed]; t == nil {
			continue
		} else if !t.stuck || len(c.olderOpen)+len(c.stuck) >= kv.MaxOpen {
			break
		}
		c.stuck = append(c.stuck, kv.TransactionID{Anchor: c.options.Anchor, Term: c.options.Term, Number: c.passed})
	}
	if len(c.stuck) > before {
		c.reopen()
	}
}

// hold takes note that a participant does not answer what is decided, or to be decided. Others do not wait for it with what they remember.
func (c *Coordinator) hold(t *transaction) {
	if !t.stuck {
		t.stuck = true
		c.movePassed()
	}
}

// freed takes note that a transaction is finished that was passed. Whoever has its record is told.
func (c *Coordinator) freed(t *transaction) {
	i, passed := slices.BinarySearchFunc(c.stuck, t.id, kv.TransactionID.Compare)
	if !passed {
		return
	}
	c.stuck = slices.Delete(c.stuck, i, i+1)
	c.reopen()
	for _, id := range t.participants {
		c.owe(id, t.id.Number)
	}
}

// Live tells whether a transaction of this leadership may still commit, or is not finished. kv.KindTxnState for one that is live is answered with
// kv.Undecided by the shell, without asking the machine; and those are left out of what Recovery is told.
func (c *Coordinator) Live(id kv.TransactionID) bool {
	return id.Anchor == c.options.Anchor && id.Term == c.options.Term && c.live[id.Number] != nil
}

// Ready moves the pending work out.
func (c *Coordinator) Ready() Ready {
	r := c.ready
	c.ready = Ready{}
	return r
}

// owe takes note that a shard may keep the record of a finished transaction, until it hears that it is.
func (c *Coordinator) owe(shard kv.ShardID, number uint64) {
	if _, owed := c.owed[shard]; !owed {
		c.timers.set(timer{notice: shard}, c.now+c.options.NoticeAfter)
	}
	c.owed[shard] = max(c.owed[shard], number)
}

// notify tells a shard what is finished, if it has heard nothing since.
func (c *Coordinator) notify(shard kv.ShardID) {
	f := c.Finished()
	if f.At.Term != c.options.Term || f.At.Number <= c.owed[shard] { // something before is not finished
		c.timers.set(timer{notice: shard}, c.now+c.options.NoticeAfter)
		return
	}
	c.ask(kv.KindTxnResolve, kv.CommitRequest{Shard: shard, Finished: f}, 0, nil)
}

// heard takes note of what a shard has heard as finished. Of what was open then, and is not any more, it has to hear again.
func (c *Coordinator) heard(shard kv.ShardID, f *kv.Finished) {
	if owed, ok := c.owed[shard]; ok && f.At.Term == c.options.Term && f.At.Number > owed && slices.Equal(f.Open, c.open) {
		delete(c.owed, shard)
		c.timers.stop(timer{notice: shard})
	}
}

// tookNote tells whether a participant that answered so has in its log what the question said is finished. It takes no note of it with a prepare that it does
// not log, and with nothing that it is asked to accept.
func tookNote(question *kv.Request, answer *kv.CommitResponse) bool {
	switch {
	case question.Commit.ID == kv.TransactionID{}:
		return true
	case question.Kind == kv.KindTxnPrepare:
		return answer.Standing == kv.StandingPrepared
	}
	return question.Kind != kv.KindTxnAccept && answer.Standing == kv.StandingResolved
}

// ask asks a participant. The answer is paid for by memory; nil: nobody counts.
func (c *Coordinator) ask(kind kv.Kind, body kv.CommitRequest, deadline time.Duration, memory kv.Memory) {
	c.ready.Asks = append(c.ready.Asks, Ask{Shard: body.Shard, Request: &kv.Request{Kind: kind, Commit: &body, Memory: memory}, Deadline: deadline})
}

// Answered takes the answer to a question of Ready.Asks, or why there is none.
func (c *Coordinator) Answered(ask Ask, answer *kv.CommitResponse, err error) {
	if c.stopped {
		return
	}
	body := ask.Request.Commit
	if err == nil && answer == nil {
		err = kv.ErrOutcomeUnknown
	}
	if err == nil && tookNote(ask.Request, answer) {
		c.heard(ask.Shard, &body.Finished)
	}
	if body.ID == (kv.TransactionID{}) {
		if _, owed := c.owed[ask.Shard]; owed {
			c.timers.set(timer{notice: ask.Shard}, c.now+c.options.NoticeAfter)
		}
		return
	}
	t := c.live[body.ID.Number]
	if t == nil || body.ID != t.id {
		return
	}
	i, here := slices.BinarySearch(t.participants, ask.Shard)
	if !here {
		return
	}
	kind := ask.Request.Kind
	if kind == kv.KindTxnPrepare {
		c.prepared(t, i, answer, err)
		return
	}
	if kind != c.kindFor(t, i) || body.Decision.Verdict != t.decision.Verdict {
		return // from an earlier phase
	}
	t.parts[i].asking = false
	switch {
	case t.phase == resolving:
		c.resolved(t, i, answer, err)
	case t.phase == deciding && kind == kv.KindTxnDecide:
		c.decided(t, i, answer, err)
	case t.phase == deciding:
		c.accepted(t, i, answer, err)
	}
}

// Check tells what is wrong with the coordinator's memory.
func (c *Coordinator) Check() error {
	for id, w := range c.calls {
		if t := c.live[w.attempt]; w.attempt != 0 && (t == nil || t.call != id) {
			return fmt.Errorf("txn: request %d waits for transaction %d, which knows nothing of it", id, w.attempt)
		}
	}
	for number, t := range c.live {
		switch {
		case number == 0 || number > c.last || t.id.Number != number:
			return fmt.Errorf("txn: transaction %d is live, and the last one is %d", number, c.last)
		case number < c.passed && !slices.Contains(c.stuck, t.id):
			return fmt.Errorf("txn: transaction %d is live, and is said to be finished", number)
		}
		if err := t.check(); err != nil {
			return err
		}
	}
	for _, id := range c.stuck {
		if c.live[id.Number] == nil || id.Number >= c.passed {
			return fmt.Errorf("txn: transaction %d is said to be open, and is not", id.Number)
		}
	}
	if f := c.Finished(); !f.Valid() && f.At.Number != 0 {
		return fmt.Errorf("txn: it says that all is finished before %v but %v", f.At, f.Open)
	}
	for i := 1; i < len(c.timers.heap); i++ {
		if c.timers.heap[(i-1)/2].at > c.timers.heap[i].at {
			return errors.New("txn: timers are out of order")
		}
	}
	if len(c.timers.places) != len(c.timers.heap) {
		return fmt.Errorf("txn: %d timers, and %d places", len(c.timers.heap), len(c.timers.places))
	}
	return nil
}
