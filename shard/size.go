package shard

import "github.com/quoratedb/quorate/kv"

// SizeBytes is about what a request takes on the wire and in memory.
func SizeBytes(req *kv.Request) int {
	const overhead = 64
	switch req.Kind {
	case kv.KindPut:
		return overhead + len(req.Put.Key) + len(req.Put.Value)
	case kv.KindTxn:
		return overhead + txnBytes(req.Txn)
	case kv.KindDeleteRange:
		return overhead + spanBytes(req.DeleteRange.Span)
	}
	return overhead
}

func spanBytes(s kv.Span) int { return len(s.Start) + len(s.End) }

func txnBytes(t *kv.TxnRequest) (n int) {
	for i := range t.Compare {
		n += 32 + spanBytes(t.Compare[i].Span) + len(t.Compare[i].Value)
	}
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			n += 32
			switch op := &ops[i]; {
			case op.Range != nil:
				n += spanBytes(op.Range.Span)
			case op.Put != nil:
				n += len(op.Put.Key) + len(op.Put.Value)
			case op.DeleteRange != nil:
				n += spanBytes(op.DeleteRange.Span)
			case op.Txn != nil:
				n += txnBytes(op.Txn)
			}
		}
	}
	return n
}
