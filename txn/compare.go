package txn

import (
	"bytes"
	"cmp"

	"github.com/quoratedb/quorate/kv"
)

// A compare over a span must hold for every key there is; where there is none, one of a value does not hold, and any other looks at zeros. That is for all
// shards of the span together: one of them without keys says nothing.

// holdsOfNone tells whether a compare holds where there is no key.
func holdsOfNone(c *kv.Compare) bool {
	return c.Target != kv.CompareValue && relationHolds(c, &kv.KeyValue{})
}

// holdsOf tells whether a compare holds for all keys of a span, which are in parts.
func holdsOf(c *kv.Compare, parts []*kv.RangeResponse) bool {
	found := false
	for _, part := range parts {
		for i := range part.KVs {
			found = true
			if !relationHolds(c, &part.KVs[i]) {
				return false
			}
		}
	}
	return found || holdsOfNone(c)
}

// relationHolds is what package shard does with the same name.
func relationHolds(c *kv.Compare, e *kv.KeyValue) bool {
	order := 0
	switch c.Target {
	case kv.CompareValue:
		order = bytes.Compare(e.Value, c.Value)
	case kv.CompareCreate:
		order = cmp.Compare(int64(e.CreateRevision), c.Integer)
	case kv.CompareMod:
		order = cmp.Compare(int64(e.ModRevision), c.Integer)
	case kv.CompareVersion:
		order = cmp.Compare(e.Version, c.Integer)
	case kv.CompareLease:
		order = cmp.Compare(int64(e.Lease), c.Integer)
	}
	switch c.Result {
	case kv.CompareEqual:
		return order == 0
	case kv.CompareNotEqual:
		return order != 0
	case kv.CompareGreater:
		return order > 0
	case kv.CompareLess:
		return order < 0
	}
	return true // etcd accepts relations it does not know
}
