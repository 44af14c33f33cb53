package shard

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
)

// A share that takes longer than a round may is decided beside the rounds, on a view, under latches. When it is, it becomes a prepare with locks: in between
// nobody can come.

// besideShare takes latches for a share that turned out to be long. If it stood in the queue, it was its turn.
func (m *Machine) besideShare(r *kv.Request) Outcome {
	l, id := m.lead, r.Commit.ID
	if err := m.mayGoBeside(); err != nil {
		return m.commitFailed(r, err)
	}
	b := &Beside{request: r, lead: l, shareBytes: m.options.MaxShareBytes}
	l.contention.leavePatient(id)
	if release := r.Commit.Share.Release; release != nil {
		b.latches = l.latchLease(release, true)
	} else {
		b.latches = l.latches.Add(latch.Merge(shareAccesses(r.Commit.Share)))
	}
	if l.contention.beside == nil {
		l.contention.beside = make(map[kv.TransactionID]struct{})
	}
	l.contention.beside[id] = struct{}{}
	b.informed = l.batch != nil && l.batch.informed
	l.besides = append(l.besides, b)
	return Outcome{Beside: b}
}

// runShare decides the share.
func (b *Beside) runShare() (err error) {
	if b.request.Commit.Share.Release != nil {
		return b.releaseShare()
	}
	if b.share, err = b.state.share(b.request.Commit.Share, b.shareBytes); err != nil {
		return err
	}
	for i := range b.share.effects {
		if id := b.share.effects[i].Lease; id != 0 {
			b.leases = append(b.leases, id)
		}
	}
	return nil
}

// finishShare gives the latches back, and takes the locks in their place.
func (m *Machine) finishShare(b *Beside) Outcome {
	l, ops := m.lead, m.lead.overlay.ops.end()
	delete(l.contention.beside, b.request.Commit.ID)
	m.freed++
	if err := l.unlatch(b); err != nil {
		return Outcome{Fatal: err}
	}
	answer, err := m.shareTakesEffect(b)
	if err != nil {
		b.Drop()
		return m.commitFailed(b.request, err)
	}
	response := &kv.Response{Kind: b.request.Kind, Commit: answer}
	return Outcome{Response: response, Effects: l.overlay.ops.end() > ops, WaitFor: l.waitFor()}
}

func (m *Machine) shareTakesEffect(b *Beside) (*kv.CommitResponse, error) {
	c, done := b.request.Commit, &b.share
	known := m.recordEvaluated(c.ID)
	if answer, err := m.notToPrepare(c, known); err != nil || answer != nil {
		return answer, err
	}
	if _, err := m.mayTakeEffect(b); err != nil {
		return nil, err
	}
	if known == nil {
		if err := m.mayPrepare(c.Share); err != nil {
			return nil, err
		}
	}
	accesses := shareAccesses(c.Share)
	if b := c.Share.Release; b != nil {
		if !m.toRelease(b) {
			return m.prepared(c, known, nil, &shareOutcome{}) // somebody else has done it
		}
		accesses = done.deletions()
	}
	return m.prepared(c, known, accesses, done)
}
