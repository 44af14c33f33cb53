package gateway

import "github.com/quoratedb/quorate/kv"

// Short tells whether the request is no read that takes longer than handing it to another goroutine.
func Short(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindRange:
		return req.Range.Span.Single()
	case kv.KindTxn:
		return len(req.Txn.Compare) <= 4 && shortCompares(req.Txn.Compare) && shortOps(req.Txn.Success) && shortOps(req.Txn.Failure)
	case kv.KindLeaseTimeToLive:
		return !req.LeaseTimeToLive.Keys
	case kv.KindLeaseLeases:
		return false
	}
	return true
}

func shortCompares(compares []kv.Compare) bool {
	for i := range compares {
		if !compares[i].Span.Single() {
			return false
		}
	}
	return true
}

func shortOps(ops []kv.Op) bool {
	for i := range ops {
		if ops[i].Range == nil || !ops[i].Range.Span.Single() {
			return false
		}
	}
	return len(ops) <= 4
}
