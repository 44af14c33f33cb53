package shard

import "github.com/quoratedb/quorate/kv"

// What etcd counts for the record of a key and of a lease (server/storage/quota.go).
const (
	keyCostBytes   = 256
	leaseCostBytes = 64
)

// CostBytes is about what a request adds to the store, by etcd's rule; 0: it is let through whatever the store's size. Of a
// transaction's branches the dearer one counts, for which one is taken is not known.
func CostBytes(r *kv.Request) int64 {
	switch {
	case !complete(r):
		return 0
	case r.Kind == kv.KindPut:
		return putCostBytes(r.Put)
	case r.Kind == kv.KindTxn:
		return txnCostBytes(r.Txn)
	case r.Kind == kv.KindLeaseGrant:
		return leaseCostBytes
	}
	return 0
}

func putCostBytes(r *kv.PutRequest) int64 { return keyCostBytes + int64(len(r.Key)+len(r.Value)) }

func txnCostBytes(r *kv.TxnRequest) int64 {
	return max(opsCostBytes(r.Success), opsCostBytes(r.Failure))
}

func opsCostBytes(ops []kv.Op) (sum int64) {
	for i := range ops {
		switch op := &ops[i]; {
		case op.Put != nil:
			sum += putCostBytes(op.Put)
		case op.Txn != nil:
			sum += txnCostBytes(op.Txn)
		}
	}
	return sum
}
