package shard

import "github.com/quoratedb/quorate/kv"

// What a request counts for beside its keys and values.
const (
	requestOverheadBytes = 64
	partOverheadBytes    = 32 // a compare or an operation of a transaction
	// On the wire, at least:
	compareWireBytes = 8
	opWireBytes      = 4
)

// SizeBytes is about what a request takes in memory.
func SizeBytes(r *kv.Request) int {
	return requestOverheadBytes + requestBytes(r, partOverheadBytes, partOverheadBytes)
}

// wireBytes is about what a request takes on the wire.
func wireBytes(r *kv.Request) int { return requestBytes(r, compareWireBytes, opWireBytes) }

// requestBytes is the size of the keys and values of a request, and so much for each compare and operation.
func requestBytes(r *kv.Request, compare, op int) int {
	switch r.Kind {
	case kv.KindRange:
		return spanBytes(r.Range.Span)
	case kv.KindPut:
		return len(r.Put.Key) + len(r.Put.Value)
	case kv.KindDeleteRange:
		return spanBytes(r.DeleteRange.Span)
	case kv.KindTxn:
		return txnBytes(r.Txn, compare, op)
	case kv.KindAuth:
		a := r.Auth
		return len(a.User) + len(a.Role) + len(a.Hash) + len(a.Secret) + spanBytes(a.Permission.Span)
	case kv.KindMember:
		n := 0
		for _, u := range r.Member.PeerURLs {
			n += len(u)
		}
		return n
	case kv.KindTxnPrepare:
		return shareBytes(r.Commit.Share, compare, op)
	}
	return 0
}

func shareBytes(s *kv.Share, compare, op int) (n int) {
	if s == nil {
		return 0
	}
	for i := range s.Compares {
		n += compare + spanBytes(s.Compares[i].Compare.Span) + len(s.Compares[i].Compare.Value)
	}
	for i := range s.Ops {
		n += opBytes(&s.Ops[i].Op, compare, op)
	}
	return n
}

func spanBytes(s kv.Span) int { return len(s.Start) + len(s.End) }

func txnBytes(t *kv.TxnRequest, compare, op int) (n int) {
	for i := range t.Compare {
		n += compare + spanBytes(t.Compare[i].Span) + len(t.Compare[i].Value)
	}
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			n += opBytes(&ops[i], compare, op)
		}
	}
	return n
}

func opBytes(o *kv.Op, compare, op int) int {
	switch {
	case o.Range != nil:
		return op + spanBytes(o.Range.Span)
	case o.Put != nil:
		return op + len(o.Put.Key) + len(o.Put.Value)
	case o.DeleteRange != nil:
		return op + spanBytes(o.DeleteRange.Span)
	case o.Txn != nil:
		return op + txnBytes(o.Txn, compare, op)
	}
	return op
}
