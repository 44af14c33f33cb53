package txn

import (
	"errors"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/shard/model"
)

// TestRandom: requests at once, in any order of messages, some of which are lost, answer and leave behind what one store does to which they come one after the
// other, in the order of their revisions.
func TestRandom(t *testing.T) {
	seeds := 400
	if testing.Short() {
		seeds = 80
	}
	seen := map[string]int{}
	for seed := range seeds {
		w := &traffic{twin: newTwin(t, uint64(seed)), protocol: TwoPhase + Protocol(seed%2), locks: map[kv.ShardID]kv.TransactionID{},
			prepared: map[prepareOf]*kv.Share{}, decided: map[kv.TransactionID]kv.Decision{}}
		w.seen = seen
		w.fill()
		w.lead()
		for range 250 {
			w.act()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.settle()
		w.checkState()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Log(seen)
	for _, what := range []string{"done", "read", "busy", "granted", "not met", "lost", "canceled"} {
		if seen[what] < seeds/4 {
			t.Errorf("%q was seen %d times only", what, seen[what])
		}
	}
}

type prepareOf struct {
	id    kv.TransactionID
	shard kv.ShardID
}

// traffic is a twin with a coordinator for each shard, and locks of whole shards.
type traffic struct {
	*twin
	protocol     Protocol
	coordinators []*Coordinator
	asks         []question
	reads        []readOf
	owners       []*owner
	locks        map[kv.ShardID]kv.TransactionID
	prepared     map[prepareOf]*kv.Share
	decided      map[kv.TransactionID]kv.Decision
}

type question struct {
	Ask
	of *Coordinator
}

type readOf struct {
	Read
	of *Coordinator
}

// owner is a client.
type owner struct {
	req   *kv.Request
	of    *Coordinator
	call  Call
	want  string // the answer, if the request took effect
	ended bool
}

func (w *traffic) fill() {
	for range 40 {
		w.step()
	}
}

func (w *traffic) lead() {
	for _, id := range w.scheme.ShardIDs() {
		c, err := NewCoordinator(Options{Protocol: w.protocol, Anchor: id, Term: 1, Table: w.table, MaxTransactions: 4})
		if err != nil {
			w.t.Fatal(err)
		}
		c.OlderFinished(nil, nil)
		w.coordinators = append(w.coordinators, c)
	}
}

func (w *traffic) act() {
	switch n := w.random.IntN(100); {
	case n < 12:
		w.begin()
	case n < 16 && len(w.owners) > 0:
		if o := w.owners[w.random.IntN(len(w.owners))]; !o.ended {
			o.of.Cancel(o.call)
			w.collect(o.of)
		}
	case n < 20:
		for _, c := range w.coordinators {
			c.Tick(0)
			w.collect(c)
		}
	case n < 30 && len(w.reads) > 0:
		i := w.random.IntN(len(w.reads))
		r := w.reads[i]
		w.reads = slices.Delete(w.reads, i, i+1)
		w.read(r)
	case len(w.asks) > 0:
		w.serve(w.random.IntN(len(w.asks)), true)
	}
}

func (w *traffic) begin() {
	w.generator.Revision = w.one.Revision()
	req := w.generator.Nested()
	if w.random.IntN(2) == 0 {
		req = w.generator.Request()
	}
	if shard.Validate(req, shard.Limits{}) != nil || req.Kind != kv.KindTxn && req.Kind != kv.KindDeleteRange {
		return
	}
	o := &owner{req: req, of: w.coordinators[Anchor(w.table, req)-1]}
	call, err := o.of.Begin(o, req, 0)
	if err != nil {
		if !errors.Is(err, kv.ErrTooManyRequests) {
			w.t.Error(err)
		}
		return
	}
	o.call = call
	w.owners = append(w.owners, o)
	w.collect(o.of)
}

func (w *traffic) collect(c *Coordinator) {
	if err := c.Check(); err != nil {
		w.t.Error(err)
	}
	r := c.Ready()
	for _, a := range r.Asks {
		w.asks = append(w.asks, question{a, c})
	}
	for _, read := range r.Reads {
		w.reads = append(w.reads, readOf{read, c})
	}
	for _, d := range r.Done {
		w.done(d)
	}
	for _, n := range r.Numbers {
		w.number(c, n)
	}
}

// number gives a revision, and has the request done in the one store: it will be committed, as its participants decide at once.
func (w *traffic) number(c *Coordinator, n Number) {
	o := w.owners[slices.IndexFunc(w.owners, func(o *owner) bool { return o.of == c && o.call == c.live[n.ID.Number].call })]
	before := w.one.Revision()
	want, err := w.one.Apply(o.req)
	if err != nil {
		w.t.Errorf("all are prepared for %s, and one store says: %v", describeRequest(o.req), err)
		return
	}
	if writes := w.one.Revision() > before; writes != (len(n.Writers) > 0) {
		w.t.Errorf("%v write, one store does: %v", n.Writers, writes)
	}
	o.want = describeResponse(want)
	first := len(w.asks)
	c.Numbered(n.ID, w.one.Revision(), nil)
	w.collect(c)
	for i := len(w.asks) - 1; i >= first; i-- { // the anchor, or all
		w.serve(i, true)
	}
}

func (w *traffic) read(r readOf) {
	i := slices.IndexFunc(w.owners, func(o *owner) bool { return o.of == r.of && o.call == r.Call })
	if o := w.owners[i]; !o.ended {
		if want, err := w.one.Clone().Apply(o.req); err == nil && want.Revision == w.one.Revision() {
			o.want = describeResponse(want)
		}
	}
	answer, err := w.one.Clone().Apply(r.Request)
	r.of.Seen(r.Call, answer, err)
	w.collect(r.of)
}

func (w *traffic) done(d Done) {
	o := d.Owner.(*owner)
	if o.ended {
		w.t.Error("a request ends twice")
	}
	o.ended = true
	switch {
	case d.Err == nil:
		if g := describeResponse(d.Response); g != o.want {
			w.t.Errorf("%s\n%s\nwant\n%s", describeRequest(o.req), g, o.want)
		}
		w.seen["done"]++
	case errors.Is(d.Err, kv.ErrCanceled):
		w.seen["canceled"]++
	case errors.Is(d.Err, kv.ErrOutcomeUnknown):
		w.seen["unsure"]++
	case errors.Is(d.Err, kv.ErrTimeout), errors.Is(d.Err, kv.ErrTooManyRequests), errors.Is(d.Err, kv.ErrLeaderChanged):
	case kv.CodeOf(d.Err) == 0:
		w.t.Error(d.Err)
	}
}

// serve has a shard answer a question. lossy: it may not be heard, or its answer.
func (w *traffic) serve(i int, lossy bool) {
	a := w.asks[i]
	body := a.Request.Commit
	holder, locked := w.locks[a.Shard]
	if a.Request.Kind == kv.KindTxnPrepare && body.Patient && locked && holder != body.ID {
		return // it waits
	}
	if a.Request.Kind == kv.KindTxnPrepare && a.Shard == body.ID.Anchor && !locked && w.random.IntN(2) == 0 {
		w.seen["granted"]++
		w.locks[a.Shard] = body.ID // in memory: the answer comes later
		a.of.Granted(a.Ask)
		w.collect(a.of)
		return
	}
	locked = locked && holder != body.ID
	w.asks = slices.Delete(w.asks, i, i+1)
	fate := w.random.IntN(25)
	if lossy && fate == 0 && a.Request.Kind != kv.KindTxnDecide && a.Request.Kind != kv.KindTxnAccept {
		w.seen["lost"]++
		w.revoke(&a.Ask)
		a.of.Answered(a.Ask, nil, kv.ErrTimeout)
		w.collect(a.of)
		return
	}
	answer, err := w.answer(&a.Ask, locked)
	if lossy && fate == 1 {
		w.seen["lost"]++
		answer, err = nil, kv.ErrOutcomeUnknown
	}
	a.of.Answered(a.Ask, answer, err)
	w.collect(a.of)
}

func (w *traffic) answer(a *Ask, locked bool) (*kv.CommitResponse, error) {
	body, key := a.Request.Commit, prepareOf{a.Request.Commit.ID, a.Shard}
	switch a.Request.Kind {
	case kv.KindTxnPrepare:
		if locked {
			w.seen["busy"]++
			return &kv.CommitResponse{Busy: true}, nil
		}
		w.many[a.Shard].CompactTo(w.one.Compacted())
		answer, err := evaluate(w.many[a.Shard], body.Share)
		if err != nil {
			w.revoke(a)
			return nil, err
		}
		if answer.Met != nil {
			w.revoke(a)
			w.seen["not met"]++
			return answer, nil
		}
		w.locks[a.Shard], w.prepared[key] = body.ID, body.Share
		return answer, nil
	case kv.KindTxnAccept:
		w.decided[body.ID] = body.Decision
		return &kv.CommitResponse{Standing: kv.StandingPrepared, Decision: body.Decision}, nil
	}
	if known, ok := w.decided[body.ID]; ok && known != body.Decision {
		w.t.Errorf("%v is decided %+v, and was %+v", body.ID, body.Decision, known)
	}
	if share := w.prepared[key]; share != nil {
		delete(w.prepared, key)
		delete(w.locks, a.Shard)
		if body.Decision.Verdict == kv.Commit {
			w.decided[body.ID] = body.Decision
			commit(w.many[a.Shard], share, body.Decision.Revision)
		}
	}
	return &kv.CommitResponse{Standing: kv.StandingResolved, Decision: body.Decision}, nil
}

// revoke takes the locks back that were granted to a prepare which comes to nothing.
func (w *traffic) revoke(a *Ask) {
	if a.Request.Kind == kv.KindTxnPrepare && w.locks[a.Shard] == a.Request.Commit.ID && w.prepared[prepareOf{a.Request.Commit.ID, a.Shard}] == nil {
		delete(w.locks, a.Shard)
	}
}

func commit(s *model.Store, share *kv.Share, at kv.Revision) {
	before := s.Clone()
	before.Advance(at - 1)
	if _, err := before.Apply(opsOf(share)); err == nil && before.Revision() == at && at > s.Revision() {
		*s = *before
	}
}

// settle ends all without further losses.
func (w *traffic) settle() {
	for turn := 0; turn < 20_000 && len(w.asks)+len(w.reads)+w.open() > 0; turn++ {
		switch {
		case turn%20 == 0:
			for _, c := range w.coordinators {
				c.Tick(0)
				w.collect(c)
			}
		case len(w.reads) > 0:
			r := w.reads[0]
			w.reads = w.reads[1:]
			w.read(r)
		case len(w.asks) > 0:
			w.serve(w.random.IntN(len(w.asks)), false)
		}
	}
	for _, o := range w.owners {
		if !o.ended {
			w.t.Errorf("%s waits for ever", describeRequest(o.req))
		}
	}
	if len(w.locks) > 0 {
		w.t.Errorf("locks are left: %v", w.locks)
	}
	if n := w.open(); n > 0 {
		w.t.Errorf("%d transactions, requests and notices are left", n)
	}
}

// open is how much coordinators have to do.
func (w *traffic) open() (n int) {
	for _, c := range w.coordinators {
		n += len(c.live) + len(c.calls) + len(c.owed)
	}
	return n
}
