package shard

import "github.com/quoratedb/quorate/kv"

// ReadsAtMost tells whether evaluating the request looks at no more than so many keys, whatever the state: what it costs
// is then known before.
func ReadsAtMost(r *kv.Request, keys int) bool {
	switch r.Kind {
	case kv.KindRange:
		keys = afterSpan(r.Range.Span, keys)
	case kv.KindPut:
		keys--
	case kv.KindDeleteRange:
		keys = afterSpan(r.DeleteRange.Span, keys)
	case kv.KindTxn:
		keys = afterTxn(r.Txn, keys)
	case kv.KindLeaseTimeToLive:
		return !r.LeaseTimeToLive.Keys
	case kv.KindLeaseRevoke, kv.KindLeaseLeases, kv.KindLeaseRelease, kv.KindLeaseKeys:
		return false // as many as are attached, or granted
	}
	return keys >= 0
}

// tooMany is left of any number of keys by what may look at all of them.
const tooMany = -1

func afterSpan(span kv.Span, keys int) int {
	if !span.Single() {
		return tooMany
	}
	return keys - 1
}

// afterTxn counts both branches: which one it will be depends on the state.
func afterTxn(t *kv.TxnRequest, keys int) int {
	for i := range t.Compare {
		if keys = afterSpan(t.Compare[i].Span, keys); keys < 0 {
			return tooMany
		}
	}
	for _, ops := range [][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if keys = afterOp(&ops[i], keys); keys < 0 {
				return tooMany
			}
		}
	}
	return keys
}

func afterOp(op *kv.Op, keys int) int {
	switch {
	case op.Range != nil:
		return afterSpan(op.Range.Span, keys)
	case op.Put != nil:
		return keys - 1
	case op.DeleteRange != nil:
		return afterSpan(op.DeleteRange.Span, keys)
	case op.Txn != nil:
		return afterTxn(op.Txn, keys)
	}
	return keys
}
