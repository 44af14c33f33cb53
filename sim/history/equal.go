package history

import (
	"bytes"

	"github.com/quoratedb/quorate/kv"
)

// equalBodies compares two answers to the same request without their headers. nil and empty are the same.
func equalBodies(a, b *kv.Response) bool {
	switch a.Kind {
	case kv.KindRange:
		return equalRange(a.Range, b.Range)
	case kv.KindPut:
		return equalPut(a.Put, b.Put)
	case kv.KindDeleteRange:
		return equalDelete(a.DeleteRange, b.DeleteRange)
	case kv.KindTxn:
		return equalTxn(a.Txn, b.Txn)
	}
	return true
}

func equalRange(a, b *kv.RangeResponse) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Count == b.Count && a.More == b.More && equalKVs(a.KVs, b.KVs)
}

func equalPut(a, b *kv.PutResponse) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equalPointers(a.Prev, b.Prev)
}

func equalDelete(a, b *kv.DeleteRangeResponse) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Deleted == b.Deleted && equalKVs(a.Prev, b.Prev)
}

func equalTxn(a, b *kv.TxnResponse) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Succeeded != b.Succeeded || len(a.Responses) != len(b.Responses) {
		return false
	}
	for i := range a.Responses {
		x, y := &a.Responses[i], &b.Responses[i]
		if x.Revision != y.Revision || !equalRange(x.Range, y.Range) || !equalPut(x.Put, y.Put) ||
			!equalDelete(x.DeleteRange, y.DeleteRange) || !equalTxn(x.Txn, y.Txn) {
			return false
		}
	}
	return true
}

func equalKVs(a, b []kv.KeyValue) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equalKV(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func equalPointers(a, b *kv.KeyValue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equalKV(a, b)
}

func equalKV(a, b *kv.KeyValue) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && a.Version == b.Version && a.Lease == b.Lease &&
		bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

// equalEvents compares two events without the versions before them.
func equalEvents(a, b *kv.Event) bool { return a.Type == b.Type && equalKV(&a.KV, &b.KV) }
