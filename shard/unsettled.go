package shard

import "github.com/quoratedb/quorate/kv"

// A shard that is one of several is read as of a revision R that was the last one issued to anybody at some moment. Its leader has to wait for what is in
// flight and has a revision up to R, or may get one (rule 18). What is evaluated later gets a revision above R: it asks for it later.
//
// The changes in flight are in the order of their revisions, and those of a batch without revisions come last: they will get some above the batch's base. Those of
// transactions over several shards are in no order. They are looked at, too; but the record counts until they are applied (Held).

// maxOlder is how many changes in flight of one key are looked at.
const maxOlder = 16

// Unsettled tells whether something that the request reads may be in flight at or below a revision that was issued before the call. If not, the applied
// state has all that there will ever be of it at or below that revision. A machine that does not lead cannot tell, and says yes. It costs what the request
// names, not what is in flight: of a span with many keys it says yes if anything is. Shared.
func (m *Machine) Unsettled(r *kv.Request, at kv.Revision) bool {
	l := m.lead
	switch {
	case l == nil, l.bulkInFlight(): // nobody knows the keys of a bulk
		return true
	case l.overlay.changes.size() == 0 || l.overlay.resolved == 0 && l.mayGet(l.overlay.changes.start) > at:
		return false
	}
	return !r.EachSpan(func(span kv.Span, _ bool) bool { return !l.unsettled(span, at) })
}

func (l *leadership) unsettled(span kv.Span, at kv.Revision) bool {
	if !span.Single() {
		return !span.Empty()
	}
	o := l.overlay
	position, found := o.newest[keyString(span.Start)]
	for range maxOlder {
		switch {
		case !found || position < o.changes.start: // it is none, or applied
			return false
		case l.mayGet(position) <= at:
			return true
		}
		position = o.changes.at(position).older
	}
	return true
}

// mayGet is the lowest revision that a change in flight may have.
func (l *leadership) mayGet(position int64) kv.Revision {
	c := l.overlay.changes.at(position)
	if b := l.batch; b != nil && !b.numbered && position >= l.overlay.takenChanges && !c.resolved {
		return b.base + 1
	}
	return c.At.Rev
}

// Settles returns the last proposal in flight, or the next one, that may have something at or below a revision that was issued before the call; 0: there is
// none. Once it is applied, the state is complete up to that revision, but for transactions that are prepared (Held). Driver.
func (m *Machine) Settles(at kv.Revision) (seq uint64) {
	l := m.lead
	if l == nil {
		return 0
	}
	o := l.overlay
	own := o.changes.end()-o.takenChanges > o.untakenResolved || o.sealed
	if b := l.batch; own && (b == nil || b.numbered || b.base < at) || o.lowestResolved != 0 && o.lowestResolved <= at {
		return l.seq + 1
	}
	proposals := &o.proposals
	for i := proposals.end() - 1; i >= proposals.start; i-- {
		before := m.applied.Revision
		if i > proposals.start {
			before = proposals.at(i - 1).revisionAfterProposal
		}
		if p := proposals.at(i); before < at || p.lowestResolved != 0 && p.lowestResolved <= at {
			return p.seq
		}
	}
	return 0
}
