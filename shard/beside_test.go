package shard

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// besideTwin holds what a twin decides beside the rounds, and counts what happened to it.
type besideTwin struct {
	waiting []*Beside
	decided []besideInTwin

	effects, answers, failed, blocked, again, dropped int
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
}

// drop is called when leadership ends.
func (b *besideTwin) drop() {
	b.dropped += len(b.waiting) + len(b.decided)
	for _, job := range b.waiting {
		job.Drop()
	}
	for _, d := range b.decided {
		d.job.Drop()
	}
	b.waiting, b.decided = nil, nil
}

// takeBeside takes note of a request that is not decided yet: nothing has happened.
func (t *twin) takeBeside(r *kv.Request, out Outcome) error {
	switch {
	case out.Effects || out.Response != nil || out.Err != nil:
		return fmt.Errorf("%s: not decided, and yet %+v", describe(r), out)
	case out.Beside != nil:
		t.besides.waiting = append(t.besides.waiting, out.Beside)
	case len(t.besides.waiting)+len(t.besides.decided) == 0:
		return fmt.Errorf("%s waits for nothing", describe(r))
	default:
		t.besides.blocked++
	}
	return t.sameRevision()
}

// stepBeside decides a request, or finishes one.
func (t *twin) stepBeside() error {
	b, m := &t.besides, t.group.leader
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

// finishBeside: an answer with effects is the one of now; one without may be of the moment of the view, too.
func (t *twin) finishBeside(d besideInTwin) error {
	r := d.job.request
	out := t.group.leader.FinishBeside(d.job)
	b := &t.besides
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
