package gateway

import "github.com/quoratedb/quorate/kv"

// readOnly tells whether a request can be answered without the log. A transaction with a nested
// transaction counts as a write, as in etcd.
func readOnly(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindRange, kv.KindLeaseTimeToLive, kv.KindLeaseLeases, kv.KindMemberList:
		return true
	case kv.KindTxn:
		return everyRange(req.Txn, func(*kv.RangeRequest) bool { return true })
	case kv.KindAlarm:
		return req.Alarm.Action == kv.AlarmGet
	}
	return false
}

// serializable tells whether a read-only request asked to be answered from the local state, however old.
func serializable(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindRange:
		return req.Range.Serializable
	case kv.KindTxn:
		return len(req.Txn.Success)+len(req.Txn.Failure) > 0 &&
			everyRange(req.Txn, func(r *kv.RangeRequest) bool { return r.Serializable })
	}
	return false
}

func everyRange(txn *kv.TxnRequest, accept func(*kv.RangeRequest) bool) bool {
	for _, ops := range [2][]kv.Op{txn.Success, txn.Failure} {
		for i := range ops {
			if ops[i].Range == nil || !accept(ops[i].Range) {
				return false
			}
		}
	}
	return true
}
