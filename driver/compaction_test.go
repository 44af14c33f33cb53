package driver

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// do has a request decided by whoever leads the group.
func (w *numbered) do(group consensus.GroupID, req *kv.Request) (resp *kv.Response, at *clusterNode) {
	w.tb.Helper()
	w.awaitLeases()
	answered := false
	for !answered {
		at = w.nodes[slices.IndexFunc(w.nodes, func(n *clusterNode) bool { return n.driver.Replica(group).LeaseValid() })]
		var err error
		ended := false
		at.driver.Replica(group).Propose(req, nil, func(r *kv.Response, _ uint64, e error) { resp, err, ended = r, e, true })
		w.await("an answer", func() bool { return ended })
		if answered = err == nil; !answered && !errors.Is(err, kv.ErrLeaderChanged) && !errors.Is(err, kv.ErrNotLeader) {
			w.tb.Fatal(err)
		}
	}
	return resp, at
}

// followed tells whether all shards are compacted at a node, and have no rows left of what was.
func (w *numbered) followed(n *clusterNode, compacted kv.Revision) bool {
	return !slices.ContainsFunc(w.groups, func(group consensus.GroupID) bool {
		r := n.driver.Replica(group)
		return r.Compacted() != compacted || r.Compacting()
	})
}

// TestShardsFollowCompaction: the system shard is compacted, and the others follow although nobody writes to them any more. Half of the time all nodes crash
// as soon as it has taken effect somewhere, so that others lead them. A client that waits until rows are deleted waits for those of all shards.
func TestShardsFollowCompaction(t *testing.T) {
	for seed := range uint64(12) {
		w := newNumbered(t, seed, seed%2 == 0)
		for range 3 {
			for _, group := range w.groups {
				w.do(group, &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Append(nil, group)}})
			}
		}
		system := slices.IndexFunc(w.nodes, func(n *clusterNode) bool { return n.driver.Replica(1).LeaseValid() })
		w.holder = w.nodes[system].id
		compacted := w.last
		req := &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: compacted, Physical: true}}
		if crash := seed%4 >= 2; crash {
			w.nodes[system].driver.Replica(1).Propose(req, nil, func(*kv.Response, uint64, error) {})
			w.await("the compaction", func() bool { return w.compacted() == compacted })
			w.run(time.Duration(seed)*2*time.Millisecond, nil)
			for _, n := range w.nodes {
				n.crash()
			}
			for _, n := range w.nodes {
				w.start(n)
			}
		} else if _, at := w.do(1, req); !w.followed(at, compacted) {
			t.Errorf("seed %d: a physical compaction is answered, and node %d has rows left", seed, at.id)
		}
		w.await("all shards compacted at all nodes", func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *clusterNode) bool { return !w.followed(n, compacted) })
		})
		for _, n := range w.nodes {
			for _, group := range w.groups {
				old := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: fmt.Append(nil, group)}, Revision: compacted - 1}}
				if _, err := n.driver.Replica(group).Read(old); !errors.Is(err, kv.ErrCompacted) {
					t.Errorf("seed %d: node %d reads below the compaction: %v", seed, n.id, err)
				}
			}
		}
	}
}
