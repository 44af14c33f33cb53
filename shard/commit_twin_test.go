package shard

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// The coordinator's part of commitWorld, and the model's.

func (w *commitWorld) beginTxn() {
	if len(w.txns) >= 4 {
		return
	}
	w.number++
	t := &worldTxn{patient: w.random.IntN(2) == 0}
	place := uint32(0)
	for _, s := range w.shards {
		if len(t.parts) < 3 && w.random.IntN(3) > 0 {
			t.parts = append(t.parts, &worldPart{txn: t, shard: s, share: w.share(s, &place)})
		}
	}
	if len(t.parts) == 0 {
		return
	}
	anchor := t.parts[0].shard
	t.id = kv.TransactionID{Anchor: anchor.id, Term: uint64(anchor.term), Number: w.number}
	w.txns = append(w.txns, t)
}

// share makes a random share. Its operations are those of a valid transaction.
func (w *commitWorld) share(s *commitShard, place *uint32) *kv.Share {
	share, whole := &kv.Share{}, &kv.TxnRequest{}
	s.generator.Revision = w.last
	for range w.random.IntN(4) {
		op := kv.Op{}
		switch r := s.generator.Request(); r.Kind {
		case kv.KindPut:
			op.Put = r.Put
		case kv.KindDeleteRange:
			op.DeleteRange = r.DeleteRange
		case kv.KindRange:
			op.Range = r.Range
		case kv.KindTxn:
			for _, c := range r.Txn.Compare {
				share.Compares = append(share.Compares, kv.Expectation{Compare: c, Holds: w.random.IntN(3) > 0})
			}
			continue
		default:
			continue
		}
		whole.Success = append(whole.Success, op)
		if r := (&kv.Request{Kind: kv.KindTxn, Txn: whole}); Validate(r, Limits{}) != nil || ofSystemShard(r) {
			whole.Success = whole.Success[:len(whole.Success)-1]
			continue
		}
		share.Ops = append(share.Ops, kv.PlacedOp{Place: *place, Op: op})
		*place += 1 + uint32(w.random.IntN(2))
	}
	return share
}

func (t *worldTxn) request(kind kv.Kind, p *worldPart) *kv.Request {
	c := &kv.CommitRequest{ID: t.id, Shard: p.shard.id, Decision: t.decision}
	if kind == kv.KindTxnPrepare {
		c.Share, c.Patient = p.share, t.patient
		for _, other := range t.parts {
			c.Participants = append(c.Participants, other.shard.id)
		}
	}
	return &kv.Request{Kind: kind, Commit: c}
}

// finished is what the anchor may say: none of its transactions before that one is open.
func (w *commitWorld) finished(of *worldTxn) kv.Finished {
	first, open := of.id, []kv.TransactionID(nil)
	for _, t := range w.txns {
		if t.id.Anchor != of.id.Anchor || !t.id.Before(of.id) {
			continue
		}
		open = append(open, t.id)
		if t.id.Before(first) {
			first = t.id
		}
	}
	if len(open) > kv.MaxOpen || w.random.IntN(2) == 0 {
		return kv.Finished{At: first}
	}
	slices.SortFunc(open, compareIDs)
	return kv.Finished{At: of.id, Open: open}
}

// moveTxn does one thing for a random transaction.
func (w *commitWorld) moveTxn() error {
	if len(w.txns) == 0 {
		return nil
	}
	t := w.txns[w.random.IntN(len(w.txns))]
	for _, p := range t.parts { // what is applied?
		if p.phase == underWay && p.index != 0 && p.shard.group.leader.AppliedIndex() >= p.index {
			switch p.phase = prepared; p.kind {
			case kv.KindTxnDecide:
				t.decided, p.phase = true, ended
				w.commit(t)
			case kv.KindTxnResolve:
				p.phase = ended
			}
		}
	}
	all := func(phase worldPhase) bool {
		return !slices.ContainsFunc(t.parts, func(p *worldPart) bool { return p.phase != phase })
	}
	switch anchor := t.parts[0]; {
	case all(ended):
		w.txns = slices.DeleteFunc(w.txns, func(other *worldTxn) bool { return other == t })
		return nil
	case t.decided:
		return w.resolveOne(t)
	case w.random.IntN(40) == 0 && t.decision.Verdict == kv.Undecided:
		w.seen["given up"]++
		err := w.ballots(t)
		w.abort(t)
		return err
	case !all(prepared):
		return w.prepareOne(t)
	case t.decision.Verdict == kv.Undecided:
		return w.numberTxn(t)
	default:
		return w.toParticipant(anchor, kv.KindTxnDecide)
	}
}

// ballots has a participant promise, and accept an abort, before the transaction is aborted: as a recovery does that takes the coordinator for dead.
func (w *commitWorld) ballots(t *worldTxn) error {
	p := t.parts[w.random.IntN(len(t.parts))]
	ballot := kv.Ballot{Round: 1 + uint64(w.random.IntN(3)), Shard: p.shard.id, Term: uint64(p.shard.term)}
	for _, kind := range []kv.Kind{kv.KindTxnPromise, kv.KindTxnAccept} {
		if w.random.IntN(3) == 0 {
			return nil
		}
		r := t.request(kv.KindTxnPrepare, p)
		r.Kind, r.Commit.Share, r.Commit.Patient = kind, nil, false
		r.Commit.Ballot, r.Commit.Decision = ballot, kv.Decision{Verdict: kv.Abort}
		out, err := w.ask(p.shard, r, nil)
		if err != nil {
			return err
		}
		if c := commitOf(out); c != nil && c.Standing == kv.StandingPromised {
			w.seen["promised"]++
		}
	}
	return nil
}

// commit notes what the transaction came to. Afterwards it is certain.
func (w *commitWorld) commit(t *worldTxn) {
	w.seen["committed"]++
	for _, p := range t.parts {
		p.shard.journal = append(p.shard.journal, journalItem{at: t.decision.Revision, share: p.share, results: p.answer.Results, effects: p.answer.Writes})
	}
}

func (w *commitWorld) abort(t *worldTxn) {
	w.seen["aborted"]++
	t.decision, t.decided = kv.Decision{Verdict: kv.Abort}, true
	for _, p := range t.parts {
		if p.phase != ended {
			p.phase, p.index = toAsk, 0
		}
	}
}

func (w *commitWorld) prepareOne(t *worldTxn) error {
	for _, p := range t.parts {
		if p.phase == toAsk {
			return w.toParticipant(p, kv.KindTxnPrepare)
		}
		if t.patient && p.phase != prepared {
			return nil // one after the other
		}
	}
	return nil
}

func (w *commitWorld) resolveOne(t *worldTxn) error {
	p := t.parts[w.random.IntN(len(t.parts))]
	if p.phase == underWay || p.phase == ended && w.random.IntN(4) > 0 {
		return nil
	}
	return w.toParticipant(p, kv.KindTxnResolve)
}

func (w *commitWorld) numberTxn(t *worldTxn) error {
	t.decision = kv.Decision{Verdict: kv.Commit, Revision: w.last}
	if slices.ContainsFunc(t.parts, func(p *worldPart) bool { return p.answer.Writes }) {
		if t.decision = (kv.Decision{}); w.disturbs(nil) {
			return nil
		}
		w.last++
		t.decision = kv.Decision{Verdict: kv.Commit, Revision: w.last}
	}
	return nil
}

func (w *commitWorld) toParticipant(p *worldPart, kind kv.Kind) error {
	if p.phase == underWay {
		return nil
	}
	r := p.txn.request(kind, p)
	if w.random.IntN(2) == 0 {
		r.Commit.Finished = w.finished(p.txn)
	}
	if err := w.openBatch(p.shard); err != nil || p.shard.group.leader.Sealed() {
		return err
	}
	e := &evaluatedHere{request: r, part: p}
	return w.heard(p.shard, e, p.shard.group.leader.Evaluate(r))
}

// heard is what the coordinator makes of an outcome.
func (w *commitWorld) heard(s *commitShard, e *evaluatedHere, out Outcome) error {
	p, t, kind := e.part, e.part.txn, e.request.Kind
	if stale := kind == kv.KindTxnPrepare && t.decided; stale {
		p = &worldPart{txn: t, shard: s, phase: ended} // nobody waits for it
		e.part = p
	}
	if _, err := w.took(s, e, out); err != nil {
		return err
	}
	switch c := commitOf(out); {
	case out.Beside != nil:
		p.phase, p.kind, p.index = underWay, kind, 0
	case out.Blocked, out.Unnumbered:
		if p.phase == underWay {
			p.phase = toAsk
		}
		if out.Blocked && kind == kv.KindTxnPrepare && w.random.IntN(10) == 0 && !t.decided {
			w.seen["withdrawn"]++
			s.group.leader.Withdraw(e.request)
		}
	case out.Err != nil && kind == kv.KindTxnDecide && errors.Is(out.Err, kv.ErrLeaderChanged):
		w.seen["anchor lost"]++
		w.abort(t)
	case out.Err != nil && kind == kv.KindTxnPrepare:
		w.seen["refused"]++
		if !t.decided {
			w.abort(t)
		}
	case out.Err != nil:
		return fmt.Errorf("request of kind %d about %v: %w", kind, t.id, out.Err)
	case kind == kv.KindTxnPrepare && t.decided:
	case kind == kv.KindTxnPrepare && c.Standing != kv.StandingPrepared:
		switch {
		case c.Busy:
			w.seen["busy"]++
		case c.Met != nil:
			w.seen["not met"]++
		}
		w.abort(t)
	case kind == kv.KindTxnPrepare:
		if e.outcome.Effects {
			w.seen["prepared"]++
		}
		p.answer = c
		p.phase, p.kind, p.index = underWay, kind, 0
	case c.Standing == kv.StandingOver && p.phase == ended, p.phase == ended && c.Decision == t.decision:
	case c.Standing == kv.StandingResolved && c.Decision == t.decision:
		p.phase, p.kind, p.index = underWay, kind, 0
	default:
		return fmt.Errorf("request of kind %d about %v, which is decided as %+v, is answered with %+v", kind, t.id, t.decision, c)
	}
	return nil
}

// finish brings everything to an end, and compares it with the model.
func (w *commitWorld) finish() error {
	for range 10_000 {
		for _, s := range w.shards {
			if err := errors.Join(w.beside(s), w.numberBatch(s), s.group.catchUpWatching(w, s)); err != nil {
				return err
			}
		}
		if len(w.txns) == 0 {
			break
		}
		if err := w.moveTxn(); err != nil {
			return err
		}
	}
	if len(w.txns) > 0 {
		return fmt.Errorf("transaction %v does not end: decision %+v", w.txns[0].id, w.txns[0].decision)
	}
	for _, s := range w.shards {
		if err := w.finishShard(s); err != nil {
			return fmt.Errorf("shard %d: %w", s.id, err)
		}
	}
	return nil
}

func (w *commitWorld) finishShard(s *commitShard) error {
	m := s.group.leader
	for range 100 { // what is beside the rounds, and what waits for locks
		if err := errors.Join(w.wake(s), w.beside(s), w.numberBatch(s), s.group.catchUpWatching(w, s)); err != nil {
			return err
		}
	}
	if len(s.waiting) > 0 {
		return fmt.Errorf("%d requests wait for locks for ever", len(s.waiting))
	}
	if m.lead.contention.locks.Len() > 0 || m.lead.contention.queue.Len() > 0 || m.Contended() {
		return fmt.Errorf("%d transactions hold locks, %d wait", m.lead.contention.locks.Len(), m.lead.contention.queue.Len())
	}
	for _, of := range w.shards { // all are over
		if err := w.openBatch(s); err != nil {
			return err
		}
		m.Evaluate(&kv.Request{Kind: kv.KindTxnResolve, Commit: &kv.CommitRequest{Shard: s.id, Finished: kv.Finished{At: kv.TransactionID{Anchor: of.id, Term: uint64(of.term), Number: w.number + 1}}}})
	}
	for s.open {
		if err := w.numberBatch(s); err != nil {
			return err
		}
	}
	if err := s.group.catchUpWatching(w, s); err != nil {
		return err
	}
	for int(s.follower.AppliedIndex()) < len(s.group.log) {
		if err := w.applyOne(s, s.follower); err != nil {
			return err
		}
	}
	if got, want := dumpCommits(s.follower), dumpCommits(m); got != want || len(m.transactions.records) > 0 {
		return fmt.Errorf("known of transactions is\n%s at the follower and\n%s at the leader", got, want)
	}
	sequential, err := s.replay()
	if err != nil {
		return err
	}
	twin := &numberedShard{model: sequential}
	return errors.Join(twin.compareStates(m), twin.compareStates(s.follower))
}

// replay does what came to an end once more, in the order of revisions.
func (s *commitShard) replay() (*model.Store, error) {
	slices.SortStableFunc(s.journal, func(a, b journalItem) int {
		order := func(i journalItem) int {
			if i.effects {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(order(a), order(b)))
	})
	m := model.New()
	for i := range s.journal {
		item := &s.journal[i]
		if item.effects {
			if m.Revision() >= item.at {
				return nil, fmt.Errorf("revision %d was used twice", item.at)
			}
			m.Advance(item.at - 1)
		} else {
			m.Advance(item.at)
		}
		err := item.replayShare(m)
		if item.request != nil {
			err = item.replayRequest(m)
		}
		if err != nil {
			return nil, fmt.Errorf("at revision %d: %w", item.at, err)
		}
		if m.Revision() != item.at {
			return nil, fmt.Errorf("at revision %d the model comes to %d", item.at, m.Revision())
		}
	}
	return m, nil
}

func (i *journalItem) replayRequest(m *model.Store) error {
	want, err := m.Apply(i.request)
	if got := describe(i.got); err != nil || got != describe(want) {
		return fmt.Errorf("%s:\n got %s\nwant %s %v", describe(i.request), got, describe(want), err)
	}
	return nil
}

func (i *journalItem) replayShare(m *model.Store) error {
	if i.share == nil {
		return nil
	}
	whole := &kv.TxnRequest{}
	for _, e := range i.share.Compares {
		alone := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{e.Compare}}}
		if got, err := m.Apply(alone); err != nil || got.Txn.Succeeded != e.Holds {
			return fmt.Errorf("a transaction committed although %s was expected to be %v: %v", describe(e.Compare), e.Holds, err)
		}
	}
	for _, op := range i.share.Ops {
		whole.Success = append(whole.Success, op.Op)
	}
	want, err := m.Apply(&kv.Request{Kind: kv.KindTxn, Txn: whole})
	if err != nil {
		return err
	}
	for at := range i.results {
		got := &i.results[at]
		want.Txn.Responses[at].Revision = 0
		if r := i.share.Ops[at].Op.Range; r != nil {
			decided := kv.RangeResponse{Count: got.Range.Count, KVs: slices.Clone(got.Range.KVs)}
			for at := range decided.KVs {
				numberedKV(&decided.KVs[at], i.at)
			}
			if r.Finish(&decided); r.CountOnly {
				decided.KVs = nil
			}
			got = &kv.OpResponse{Range: &decided}
		} else {
			numberedAnswer(got, i.at)
		}
		if describe(got) != describe(want.Txn.Responses[at]) {
			return fmt.Errorf("%s in a transaction:\n got %s\nwant %s", describe(i.share.Ops[at].Op), describe(got), describe(want.Txn.Responses[at]))
		}
	}
	return nil
}

func numberedAnswer(o *kv.OpResponse, at kv.Revision) {
	if o.Put != nil && o.Put.Prev != nil {
		numberedKV(o.Put.Prev, at)
	}
	if o.DeleteRange != nil {
		for i := range o.DeleteRange.Prev {
			numberedKV(&o.DeleteRange.Prev[i], at)
		}
	}
}

func numberedKV(e *kv.KeyValue, at kv.Revision) {
	for _, rev := range [...]*kv.Revision{&e.ModRevision, &e.CreateRevision} {
		if *rev == kv.Unnumbered {
			*rev = at
		}
	}
}

func runCommitWorld(seed uint64, steps int) (*commitWorld, error) {
	w, err := newCommitWorld(seed)
	if err != nil {
		return nil, err
	}
	for i := range steps {
		if err := w.step(); err != nil {
			return w, fmt.Errorf("seed %d, step %d: %w", seed, i, err)
		}
	}
	if err := w.finish(); err != nil {
		return w, fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	return w, nil
}

func TestCommitTwin(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 40
	}
	total := map[string]int{}
	for seed := range seeds {
		w, err := runCommitWorld(seed, 600)
		if err != nil {
			t.Fatal(err)
		}
		for name, n := range w.seen {
			total[name] += n
		}
	}
	t.Log(total)
	for _, name := range []string{"committed", "aborted", "busy", "not met", "blocked", "unnumbered", "share beside", "bulk", "anew", "not asked", "held", "held back",
		"out of order", "read as of closed", "leader read", "crash with records", "lost", "promised", "anchor lost", "prepared again", "withdrawn", "refused"} {
		if total[name] == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
}
