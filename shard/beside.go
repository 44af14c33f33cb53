package shard

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// errLong ends an evaluation that looks at more, or changes more, than one in a round may.
var errLong = errors.New("the request takes longer than a round may")

// Beside is a request that takes longer to decide than a round of the driver may. It is decided beside the rounds, on a view of the applied state,
// and takes effect in a later round. From Evaluate until then its latches keep others from the keys that it names, so that what it read
// still holds; requests for other keys go on.
//
// Machine.Evaluate returns it, Machine.NextBeside says when it may Run, and Machine.FinishBeside ends it.
type Beside struct {
	request  *kv.Request
	lead     *leadership // of the machine when it was evaluated
	latches  latch.ID
	granted  bool
	informed bool   // the batch in which it was evaluated was, for it
	after    uint64 // the last proposal that may have changed one of its keys; known once it is granted

	view      *mvcc.View
	compacted kv.Revision // of the view
	state     evaluation  // on the view
	response  *kv.Response
	err       error
	effects   bool
	leases    []kv.LeaseID // of its puts
	awaited   kv.LeaseID   // the one of them that is not registered here
	engine    storage.Reader
	rows      keys.Rows
	// parts are the effects, if they are too many to take effect in one round.
	parts     []*bulkPart
	partBytes int
	more      bool // the effects are not all that the request wants: it is to be evaluated again
	// share is what that of a transaction over several shards comes to, which may have effects of up to shareBytes.
	share      shareOutcome
	shareBytes int
}

// beside takes latches for a request that turned out to be long.
func (m *Machine) beside(r *kv.Request) Outcome {
	l := m.lead
	if err := m.mayGoBeside(); err != nil {
		return Outcome{Err: err}
	}
	b := &Beside{request: r, lead: l, partBytes: m.options.PartBytes}
	if ofLease(r) {
		b.latches = l.latchLease(r.LeaseBinding, b.releases())
	} else {
		var accesses []latch.Access
		eachAccess(r, func(a latch.Access) bool {
			accesses = append(accesses, a)
			return true
		})
		b.latches = l.latches.Add(latch.Merge(accesses))
	}
	b.informed = l.batch != nil && l.batch.informed
	l.besides = append(l.besides, b)
	return Outcome{Beside: b}
}

func (m *Machine) mayGoBeside() error {
	if n := m.lead.latches.Len(); n >= m.options.MaxBeside {
		return fmt.Errorf("%d requests that take long are under way: %w", n, kv.ErrTooManyRequests)
	}
	return nil
}

// NextBeside returns the next request that may Run: it has its latches, and everything that was in flight before is applied. nil: there is none
// now. Exclusive.
func (m *Machine) NextBeside() *Beside {
	if m.lead == nil {
		return nil
	}
	l := m.lead
	for i, b := range l.besides {
		if !b.granted && l.latches.Granted(b.latches) && !(b.lease() != nil && l.contention.locks.Len() > 0) {
			b.granted, b.after = true, l.waitFor()
		}
		if b.granted && l.appliedSeq() >= b.after {
			l.besides = slices.Delete(l.besides, i, i+1)
			b.begin(m)
			return b
		}
	}
	return nil
}

// appliedSeq is the last proposal that is applied.
func (l *leadership) appliedSeq() uint64 { return l.seq - uint64(l.overlay.proposals.size()) }

func (b *Beside) begin(m *Machine) {
	b.view = m.store.View()
	b.compacted = max(b.view.Compacted(), m.lead.floor)
	leases := make(map[kv.LeaseID]bool)
	remote, missing := m.remote(), error(kv.ErrLeaseNotFound)
	if remote {
		missing = errAwaits
	}
	eachLease(b.request, func(id kv.LeaseID) { leases[id] = m.leases.byID[id] != nil || remote && m.leases.notes[id] != 0 })
	revision := b.view.Revision()
	if m.options.Sequenced {
		revision = m.lead.issued()
	}
	b.state = evaluation{
		base: &b.view.Reader, overlay: newOverlay(), revision: revision, maxEffectBytes: m.options.MaxRequestEffectBytes,
		tooLarge: tooLarge(m.options.MaxRequestEffectBytes),
		floor:    m.lead.floor,
		tally:    kv.NewTally(b.request.Memory),
		mayAttach: func(id kv.LeaseID) error {
			if leases[id] {
				return nil
			}
			b.awaited = id
			return missing
		},
	}
	b.engine, b.rows = m.reader, m.rows
	if b.releases() || b.lease() != nil && b.request.Kind == kv.KindTxnPrepare { // it must end, however many keys it looks at
		return
	}
	b.state.tally.Bound(kv.Looks{Limit: m.options.MaxLooks, Refused: refusedLooks(m.options.MaxLooks)})
}

func refusedLooks(limit int64) error {
	return kv.BeyondLimit(fmt.Sprintf("what any write looks at (%d keys and KiB of values)", limit), kv.ErrRequestTooLarge)
}

func tooLarge(limit int) error {
	return kv.BeyondLimit(fmt.Sprintf("effects of one request (%d bytes)", limit), kv.ErrRequestTooLarge)
}

// Run decides the request. It needs no lock, and may be called from any goroutine, once. stop is asked every millisecond or so; once it says yes,
// the answer is kv.ErrTimeout.
func (b *Beside) Run(stop func() bool) {
	b.state.tally.StopIf(stop)
	if b.releases() {
		b.response, b.err = b.release(b.request.LeaseBinding.Lease)
	} else if ofLease(b.request) {
		b.response, b.err = b.list(b.request.LeaseBinding)
	} else if b.request.Kind == kv.KindTxnPrepare {
		b.err = b.runShare()
	} else if d := b.request.DeleteRange; d != nil && !d.PrevKV {
		b.response, b.err = b.deleteRange(d)
	} else if b.response, b.err = b.state.answer(b.request); b.err == nil {
		b.divide()
	}
	if err := b.view.Close(); b.err == nil {
		b.err = err
	}
	b.view = nil
}

// deleteRange encodes the effects as it finds them: there may be very many, and nothing else of the request reads them.
func (b *Beside) deleteRange(r *kv.DeleteRangeRequest) (*kv.Response, error) {
	w, ev := bulkWriter{maxBytes: b.partBytes}, &b.state
	size := 0
	err := ev.eachLive(r.Span, func(k liveKey) (bool, error) {
		if size += len(k.key) + effectOverheadBytes; size > ev.maxEffectBytes {
			return false, ev.tooLarge
		}
		e := mvcc.Effect{Key: k.key, At: ev.nextLocator(), Prev: k.meta.At, PrevLive: true, PrevLease: k.meta.Lease}
		return true, ev.tally.Add(int64(w.add(&e)))
	})
	if err != nil {
		return nil, err
	}
	b.parts, b.effects = w.parts, w.effects > 0
	return &kv.Response{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeResponse{Deleted: int64(w.effects)}}, nil
}

// divide puts effects that are more than a round may let take effect into parts.
func (b *Beside) divide() {
	changes := &b.state.overlay.changes
	b.effects = changes.size() > 0
	for at := changes.start; at < changes.end(); at++ {
		if id := changes.at(at).Lease; id != 0 {
			b.leases = append(b.leases, id)
		}
	}
	if b.state.overlay.bytesSince(changes.start) <= b.partBytes {
		return
	}
	w := bulkWriter{maxBytes: b.partBytes}
	for at := changes.start; at < changes.end(); at++ {
		w.add(&changes.at(at).Effect)
	}
	b.parts, b.state.overlay = w.parts, nil
}

// Drop ends a request that another leadership was asked for, after Run or instead of it.
func (b *Beside) Drop() {
	if b.view != nil {
		b.view.Close()
	}
	b.state.tally.Release()
}

// FinishBeside lets the request take effect, on top of everything in flight: none of that touched its keys. The latches are given back, unless
// the effects are many (Outcome.Staged). Outcome.Blocked: the request is to be evaluated again. Driver.
func (m *Machine) FinishBeside(b *Beside) Outcome {
	if m.lead == nil || m.lead != b.lead {
		b.Drop()
		return Outcome{Err: kv.ErrNotLeader}
	}
	if b.request.Kind == kv.KindTxnPrepare {
		return m.finishShare(b)
	}
	if b.err == nil && len(b.parts) > 0 {
		m.lead.bulks = append(m.lead.bulks, &bulkOnTheWay{beside: b})
		return Outcome{Staged: true}
	}
	if err := m.lead.unlatch(b); err != nil {
		return Outcome{Fatal: err}
	}
	by, err := m.mayTakeEffect(b)
	if err != nil {
		b.Drop()
		return m.failed(err)
	}
	if !b.effects && !m.options.Sequenced {
		by = shift{} // it is as of the view; with several shards it has to be as of now, which its latches make true
	}
	outcome := Outcome{Response: m.besideResponse(b, by), Effects: b.effects || b.releases()}
	if b.effects {
		m.adopt(b, by)
	}
	m.dropNote(b)
	if outcome.Effects {
		outcome.WaitFor = m.lead.waitFor()
	}
	return outcome
}

// mayTakeEffect tells by how much the revision that a decided request was evaluated at moves, or why it must not take effect: errOutdated if
// it is to be evaluated again, otherwise its answer.
func (m *Machine) mayTakeEffect(b *Beside) (shift, error) {
	by := shift{above: b.state.revision, by: m.lead.revision - b.state.revision}
	if b.request.AuthVersion < m.authEvaluated() && aboutKeys(b.request.Kind) { // users or roles have changed while it was evaluated
		return by, kv.ErrAuthOldRevision
	}
	m.lead.batch.readsOf(b.request)
	if errors.Is(b.err, kv.ErrFutureRevision) && !b.informed && m.lead.batch != nil {
		if m.lead.batch.base > b.state.revision {
			return by, errUnnumbered
		}
		if err := m.lead.batch.decides(); err != nil {
			return by, err
		}
	}
	if errors.Is(b.err, errAwaits) {
		return by, m.lead.await(b.awaited, false)
	}
	if b.err != nil {
		return by, b.err
	}
	if ofLease(b.request) && !m.stillKnown(b) {
		return by, errOutdated
	}
	if err := m.checkAlarms(b.request); err != nil {
		return by, err
	}
	asOfNow := b.effects || m.options.Sequenced
	if b.effects && m.lead.outdates(by, b.request) || asOfNow && m.lead.compactedAt() > b.compacted && readsBelow(b.request, m.lead.compactedAt()) {
		return by, errOutdated
	}
	for _, id := range b.leases {
		switch err := m.mayAttach(id); {
		case errors.Is(err, errLatched):
			return by, errOutdated
		case err != nil:
			return by, err // it ended meanwhile
		}
	}
	return by, nil
}

// errOutdated: a request with effects may have another answer now, although nobody touched its keys.
var errOutdated = errors.New("the request has to be evaluated again")

// readsBelow tells whether a range of a request may read below a revision.
func readsBelow(r *kv.Request, rev kv.Revision) bool {
	below := func(q *kv.RangeRequest) bool { return q != nil && q.Revision > 0 && q.Revision < rev }
	return below(r.Range) || r.Txn != nil && anyRange(r.Txn, below) || r.Commit != nil && anyRangeOfShare(r.Commit.Share, below)
}

// besideResponse is what the request is answered at the revision that it gets.
func (m *Machine) besideResponse(b *Beside, by shift) *kv.Response {
	if b.response.Revision == 0 {
		b.response.Revision = b.state.now()
	}
	by.response(b.response)
	m.lead.told(b.response)
	return b.response
}

// adopt puts the effects in flight, at the next revision.
func (m *Machine) adopt(b *Beside, by shift) {
	changes := &b.state.overlay.changes
	for at := changes.start; at < changes.end(); at++ {
		e := changes.at(at).Effect
		by.effect(&e)
		m.lead.overlay.add(&e)
	}
	m.lead.revision++
}

// outdates tells whether a range of a transaction may tell apart the revision that it was evaluated at and the one that it gets: it is filtered by a number
// from the one to the other. While the second is provisional, it must not reach a number beyond it.
func (l *leadership) outdates(by shift, r *kv.Request) bool {
	if r.Kind != kv.KindTxn {
		return false
	}
	from, to := by.above+1, by.above+1+by.by
	matters := func(bound kv.Revision) bool {
		if b := l.batch; b != nil && bound > to {
			b.limit(bound - 1 - to)
		}
		return from != to && bound >= from && bound <= to
	}
	return anyRange(r.Txn, func(q *kv.RangeRequest) bool {
		return q != nil && (matters(q.MinMod) || matters(q.MaxMod) || matters(q.MinCreate) || matters(q.MaxCreate))
	})
}

// conflicts tells whether a request names a key that is latched.
func (l *leadership) conflicts(r *kv.Request) bool {
	return !eachAccess(r, func(a latch.Access) bool { return !l.latches.Conflicts(a) })
}

// eachAccess calls fn with what a request reads and writes, in whichever branch, until it returns false; eachAccess returns that.
func eachAccess(r *kv.Request, fn func(latch.Access) bool) bool {
	return r.EachSpan(func(span kv.Span, writes bool) bool { return fn(latch.Access{Span: span, Writes: writes}) })
}

// eachLease calls fn with the leases that a request's puts name.
func eachLease(r *kv.Request, fn func(kv.LeaseID)) {
	switch r.Kind {
	case kv.KindPut:
		fn(r.Put.Lease)
	case kv.KindTxn:
		eachLeaseOf(r.Txn, fn)
	case kv.KindTxnPrepare:
		for i := range r.Commit.Share.Ops {
			if put := r.Commit.Share.Ops[i].Op.Put; put != nil && put.Lease != 0 {
				fn(put.Lease)
			}
		}
	}
}

func eachLeaseOf(t *kv.TxnRequest, fn func(kv.LeaseID)) {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			switch o := &ops[i]; {
			case o.Put != nil && o.Put.Lease != 0:
				fn(o.Put.Lease)
			case o.Txn != nil:
				eachLeaseOf(o.Txn, fn)
			}
		}
	}
}
