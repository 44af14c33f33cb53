package sim

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/sim/history"
)

// checkRefusals holds what was refused for the shards that it is in against the partition: requests that may write and are in several shards, no others, and
// keys of leases. None of them has an effect.
func (w *world) checkRefusals() {
	table, err := partition.New(w.plan.scheme())
	if err != nil {
		panic(err) // the plan is valid
	}
	for i := range w.groups[0].history.Operations {
		o := &w.groups[0].history.Operations[i]
		if shard.Validate(o.Request, shard.Limits{}) != nil {
			continue // it is refused for its form
		}
		must := !shard.IsReadOnly(o.Request) && inSeveral(table, o.Request)
		switch refused := errors.Is(o.Err, kv.ErrManyShards); {
		case refused && !must:
			w.fail(Correctness, "client %d at node %d was refused: %v, though that is no write in several shards: %s", o.Client, o.Node, o.Err, describeRequest(o.Request))
		case must && o.Outcome == history.Acknowledged:
			w.fail(Correctness, "client %d at node %d was answered, though that is in several shards: %s", o.Client, o.Node, describeRequest(o.Request))
		case errors.Is(o.Err, kv.ErrLeaseShards) && !attaches(o.Request):
			w.fail(Correctness, "client %d at node %d was refused: %v, though no key is to have a lease: %s", o.Client, o.Node, o.Err, describeRequest(o.Request))
		}
	}
}

// inSeveral tells whether the request names keys of several shards, in any branch.
func inSeveral(table *partition.Table, r *kv.Request) bool {
	first := kv.ShardID(0)
	return !r.EachSpan(func(span kv.Span, _ bool) bool {
		for _, d := range table.Overlapping(span) {
			if first == 0 {
				first = d.Shard
			}
			if d.Shard != first {
				return false
			}
		}
		return true
	})
}

// attaches tells whether the request may give a key a lease.
func attaches(r *kv.Request) bool {
	switch r.Kind {
	case kv.KindPut:
		return r.Put.Lease != 0 || r.Put.IgnoreLease
	case kv.KindTxn:
		for _, ops := range [][]kv.Op{r.Txn.Success, r.Txn.Failure} {
			for i := range ops {
				op := &ops[i]
				if op.Put != nil && attaches(&kv.Request{Kind: kv.KindPut, Put: op.Put}) || op.Txn != nil && attaches(&kv.Request{Kind: kv.KindTxn, Txn: op.Txn}) {
					return true
				}
			}
		}
	}
	return false
}
