package shard

import "github.com/quoratedb/quorate/kv"

// A record is forgotten when every participant has resolved the transaction, and together with a fence that refuses whatever comes late (rule 23): of an
// anchor's transactions all before one are finished, or were never in the anchor's log. The anchor says so with its messages (kv.CommitRequest.Finished).
// So what is kept is what is in flight, and a fence for each anchor.

// Fence is the transaction of an anchor before which all are finished, as far as the applied state says; zero: it was not told. Shared.
func (m *Machine) Fence(anchor kv.ShardID) kv.TransactionID { return m.transactions.fences[anchor] }

// over tells whether a transaction is before the fence of its anchor, in the overlaid state.
func (m *Machine) over(id kv.TransactionID) bool {
	return id.Before(m.fenceEvaluated(id.Anchor))
}

// fence logs what the anchor says of finished transactions, if it is news.
func (m *Machine) fence(finished kv.TransactionID) {
	if finished.Number != 0 && finished.Anchor != 0 && m.fenceEvaluated(finished.Anchor).Before(finished) {
		m.lead.overlay.addOp(op{kind: opFence, record: &record{id: finished}})
	}
}

func (m *Machine) fenceEvaluated(anchor kv.ShardID) kv.TransactionID {
	if fence, pending := m.lead.overlay.commits.fences[anchor]; pending {
		return fence.id
	}
	return m.transactions.fences[anchor]
}

// applyFence moves a fence and forgets what is resolved before it. What is undecided stays until it is resolved.
func (t *transactions) applyFence(fence kv.TransactionID) {
	if !t.fences[fence.Anchor].Before(fence) {
		return
	}
	if t.fences == nil {
		t.fences, t.dirtyFences = make(map[kv.ShardID]kv.TransactionID), make(map[kv.ShardID]struct{})
	}
	t.fences[fence.Anchor] = fence
	t.dirtyFences[fence.Anchor] = struct{}{}
	if len(t.records) == 0 {
		return
	}
	var over []kv.TransactionID
	t.ordered.Ascend(kv.TransactionID{Anchor: fence.Anchor}, func(id kv.TransactionID) bool {
		before := id.Anchor == fence.Anchor && id.Before(fence)
		if before && t.records[id].decision.Verdict != kv.Undecided {
			over = append(over, id)
		}
		return before
	})
	for _, id := range over {
		t.remove(id)
	}
}
