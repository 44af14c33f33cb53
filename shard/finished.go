package shard

import "github.com/quoratedb/quorate/kv"

// A record is forgotten when every participant has resolved the transaction, and its shard has heard so from the anchor, and refuses whatever comes late (rule 23): of an
// anchor's transactions all before one are finished, or were never in the anchor's log, but for a few. The anchor says so with its messages
// (kv.CommitRequest.Finished). So what is kept is what is in flight, and what each anchor has said.

// Finished says which transactions of an anchor are finished, as far as the applied state says; zero: it was not told. Shared; it is not changed in place.
func (m *Machine) Finished(anchor kv.ShardID) kv.Finished { return m.transactions.finished[anchor] }

// over tells whether a transaction is finished, in the overlaid state.
func (m *Machine) over(id kv.TransactionID) bool {
	finished := m.finishedEvaluated(id.Anchor)
	return finished.Covers(id)
}

// noteFinished logs what the anchor says of finished transactions, if it is news.
func (m *Machine) noteFinished(finished kv.Finished) {
	anchor := finished.At.Anchor
	if anchor == 0 {
		return
	}
	next, news := m.finishedEvaluated(anchor).Moved(finished)
	if !news {
		return
	}
	kind := opFinished
	if len(next.Open) > 0 {
		kind = opFinishedOpen
	}
	m.lead.overlay.addOp(op{kind: kind, record: &record{id: next.At, open: next.Open}})
}

func (m *Machine) finishedEvaluated(anchor kv.ShardID) kv.Finished {
	if pending, ok := m.lead.overlay.commits.finished[anchor]; ok {
		return pending.finished
	}
	return m.transactions.finished[anchor]
}

// covered tells whether a transaction is finished, in the applied state.
func (t *transactions) covered(id kv.TransactionID) bool {
	finished := t.finished[id.Anchor]
	return finished.Covers(id)
}

// applyFinished takes note of it, and forgets what is resolved and finished. What is undecided stays until it is resolved.
func (t *transactions) applyFinished(said kv.Finished) {
	anchor := said.At.Anchor
	finished, news := t.finished[anchor].Moved(said)
	if !news {
		return
	}
	if t.finished == nil {
		t.finished, t.dirtyFinished = make(map[kv.ShardID]kv.Finished), make(map[kv.ShardID]struct{})
	}
	t.finished[anchor] = finished
	t.dirtyFinished[anchor] = struct{}{}
	if len(t.records) == 0 {
		return
	}
	var over []kv.TransactionID
	t.ordered.Ascend(kv.TransactionID{Anchor: anchor}, func(id kv.TransactionID) bool {
		before := id.Anchor == anchor && id.Before(finished.At)
		if before && finished.Covers(id) && t.records[id].decision.Verdict != kv.Undecided {
			over = append(over, id)
		}
		return before
	})
	for _, id := range over {
		t.remove(id)
	}
}
