package shard

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// A shard that is one of several gets its revisions from the sequencer, which numbers the writes of all of them (Options.Sequenced). A number is issued
// when a write is decided (rule 1), so a leader evaluates on provisional ones, and then asks for as many as it needs (rules 31, 32). What it evaluates
// between Begin and Number is a batch. Its numbers are in a row, so that the entry of a batch looks like that of a shard that is alone: it only
// does not begin where the last one ended.

// batch is what a leader has evaluated since Begin.
type batch struct {
	// base is the last revision that was issued to anybody when the batch began, as far as it is known here. What is above it in this shard is provisional.
	base kv.Revision
	// exact: nobody else gets a number before this batch, unless Number says so. Then what is provisional is right.
	exact bool
	// firm: something was decided by provisional revisions, and would perhaps be decided otherwise if they moved by more than room.
	firm     bool
	room     kv.Revision
	numbered bool
	// lowest is the lowest past revision that something in it reads at, 0 if nothing does.
	lowest kv.Revision
	// informed: since the request that is evaluated came, base was the last revision that was issued, or a lower one was.
	informed bool
	// responses may tell provisional revisions. Their space is used again, up to keptResponses.
	responses []*kv.Response
}

// errUnnumbered ends an evaluation that would have to know a revision that is provisional (rule 33).
var errUnnumbered = errors.New("the request depends on a revision that is not known yet")

// ErrBegunAnew: the numbers of a batch are not those that something in it was decided by, or something in it reads what is compacted. BeginAnew forgets it.
var ErrBegunAnew = errors.New("shard: what was evaluated depends on other revisions than it got")

// Begin says that what is evaluated next is a batch. present says which revision is the last that was issued to anybody, and up to where history was
// compacted; or was so at some time. exact: nothing is issued to anybody else before the batch has its numbers; the caller holds the sequencer still. The
// batch before must be in a proposal. Driver.
func (m *Machine) Begin(present kv.Present, exact bool) error {
	l, now := m.lead, max(present.Revision, present.Compacted)
	switch {
	case l == nil || !m.options.Sequenced:
		return fmt.Errorf("begin a batch without leading a shard whose revisions come from elsewhere: %w", ErrInconsistent)
	case l.batch != nil && !l.batch.numbered || l.overlay.takenChanges < l.overlay.changes.end():
		return fmt.Errorf("begin a batch before the one before is proposed: %w", ErrInconsistent)
	case exact && now < l.revision && l.revision <= m.transactions.lastResolved:
		exact = false // a transaction got a higher one from another sequencer: the one here is not it any more
	case exact && now < l.revision:
		return fmt.Errorf("revision %d is said to be the last that was issued, and %d was issued to this shard: %w", now, l.revision, ErrInconsistent)
	}
	l.revision = max(l.revision, now) // the log may know more than whoever was asked
	if l.batch == nil {
		l.batch = new(batch)
	}
	*l.batch = batch{base: l.revision, exact: exact, responses: l.batch.responses[:0]}
	m.follow(present.Compacted)
	return nil
}

// EvaluateInformed is Evaluate of a request for which that said Outcome.Unnumbered, after Number has told what was issued last: a revision above that was in
// the future since the request came. Driver.
func (m *Machine) EvaluateInformed(r *kv.Request) Outcome {
	b := m.lead.batch
	b.informed = true
	out := m.Evaluate(r)
	b.informed = false
	return out
}

// Unnumbered is how many revisions the batch needs. Driver.
func (m *Machine) Unnumbered() int {
	if m.lead == nil || m.lead.batch == nil || m.lead.batch.numbered {
		return 0
	}
	return int(m.lead.revision - m.lead.batch.base)
}

// Bounds are what the revisions of the batch must keep to, for what was decided to hold. Driver.
func (m *Machine) Bounds() (bounds kv.Bounds) {
	if m.lead == nil || m.lead.batch == nil || m.lead.batch.numbered {
		return bounds
	}
	b := m.lead.batch
	if b.firm {
		bounds.Most = b.base + 1 + b.room
	}
	if b.lowest != 0 {
		bounds.Compacted = max(b.lowest, m.lead.floor)
	}
	return bounds
}

// NeedsPresent tells whether Number has to be told how far the store is, although all that was decided in the batch are requests about transactions over
// several shards: one needs a revision, tells a provisional one, or reads as of a past one. Driver.
func (m *Machine) NeedsPresent() bool {
	if m.lead == nil || m.lead.batch == nil || m.lead.batch.numbered {
		return false
	}
	b := m.lead.batch
	return m.lead.revision > b.base || len(b.responses) > 0 || b.lowest != 0
}

// Number gives the batch its revisions: as many in a row as it needs, from first on. With none needed, first is the next that will be issued to somebody; 0 if
// there is no answer that would tell it. Answers and effects then tell these. compacted is up to where history was compacted when they were issued, or
// later. After ErrBegunAnew nothing has happened. Driver.
func (m *Machine) Number(first, compacted kv.Revision) error {
	l := m.lead
	if l == nil || l.batch == nil || l.batch.numbered {
		return fmt.Errorf("revision %d is given to a batch that is not there: %w", first, ErrInconsistent)
	}
	b := l.batch
	if first == 0 && l.revision == b.base && len(b.responses) == 0 {
		b.numbered = true
		return nil
	}
	if first <= b.base && b.base <= m.transactions.lastResolved {
		return ErrBegunAnew // it comes from a sequencer that is not it any more
	}
	if first <= b.base || first > maxRevision-(l.revision-b.base) {
		return fmt.Errorf("revision %d is given to a batch that began when %d was issued: %w", first, b.base, ErrInconsistent)
	}
	if b.readsBelow(l.floor, compacted) {
		return ErrBegunAnew
	}
	l.floor = max(l.floor, compacted)
	by := shift{above: b.base, by: first - 1 - b.base}
	if by.by != 0 {
		if !b.mayMove(by.by) {
			return ErrBegunAnew
		}
		by.overlay(l.overlay)
		for _, r := range b.responses {
			by.response(r)
		}
		l.revision += by.by
	}
	b.numbered = true
	b.forgetResponses()
	return nil
}

// keptResponses is for how many answers a batch keeps space.
const keptResponses = 64

func (b *batch) forgetResponses() {
	if cap(b.responses) > keptResponses {
		b.responses = nil
		return
	}
	clear(b.responses)
	b.responses = b.responses[:0]
}

// BeginAnew begins the leadership of the same term once more, after ErrBegunAnew: the batch is forgotten, and nothing of it has or will have an effect. So are
// requests that are decided beside the rounds. Nothing that was proposed may be in flight. Exclusive.
func (m *Machine) BeginAnew() error {
	l := m.lead
	if l == nil || l.overlay.proposals.size() > 0 {
		return fmt.Errorf("begin a leadership anew that has something in flight, or is none: %w", ErrInconsistent)
	}
	term, seq, now := l.term, l.seq, l.now
	m.Follow()
	m.lead = m.newLeadership(term, now)
	m.lead.seq = seq
	if m.store.Staged() > 0 {
		m.lead.overlay.addOp(op{kind: opUnstage})
	}
	return nil
}

// issued is the last revision that is known to be issued and not provisional; everything of this shard below it that is not in flight is applied.
func (l *leadership) issued() kv.Revision {
	if b := l.batch; b != nil && !b.numbered {
		return b.base
	}
	return l.revision
}

// mayDecide tells why nothing can be decided now.
func (m *Machine) mayDecide() error {
	if b := m.lead.batch; m.options.Sequenced && (b == nil || b.numbered) {
		return fmt.Errorf("something is decided outside of a batch: %w", ErrInconsistent)
	}
	return nil
}

// told remembers a response that may tell provisional revisions.
func (l *leadership) told(r *kv.Response) {
	if l.batch != nil && r != nil {
		l.batch.responses = append(l.batch.responses, r)
	}
}

// compares is called before revisions of keys are compared with a bound. Whatever is provisional is above the base: only a bound that is so, too, can
// make a difference.
func (ev *evaluation) compares(bound kv.Revision) error {
	b := ev.batch
	if b == nil || bound <= b.base || ev.now() == b.base {
		return nil
	}
	return b.stays(bound, ev.now())
}

// stays notes that revisions up to last were compared with a bound above the base. Those that are provisional can only become higher. If all of them are below the
// bound, the outcome holds as long as none reaches it. Otherwise they must be exact. What is first in a batch, because it could not be decided in the one before,
// takes them for exact: they are unless another shard writes just now. If so, it has another try, with a higher base; so the bound is below that some day.
func (b *batch) stays(bound, last kv.Revision) error {
	if bound > last {
		b.limit(bound - 1 - last)
		return nil
	}
	if b.informed {
		b.limit(0)
		return nil
	}
	return b.decides()
}

// reaches is called before the state at a revision is read, or that revision is refused because it is in the future.
func (ev *evaluation) reaches(rev kv.Revision) error {
	b := ev.batch
	if b == nil {
		return nil
	}
	if rev > b.base && !(b.informed && ev.now() == b.base) {
		return b.decides()
	}
	b.reads(rev)
	return nil
}

// decides notes that a provisional revision matters; without exact ones it must not.
func (b *batch) decides() error {
	if !b.exact {
		return errUnnumbered
	}
	b.limit(0)
	return nil
}

// limit keeps what is provisional from moving by more than room.
func (b *batch) limit(room kv.Revision) {
	if !b.firm || room < b.room {
		b.firm, b.room = true, room
	}
}

// mayMove tells whether what was decided still holds if what is provisional moves.
func (b *batch) mayMove(by kv.Revision) bool {
	return !b.firm || by <= b.room
}

// shift moves provisional revisions: those above what was issued when they were made up.
type shift struct{ above, by kv.Revision }

func (s shift) revision(r kv.Revision) kv.Revision {
	if r > s.above && r < kv.Unnumbered {
		return r + s.by
	}
	return r
}

// header moves what an answer says about the revision of the store. Before the first write of the batch it is the base: what was issued last by then.
func (s shift) header(r kv.Revision) kv.Revision {
	if r >= s.above {
		return r + s.by
	}
	return r
}

func (s shift) overlay(o *overlay) {
	for at := o.takenChanges; at < o.changes.end(); at++ {
		s.effect(&o.changes.at(at).Effect)
	}
	for at := o.takenOps; at < o.ops.end(); at++ {
		switch p := o.ops.at(at); p.kind {
		case opBulk:
			p.revision = s.revision(p.revision)
		case opPrepare:
			for i := range p.record.effects {
				s.effect(&p.record.effects[i])
			}
		}
	}
}

func (s shift) effect(e *mvcc.Effect) {
	e.At.Rev, e.Prev.Rev, e.Create = s.revision(e.At.Rev), s.revision(e.Prev.Rev), s.revision(e.Create)
}

func (s shift) response(r *kv.Response) {
	if s.by == 0 {
		return
	}
	r.Revision = s.header(r.Revision)
	switch {
	case r.Range != nil:
		s.keyValues(r.Range.KVs)
	case r.Put != nil && r.Put.Prev != nil:
		s.keyValue(r.Put.Prev)
	case r.DeleteRange != nil:
		s.keyValues(r.DeleteRange.Prev)
	case r.Txn != nil:
		s.ops(r.Txn.Responses)
	case r.Commit != nil:
		s.ops(r.Commit.Results)
	}
}

func (s shift) ops(responses []kv.OpResponse) {
	for i := range responses {
		o := &responses[i]
		if o.Revision != 0 { // etcd leaves it empty with nested transactions
			o.Revision = s.header(o.Revision)
		}
		switch {
		case o.Range != nil:
			s.keyValues(o.Range.KVs)
		case o.Put != nil && o.Put.Prev != nil:
			s.keyValue(o.Put.Prev)
		case o.DeleteRange != nil:
			s.keyValues(o.DeleteRange.Prev)
		case o.Txn != nil:
			s.ops(o.Txn.Responses)
		}
	}
}

func (s shift) keyValues(list []kv.KeyValue) {
	for i := range list {
		s.keyValue(&list[i])
	}
}

func (s shift) keyValue(e *kv.KeyValue) {
	e.ModRevision, e.CreateRevision = s.revision(e.ModRevision), s.revision(e.CreateRevision)
}
