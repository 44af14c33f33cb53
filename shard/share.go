package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// A share is evaluated as a transaction is, on the state overlaid with all that is in flight, but at a revision above everything (kv.Unnumbered), and nothing of
// it stays in the overlay.

// maxPlace is the last place that a sub-number has room for.
const maxPlace = 1<<(32-mvcc.PlaceBits) - 1

// shareOutcome is what a share comes to.
type shareOutcome struct {
	met     []bool // if not all compares came out as expected; then there is nothing else
	results []kv.OpResponse
	effects []mvcc.Effect
	release *kv.LeaseBinding // the lease whose keys these are, all of them
}

func (o *shareOutcome) answer() *kv.CommitResponse {
	return &kv.CommitResponse{Standing: kv.StandingPrepared, Writes: len(o.effects) > 0, Results: o.results}
}

// share decides a share.
func (ev *evaluation) share(s *kv.Share, maxBytes int) (done shareOutcome, err error) {
	if done.met, err = ev.met(s.Compares); err != nil || done.met != nil {
		return done, err
	}
	for i := range s.Ops {
		if err := ev.checkOp(&s.Ops[i].Op); err != nil {
			return done, err
		}
	}
	if err := ev.tally.Add(int64(len(s.Ops)) * opAnswerBytes); err != nil {
		return done, err
	}
	changes, revision := ev.overlay.changes.end(), ev.revision
	ev.revision, ev.nextSub = kv.Unnumbered-1, 0
	defer func() {
		ev.overlay.rollback(changes)
		ev.revision, ev.nextSub = revision, 0
	}()
	done.results = make([]kv.OpResponse, len(s.Ops))
	for i := range s.Ops {
		ev.nextSub = s.Ops[i].Place << mvcc.PlaceBits
		if err := ev.shareOp(&s.Ops[i].Op, &done.results[i]); err != nil {
			return shareOutcome{}, err
		}
	}
	if ev.overlay.bytesSince(changes) > maxBytes {
		return shareOutcome{}, kv.BeyondLimit(fmt.Sprintf("effects of a transaction over several shards in one of them (%d bytes)", maxBytes), kv.ErrRequestTooLarge)
	}
	for at := changes; at < ev.overlay.changes.end(); at++ {
		done.effects = append(done.effects, ev.overlay.changes.at(at).Effect)
	}
	return done, nil
}

// met tells which compares came out as expected; nil: all did.
func (ev *evaluation) met(compares []kv.Expectation) ([]bool, error) {
	met, all := make([]bool, len(compares)), true
	for i := range compares {
		holds, err := compareHolds(ev, &compares[i].Compare)
		if err != nil {
			return nil, err
		}
		met[i] = holds == compares[i].Holds
		all = all && met[i]
	}
	if all {
		return nil, nil
	}
	return met, nil
}

// checkOp refuses an operation by the state before the transaction, as checkPath does.
func (ev *evaluation) checkOp(o *kv.Op) error {
	switch {
	case o.Range != nil:
		return checkRangeRevision(ev, o.Range)
	case o.Put != nil:
		return ev.checkPut(o.Put)
	}
	return nil
}

func (ev *evaluation) shareOp(o *kv.Op, answer *kv.OpResponse) (err error) {
	switch {
	case o.Range != nil:
		answer.Range, err = ev.scan(rawRange(o.Range))
	case o.Put != nil:
		answer.Put = &kv.PutResponse{}
		err = ev.put(o.Put, answer.Put)
	case o.DeleteRange != nil:
		answer.DeleteRange = &kv.DeleteRangeResponse{}
		err = ev.deleteRange(o.DeleteRange, answer.DeleteRange)
	}
	return err
}

// rawRange asks for all keys that may be in the answer to a range of which other shards have a part, too.
func rawRange(r *kv.RangeRequest) *kv.RangeRequest {
	return &kv.RangeRequest{Span: r.Span, Revision: r.Revision, Limit: r.FirstKeys(), KeysOnly: r.KeysSuffice(), CountOnly: r.CountOnly}
}

// eachShareAccess calls fn with what a share reads and writes until it returns false; eachShareAccess returns that.
func eachShareAccess(s *kv.Share, fn func(latch.Access) bool) bool {
	for i := range s.Compares {
		if !fn(latch.Access{Span: s.Compares[i].Compare.Span}) {
			return false
		}
	}
	for i := range s.Ops {
		a := latch.Access{}
		switch o := &s.Ops[i].Op; {
		case o.Range != nil:
			a.Span = o.Range.Span
		case o.Put != nil:
			a = latch.Access{Span: kv.Span{Start: o.Put.Key}, Writes: true}
		case o.DeleteRange != nil:
			a = latch.Access{Span: o.DeleteRange.Span, Writes: true}
		}
		if !fn(a) {
			return false
		}
	}
	return true
}

func shareAccesses(s *kv.Share) []latch.Access {
	list := make([]latch.Access, 0, len(s.Compares)+len(s.Ops))
	eachShareAccess(s, func(a latch.Access) bool {
		list = append(list, a)
		return true
	})
	return list
}

// shareWrites tells what alarms ask for: whether a share may change something, and whether it may put something.
func shareWrites(s *kv.Share) (writes, puts bool) {
	for i := range s.Ops {
		puts = puts || s.Ops[i].Op.Put != nil
		writes = writes || s.Ops[i].Op.Range == nil
	}
	return writes, puts
}

// anyRangeOfShare tells whether a range of a share is accepted.
func anyRangeOfShare(s *kv.Share, accept func(*kv.RangeRequest) bool) bool {
	for i := range s.Ops {
		if r := s.Ops[i].Op.Range; r != nil && accept(r) {
			return true
		}
	}
	return false
}
