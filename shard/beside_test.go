package shard

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/storage"
)

// besideTwin holds what a twin decides beside the rounds, and counts what happened to it.
type besideTwin struct {
	waiting []*Beside
	decided []besideInTwin
	staged  []besideInTwin // in the order in which they came

	effects, answers, failed, blocked, again, dropped, bulks, abandoned int
}

// besideInTwin is a request that was decided, with the model as it was then: without what was in flight.
type besideInTwin struct {
	job   *Beside
	model *model.Store
}

func (b *besideTwin) add(o *besideTwin) {
	b.effects += o.effects
	b.answers += o.answers
	b.failed += o.failed
	b.blocked += o.blocked
	b.again += o.again
	b.dropped += o.dropped
	b.bulks += o.bulks
	b.abandoned += o.abandoned
}

// drop is called when leadership ends.
func (b *besideTwin) drop() {
	b.dropped += len(b.waiting) + len(b.decided) + len(b.staged)
	for _, job := range b.waiting {
		job.Drop()
	}
	for _, d := range append(b.decided, b.staged...) {
		d.job.Drop()
	}
	b.waiting, b.decided, b.staged = nil, nil, nil
}

// takeBeside takes note of a request that is not decided yet: nothing has happened.
func (t *twin) takeBeside(r *kv.Request, out Outcome) error {
	switch {
	case out.Effects || out.Response != nil || out.Err != nil:
		return fmt.Errorf("%s: not decided, and yet %+v", describe(r), out)
	case out.Beside != nil:
		t.besides.waiting = append(t.besides.waiting, out.Beside)
	case len(t.besides.waiting)+len(t.besides.decided)+len(t.besides.staged) == 0 && !t.group.leader.lead.bulkInFlight():
		return fmt.Errorf("%s waits for nothing", describe(r))
	default:
		t.besides.blocked++
	}
	return t.sameRevision()
}

// stepBeside decides a request, or finishes one.
func (t *twin) stepBeside() error {
	b, m := &t.besides, t.group.leader
	if len(b.staged) > 0 && t.random.IntN(4) > 0 {
		return t.stepBulk()
	}
	if n := len(b.decided); n > 0 && t.random.IntN(2) == 0 {
		i := t.random.IntN(n)
		d := b.decided[i]
		b.decided = slices.Delete(b.decided, i, i+1)
		return t.finishBeside(d)
	}
	job := m.NextBeside()
	if job == nil {
		return nil
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(w *Beside) bool { return w == job })
	b.decided = append(b.decided, besideInTwin{job, t.saved[m.AppliedIndex()].Clone()})
	job.Run(func() bool { return false })
	return t.sameRevision()
}

// stepBulk goes on with a bulk, or gives one up. What takes effect is proposed before anything else is evaluated.
func (t *twin) stepBulk() error {
	b, m := &t.besides, t.group.leader
	if t.random.IntN(40) == 0 {
		i := t.random.IntN(len(b.staged))
		d := b.staged[i]
		b.staged = slices.Delete(b.staged, i, i+1)
		b.abandoned++
		err := m.AbandonBulk(d.job)
		d.job.Drop()
		return errors.Join(err, t.sameRevision())
	}
	job, out := m.StepBulk()
	if job == nil {
		_, err := m.flushSome(4) // it may wait for that
		return errors.Join(err, t.applyBulk(m), t.sameRevision())
	}
	i := slices.IndexFunc(b.staged, func(d besideInTwin) bool { return d.job == job })
	d := b.staged[i]
	b.staged = slices.Delete(b.staged, i, i+1)
	if err := t.endBeside(d, out); err != nil {
		return err
	}
	if out.Effects {
		b.bulks++
		t.propose()
	}
	return t.sameRevision()
}

// applyBulk applies some of what is pending on a replica.
func (t *twin) applyBulk(r *replica) error {
	if _, pending := r.Bulk(); pending == 0 {
		return nil
	}
	return r.batch(func(b storage.Batch) error { r.ApplyBulk(b, 1+t.random.IntN(3)); return nil })
}

// finishBeside: an answer with effects is the one of now; one without may be of the moment of the view, too.
func (t *twin) finishBeside(d besideInTwin) error {
	out := t.group.leader.FinishBeside(d.job)
	if out.Staged {
		t.besides.staged = append(t.besides.staged, d)
		return t.sameRevision()
	}
	return t.endBeside(d, out)
}

func (t *twin) endBeside(d besideInTwin, out Outcome) error {
	r, b := d.job.request, &t.besides
	switch {
	case out.Fatal != nil:
		return out.Fatal
	case out.Blocked:
		b.again++
		return t.sameRevision()
	case out.Effects:
		b.effects++
		return t.answersAs(t.model, r, out)
	case out.Err != nil:
		b.failed++
	default:
		b.answers++
	}
	now := t.model.Clone()
	if asNow := t.answersAs(now, r, out); asNow != nil {
		if before := t.answersAs(d.model, r, out); before != nil {
			return fmt.Errorf("%w;\nat the time of its view: %w", asNow, before)
		}
	}
	return t.sameRevision()
}

// answersAs compares an outcome with what a model says, which applies the request.
func (t *twin) answersAs(m *model.Store, r *kv.Request, out Outcome) error {
	want, wantErr := m.Apply(r)
	if !errors.Is(out.Err, wantErr) || (wantErr == nil) != (out.Err == nil) {
		return fmt.Errorf("%s: error %v, want %v", describe(r), out.Err, wantErr)
	}
	if wantErr == nil && describe(out.Response) != describe(want) {
		return fmt.Errorf("%s:\n got %s\nwant %s", describe(r), describe(out.Response), describe(want))
	}
	return t.sameRevision()
}

// TestOutdates: a transaction is decided again if its revision changes and one of its ranges may tell, and not for ever.
func TestOutdates(t *testing.T) {
	filtered := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Failure: []kv.Op{
		{Put: &kv.PutRequest{Key: []byte("a")}}, {Txn: &kv.TxnRequest{Success: []kv.Op{{Range: &kv.RangeRequest{MinMod: 7}}}}},
	}}}
	for _, c := range []struct {
		from, to kv.Revision
		batch    *batch
		outdates bool
		room     kv.Revision // by how much what is provisional may move after that; -1: by any
	}{
		{from: 7, to: 7}, {from: 6, to: 7, outdates: true}, {from: 7, to: 8, outdates: true}, {from: 5, to: 6}, {from: 8, to: 9},
		{from: 4, to: 5, batch: &batch{base: 4}, room: 1},
		{from: 5, to: 6, batch: &batch{base: 5}},
		{from: 5, to: 6, batch: &batch{base: 5, exact: true}},
		{from: 8, to: 9, batch: &batch{base: 8}, room: -1},
	} {
		l := &leadership{evaluation: evaluation{batch: c.batch}}
		got := l.outdates(shift{above: c.from - 1, by: c.to - c.from}, filtered)
		if b := c.batch; got != c.outdates || b != nil && (b.firm != (c.room >= 0) || b.firm && b.room != c.room) {
			t.Errorf("from revision %d to %d, batch %+v: outdated %v", c.from, c.to, c.batch, got)
		}
	}
}
