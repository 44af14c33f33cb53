package shard

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
)

// What others have to know of prepared transactions.

// Held tells whether a transaction that is prepared, and may commit at or below the revision, changes something that a request reads (rule 18). It is to be
// asked right before the read, of a state that has everything else up to there. If so, the read has to wait until something is resolved here, and ask again.
// Shared.
func (m *Machine) Held(r *kv.Request, at kv.Revision) bool {
	t := &m.transactions
	if stamp, held := t.lowestStamp(); !held || stamp >= at {
		return false
	}
	return !r.EachSpan(func(span kv.Span, _ bool) bool { return !t.holdsBelow(span, at) })
}

// holdsBelow tells whether a record with a stamp below the revision changes a key of a span.
func (t *transactions) holdsBelow(span kv.Span, at kv.Revision) bool {
	holder, held := t.written.Holder(latch.Access{Span: span})
	if !held || t.records[holder].stamp < at {
		return held
	}
	for position := t.writers.start; position < t.writers.end(); position++ { // it may be another one
		w := *t.writers.at(position)
		if w.stamp >= at {
			return false
		}
		if t.isWriter(w) && slices.ContainsFunc(t.records[w.id].accesses, func(a latch.Access) bool { return a.Writes && latch.Overlap(a.Span, span) }) {
			return true
		}
	}
	return false
}

// PreparedSince tells whether a transaction is prepared that changes something here, and was, perhaps, when Highest was the revision. Until those are resolved the
// shard cannot be called clean with what was learnt then (rule 16): one of them may have its number. Whatever is prepared later asks for it later. Shared.
func (m *Machine) PreparedSince(highest kv.Revision) bool {
	stamp, held := m.transactions.lowestStamp()
	return held && stamp <= highest
}

// Undecided lists the transactions that recovery has to look at, by ID: those that are not decided, and of the anchor's own ones of earlier leaderships all that
// are not finished. It is as of the applied state. Driver.
func (m *Machine) Undecided() []kv.UnfinishedTransaction {
	if m.lead == nil || len(m.transactions.records) == 0 {
		return nil
	}
	var list []kv.UnfinishedTransaction
	m.transactions.each(func(r *record) bool {
		own := r.id.Anchor == m.options.Shard
		if r.decision.Verdict == kv.Undecided || own && r.id.Term < uint64(m.lead.term) {
			list = append(list, kv.UnfinishedTransaction{ID: r.id, Participants: r.participants, Since: r.since, Own: own, Decision: r.decision})
		}
		return true
	})
	return list
}
