package sim

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
)

// checkRefusals: nothing is refused for the shards that it is in, but for keys of leases.
func (w *world) checkRefusals() {
	for i := range w.groups[0].history.Operations {
		o := &w.groups[0].history.Operations[i]
		switch {
		case errors.Is(o.Err, kv.ErrManyShards):
			w.fail(Correctness, "client %d at node %d was refused: %v: %s", o.Client, o.Node, o.Err, describeRequest(o.Request))
		case errors.Is(o.Err, kv.ErrLeaseShards) && !attaches(o.Request):
			w.fail(Correctness, "client %d at node %d was refused: %v, though no key is to have a lease: %s", o.Client, o.Node, o.Err, describeRequest(o.Request))
		}
	}
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
