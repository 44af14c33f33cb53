package shard

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Effects that are too many for one log entry, and for one round, are a bulk (see mvcc): the log has them in parts, which every replica stages, and then
// one op that lets them take effect at the next revision. The parts are evaluated beside the rounds; the latches are kept until the bulk is in
// force, so that nothing that is evaluated meanwhile depends on it. A leader has one bulk on the way at a time, and one part of it. The barrier of
// another term ends what was staged and is not in force.

// bulkPart are some of the effects of a bulk.
type bulkPart struct {
	// from is the revision that the effects are encoded at; the one that they get is not below it.
	from     kv.Revision
	firstSub uint32
	count    int
	encoded  []byte
	effects  []mvcc.Effect // decoded
}

// bulkWriter encodes effects into parts.
type bulkWriter struct {
	maxBytes int // of a part
	parts    []*bulkPart
	effects  int
}

// add encodes the next effect, and returns how many bytes that took.
func (w *bulkWriter) add(e *mvcc.Effect) int {
	var last *bulkPart
	if n := len(w.parts); n > 0 {
		last = w.parts[n-1]
	}
	if last == nil || len(last.encoded) >= w.maxBytes {
		last = &bulkPart{from: e.At.Rev, firstSub: e.At.Sub}
		w.parts = append(w.parts, last)
	}
	before := len(last.encoded)
	last.encoded = appendEffect(last.encoded, e)
	last.count++
	grown := len(last.encoded) - before
	w.effects++
	return grown
}

// bulkOnTheWay is a bulk of a leader.
type bulkOnTheWay struct {
	beside *Beside
	staged int    // parts that were put into the log
	after  uint64 // the proposal with the last one
	// committed: what lets it take effect is in flight.
	committed bool
}

// bulkInFlight tells whether a bulk is in force for what is evaluated, and not applied yet.
func (l *leadership) bulkInFlight() bool { return len(l.bulks) > 0 && l.bulks[0].committed }

// StepBulk does the next step of the request whose effects are put into the log bit by bit, as soon as what it did before is applied. It returns the
// request with its outcome when it is decided, as FinishBeside does; otherwise nil. If there is a next proposal (Sealed), it must be taken before
// anything else is evaluated. Driver.
func (m *Machine) StepBulk() (*Beside, Outcome) {
	l := m.lead
	if l == nil || len(l.bulks) == 0 || l.bulkInFlight() || l.appliedSeq() < max(l.bulks[0].after, l.unstaged) {
		return nil, Outcome{}
	}
	w := l.bulks[0]
	if w.staged == 0 && (m.store.Pending() > 0 || m.flush != nil || m.NeedsFlush()) {
		return nil, Outcome{} // let the replicas get through with the one before
	}
	b := w.beside
	if w.staged < len(b.parts) {
		l.overlay.addOp(op{kind: opStage, part: b.parts[w.staged]})
		b.parts[w.staged] = nil
		w.staged++
		w.after = l.waitFor()
		return nil, Outcome{}
	}
	if l.overlay.untaken() {
		return nil, Outcome{} // its revision has to be the next one
	}
	by, err := m.mayTakeEffect(b)
	if err != nil {
		if err := m.AbandonBulk(b); err != nil {
			return b, Outcome{Fatal: err}
		}
		b.Drop()
		return b, m.failed(err)
	}
	l.revision++
	l.overlay.addOp(op{kind: opBulk, revision: l.revision})
	m.dropNote(b)
	w.committed = true
	if b.releases() { // until it is applied nobody sees what it does
		if err := l.latches.Close(b.latches); err != nil {
			return b, Outcome{Fatal: err}
		}
	}
	if b.more {
		b.state.tally.Release()
		return b, Outcome{Blocked: true, Begun: true, Effects: true, WaitFor: l.waitFor()}
	}
	return b, Outcome{Response: m.besideResponse(b, by), Effects: true, WaitFor: l.waitFor()}
}

// AbandonBulk ends a request that FinishBeside said is to be staged, and that nobody waits for any more. Once StepBulk returned it, it is
// too late. Driver.
func (m *Machine) AbandonBulk(b *Beside) error {
	l := m.lead
	if l == nil || l != b.lead {
		return nil
	}
	i := slices.IndexFunc(l.bulks, func(w *bulkOnTheWay) bool { return w.beside == b })
	if i < 0 || l.bulks[i].committed {
		return fmt.Errorf("abandon a bulk that is not on the way, or takes effect: %w", ErrInconsistent)
	}
	if l.bulks[i].staged > 0 {
		l.overlay.addOp(op{kind: opUnstage})
		l.unstaged = l.waitFor()
	}
	l.bulks = slices.Delete(l.bulks, i, i+1)
	return l.unlatch(b)
}

// Sealed tells whether the next proposal must be taken before anything else is evaluated. Driver.
func (m *Machine) Sealed() bool { return m.lead != nil && m.lead.overlay.sealed }

// Bulk is how many effects are staged, and how many are in force and to be written by ApplyBulk. While there are any no flush begins. Shared.
func (m *Machine) Bulk() (staged, pending int) { return m.store.Staged(), m.store.Pending() }

// ApplyBulk writes some of the effects of a bulk that is in force. The caller applies b before it releases the lock. Exclusive.
func (m *Machine) ApplyBulk(b storage.Batch, maxEffects int) {
	m.store.ApplyBulk(b, maxEffects, func(e *mvcc.Effect) { m.attach(e, b) })
}

// applyPart stages the effects of a part.
func (m *Machine) applyPart(p *bulkPart) {
	for i := range p.effects {
		if p.effects[i].Lease != 0 {
			m.stagedPuts = append(m.stagedPuts, p.effects[i].Key)
		}
	}
	m.store.Stage(p.effects)
}

func (m *Machine) unstage() {
	m.store.Unstage()
	m.stagedPuts = nil
}

// commitBulk lets what is staged take effect.
func (m *Machine) commitBulk(rev kv.Revision, b storage.Batch, done *Applied) error {
	if !m.follows(rev-1) || m.store.Staged() == 0 {
		return fmt.Errorf("a bulk of %d effects is to take effect at revision %d, the state is at %d: %w", m.store.Staged(), rev, m.applied.Revision, ErrInconsistent)
	}
	m.ApplyBulk(b, m.store.Pending()) // this replica may be behind with the one before
	done.Bulk, done.BulkBytes = m.store.CommitBulk(rev)
	m.applied.Revision = rev
	for _, key := range m.stagedPuts { // few: whoever asks for the keys of a lease looks at rows
		m.applyPending(key, b)
	}
	m.stagedPuts = nil
	if m.lead == nil || !m.lead.bulkInFlight() {
		return nil
	}
	w := m.lead.bulks[0]
	m.lead.bulks = m.lead.bulks[1:]
	return m.lead.unlatch(w.beside)
}

// applyPending writes what a bulk does to a key, before something else is written to it.
func (m *Machine) applyPending(key []byte, b storage.Batch) {
	m.store.ApplyPending(b, key, func(e *mvcc.Effect) { m.attach(e, b) })
}
