package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

// TestRefusalsOfStore: where requests and leases are for any keys, none is refused for the shards that it is in, and transactions take effect in several of
// them, by both protocols.
func TestRefusalsOfStore(t *testing.T) {
	for _, kind := range []string{ByRange, ByHash} {
		for _, name := range []string{"random", "bulk"} {
			shards, acknowledged, several := 0, 0, 0
			for seed := uint64(1); seed <= 3; seed++ {
				p := NewPlan(seed, PlanOptions{Nodes: 3, Partition: kind, Shards: 8, Faults: []FaultKind{}, Duration: time.Second, Workloads: []string{name}})
				p.Limits.Bounds = Bounds{}
				p.Commit = []CommitProtocol{TwoPhase, ThreePhase}[seed%2]
				p.Partition.HashPrefix = 0
				if kind == ByRange {
					p.Partition.SplitKeys = []string{"b/2", "b/4", "b/6", "c", "random/", "random/k04", "random/k08"}
				}
				w := newWorld(p, RunOptions{})
				if w.run(); w.verdict != "" {
					t.Errorf("%s by %s, seed %d: %s", name, kind, seed, w.problem)
				}
				for _, o := range w.groups[0].history.Operations {
					switch {
					case errors.Is(o.Err, kv.ErrManyShards), errors.Is(o.Err, kv.ErrLeaseShards):
						shards++
					case o.Outcome == history.Acknowledged:
						acknowledged++
					}
				}
				several += w.marks["transaction in several shards"]
				w.finish()
			}
			if shards > 0 || several == 0 || acknowledged < 50 {
				t.Errorf("%s by %s: %d requests were refused for their shards, %d were acknowledged, %d were in several shards", name, kind, shards, acknowledged, several)
			}
		}
	}
}

// TestCheckRefusals: what is refused for its shards, or for those of a lease, is found.
func TestCheckRefusals(t *testing.T) {
	put := func(key string, lease kv.LeaseID) kv.Op {
		return kv.Op{Put: &kv.PutRequest{Key: []byte(key), Lease: lease}}
	}
	both := func(lease kv.LeaseID, keys ...string) *kv.Request {
		r := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{}}
		for _, key := range keys {
			r.Txn.Success = append(r.Txn.Success, put(key, lease))
		}
		return r
	}
	for name, c := range map[string]struct {
		request *kv.Request
		err     error
		wrong   bool
	}{
		"one shard":                  {both(0, "a", "b"), nil, false},
		"one shard, refused":         {both(0, "a", "b"), kv.ErrManyShards, true},
		"two shards":                 {both(0, "a", "n"), nil, false},
		"two shards, refused":        {both(0, "a", "n"), kv.ErrManyShards, true},
		"a read of two":              {&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}, nil, false},
		"a read of two, refused":     {&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}, kv.ErrManyShards, true},
		"a lease of another shard":   {both(7, "a"), kv.ErrLeaseShards, true},
		"two shards, not for theirs": {both(7, "a", "n"), kv.ErrLeaseNotFound, false},
	} {
		p := NewPlan(1, PlanOptions{Nodes: 1, Partition: ByRange, Shards: 2, Faults: []FaultKind{}})
		p.Partition.SplitKeys = []string{"m"}
		w := newWorld(p, RunOptions{})
		o := history.Operation{Request: c.request, Err: c.err, Outcome: history.OutcomeOf(c.err)}
		w.groups[0].history.Operations = []history.Operation{o}
		if w.checkRefusals(); (w.verdict != "") != c.wrong {
			t.Errorf("%s: wrong %v, found %q", name, c.wrong, w.problem)
		}
		w.finish()
	}
}
