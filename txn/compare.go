package txn

import "github.com/quoratedb/quorate/kv"

// A compare over a span must hold for every key there is; where there is none, one of a value does not hold, and any other looks at zeros. That is for all
// shards of the span together: one of them without keys says nothing.

// holdsOf tells whether a compare holds for all keys of a span, which are in parts.
func holdsOf(c *kv.Compare, parts []*kv.RangeResponse) bool {
	found := false
	for _, part := range parts {
		for i := range part.KVs {
			found = true
			if !c.Holds(&part.KVs[i]) {
				return false
			}
		}
	}
	return found || c.HoldsOfNone()
}
