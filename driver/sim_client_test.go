package driver

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

func (w *world) propose(n *simNode, op *operation, req *kv.Request) {
	op.node = n
	w.oracle.begin(op)
	n.guard(func() {
		n.replica.Propose(req, nil, func(resp *kv.Response, _ uint64, err error) {
			n.effect()
			w.oracle.answered(op, resp, err)
		})
	})
}

func (w *world) put(n *simNode, key, value string, lease kv.LeaseID) {
	w.propose(n, &operation{name: fmt.Sprintf("put %s=%s at node %d", key, value, n.id), key: key, value: value},
		&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}})
}

func (w *world) swap(n *simNode, key, expected, value string) {
	op := &operation{name: fmt.Sprintf("swap %s from %s to %s at node %d", key, expected, value, n.id), key: key, value: value, expected: expected, compares: true}
	w.propose(n, op, &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
		Compare: []kv.Compare{{Span: kv.Span{Start: []byte(key)}, Target: kv.CompareValue, Result: kv.CompareEqual, Value: []byte(expected)}},
		Success: []kv.Op{{Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}},
	}})
}

func rangeRequest(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
}

// get is a linearizable read as a gateway does it at the leader: read, then look whether the lease held.
func (w *world) get(n *simNode, key string) {
	op := &operation{name: fmt.Sprintf("get %s at node %d", key, n.id), key: key, node: n}
	w.oracle.begin(op)
	resp, err := n.replica.Read(rangeRequest(key))
	if n.replica.LeaseValid() {
		w.figures.LeaseReads++
		w.oracle.answered(op, resp, err)
		return
	}
	w.readAt(op, n, n)
}

// readAt asks one node for a barrier and reads at another.
func (w *world) readAt(op *operation, leader, at *simNode) {
	incarnation := at.incarnation
	op.via = leader
	leader.replica.ReadIndex(func(index uint64, err error) {
		if err != nil {
			w.oracle.answered(op, nil, err)
			return
		}
		if !at.up || at.incarnation != incarnation {
			delete(w.oracle.open, op)
			return
		}
		op.via = nil
		at.replica.WaitApplied(index, func(err error) {
			if err != nil {
				w.oracle.answered(op, nil, err)
				return
			}
			w.figures.BarrierReads++
			resp, err := at.replica.Read(rangeRequest(op.key))
			w.oracle.answered(op, resp, err)
		})
	})
}

// request makes a random request of a client.
func (w *world) request(number int) {
	n := w.nodes[w.random.IntN(len(w.nodes))]
	if leader := w.leader(); leader != nil && w.random.IntN(10) < 8 {
		n = leader
	}
	if w.random.IntN(3) == 0 { // one that believes to lead
		for _, candidate := range w.nodes {
			if candidate.up && candidate.replica.IsLeader() && w.random.IntN(2) == 0 {
				n = candidate
			}
		}
	}
	if !n.up || n.fuse > 0 && w.random.IntN(2) == 0 {
		return
	}
	key := fmt.Sprintf("k%d", w.random.IntN(8))
	value := fmt.Sprintf("v%d", number)
	lease := kv.LeaseID(1 + w.random.IntN(4))
	switch p := w.random.IntN(100); {
	case p < 30:
		w.put(n, key, value, 0)
	case p < 36:
		w.put(n, key, value, lease)
	case p < 52:
		expected, _ := w.oracle.at(key, w.oracle.revision)
		if w.random.IntN(3) == 0 {
			expected = "something else"
		}
		w.swap(n, key, expected, value)
	case p < 58:
		w.propose(n, &operation{name: "delete " + key}, &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte(key)}}})
	case p < 64:
		w.propose(n, &operation{name: "get through the queue " + key, key: key}, rangeRequest(key))
	case p < 80:
		w.get(n, key)
	case p < 88:
		at := w.nodes[w.random.IntN(len(w.nodes))]
		if at.up && at.fuse == 0 && n.fuse == 0 {
			op := &operation{name: fmt.Sprintf("get %s at node %d through %d", key, at.id, n.id), key: key, node: at}
			w.oracle.begin(op)
			w.readAt(op, n, at)
		}
	case p < 91:
		w.propose(n, &operation{name: "grant"}, &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: lease, TTLSeconds: 1 + w.random.Int64N(3)}})
	case p < 93:
		w.propose(n, &operation{name: "keep alive"}, &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: lease}})
	case p < 94:
		w.propose(n, &operation{name: "revoke"}, &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: lease}})
	case p < 97:
		if revision := w.oracle.revision - kv.Revision(w.random.IntN(20)); revision > 0 {
			w.propose(n, &operation{name: "compact"}, &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: revision}})
		}
	default:
		for i := range 20 { // a burst
			w.put(n, fmt.Sprintf("b%d", i), fmt.Sprintf("%s.%d", value, i), 0)
			if !n.up {
				break
			}
		}
	}
}

// hashes compares the states of all nodes at every revision that they still have.
func (w *world) compareStates() error {
	first := w.nodes[0]
	for _, n := range w.nodes[1:] {
		if n.replica.Applied() != first.replica.Applied() || n.replica.Revision() != first.replica.Revision() || n.replica.Compacted() != first.replica.Compacted() {
			return fmt.Errorf("node %d is at entry %d, revision %d, compacted %d; node %d at %d, %d, %d", first.id, first.replica.Applied(), first.replica.Revision(),
				first.replica.Compacted(), n.id, n.replica.Applied(), n.replica.Revision(), n.replica.Compacted())
		}
	}
	for revision := max(1, first.replica.Compacted()); revision <= first.replica.Revision(); revision++ {
		want, err := hashAt(first, revision)
		if err != nil {
			return err
		}
		for _, n := range w.nodes[1:] {
			if got, err := hashAt(n, revision); err != nil || got != want {
				return fmt.Errorf("at revision %d node %d has hash %x, node %d %x (%w)", revision, first.id, want, n.id, got, err)
			}
		}
	}
	return w.compareKeptHashes()
}

// compareKeptHashes: nodes that have a hash of a compaction have the same, wherever they have been.
func (w *world) compareKeptHashes() error {
	known := make(map[kv.Revision]keptHash)
	for _, n := range w.nodes {
		for _, kept := range n.replica.hashes.kept {
			w.figures.KeptHashes++
			if other, ok := known[kept.to]; ok && other != kept {
				return fmt.Errorf("node %d keeps hash %+v, another one %+v", n.id, kept, other)
			}
			known[kept.to] = kept
		}
	}
	return nil
}

func hashAt(n *simNode, revision kv.Revision) (uint32, error) {
	view := n.replica.View()
	defer view.Close()
	return viewHash(view, revision)
}

func viewHash(view *mvcc.View, revision kv.Revision) (uint32, error) { return view.Hash(revision) }
