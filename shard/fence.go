package shard

import "github.com/quoratedb/quorate/kv"

// A record is forgotten when every participant has resolved the transaction, and together with a fence that refuses whatever comes late (rule 23): of an
// anchor's transactions all before one are finished, or were never in the anchor's log, but for a few. The anchor says so with its messages
// (kv.CommitRequest.Finished). So what is kept is what is in flight, and a fence for each anchor.

// Fence says which transactions of an anchor are finished, as far as the applied state says; zero: it was not told. Shared; it is not changed in place.
func (m *Machine) Fence(anchor kv.ShardID) kv.Fence { return m.transactions.fences[anchor] }

// over tells whether a transaction is finished, in the overlaid state.
func (m *Machine) over(id kv.TransactionID) bool {
	fence := m.fenceEvaluated(id.Anchor)
	return fence.Covers(id)
}

// fence logs what the anchor says of finished transactions, if it is news.
func (m *Machine) fence(finished kv.Fence) {
	anchor := finished.At.Anchor
	if anchor == 0 {
		return
	}
	next, news := m.fenceEvaluated(anchor).Moved(finished)
	if !news {
		return
	}
	kind := opFence
	if len(next.Open) > 0 {
		kind = opFenceOpen
	}
	m.lead.overlay.addOp(op{kind: kind, record: &record{id: next.At, open: next.Open}})
}

func (m *Machine) fenceEvaluated(anchor kv.ShardID) kv.Fence {
	if pending, ok := m.lead.overlay.commits.fences[anchor]; ok {
		return pending.fence
	}
	return m.transactions.fences[anchor]
}

// covered tells whether a transaction is finished, in the applied state.
func (t *transactions) covered(id kv.TransactionID) bool {
	fence := t.fences[id.Anchor]
	return fence.Covers(id)
}

// applyFence moves a fence and forgets what is resolved before it. What is undecided stays until it is resolved.
func (t *transactions) applyFence(said kv.Fence) {
	anchor := said.At.Anchor
	fence, news := t.fences[anchor].Moved(said)
	if !news {
		return
	}
	if t.fences == nil {
		t.fences, t.dirtyFences = make(map[kv.ShardID]kv.Fence), make(map[kv.ShardID]struct{})
	}
	t.fences[anchor] = fence
	t.dirtyFences[anchor] = struct{}{}
	if len(t.records) == 0 {
		return
	}
	var over []kv.TransactionID
	t.ordered.Ascend(kv.TransactionID{Anchor: anchor}, func(id kv.TransactionID) bool {
		before := id.Anchor == anchor && id.Before(fence.At)
		if before && fence.Covers(id) && t.records[id].decision.Verdict != kv.Undecided {
			over = append(over, id)
		}
		return before
	})
	for _, id := range over {
		t.remove(id)
	}
}
