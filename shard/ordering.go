package shard

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// keysSuffice tells whether values are needed neither in the answer nor to sort it.
func keysSuffice(r *kv.RangeRequest) bool { return r.KeysOnly && r.SortTarget != kv.SortByValue }

// scanLimit is how many keys, in key order, decide a range; 0: all. etcd applies the limit before it
// sorts when the order is "none", whatever the target; so do we.
func scanLimit(r *kv.RangeRequest) int64 {
	inKeyOrder := r.SortOrder == kv.SortNone || r.SortTarget == kv.SortByKey && r.SortOrder == kv.SortAscend
	if !inKeyOrder || hasRevisionFilters(r) || r.Limit <= 0 || r.Limit == 1<<63-1 {
		return 0
	}
	return r.Limit + 1
}

func hasRevisionFilters(r *kv.RangeRequest) bool {
	return r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0
}

// finishRange filters, sorts and limits keys that come in key order.
func finishRange(response *kv.RangeResponse, r *kv.RangeRequest) {
	kvs := response.KVs
	if limit := scanLimit(r); limit > 0 && int64(len(kvs)) > limit {
		kvs = kvs[:limit]
	}
	if hasRevisionFilters(r) {
		kvs = slices.DeleteFunc(kvs, func(e kv.KeyValue) bool {
			return r.MaxMod != 0 && e.ModRevision > r.MaxMod || r.MinMod != 0 && e.ModRevision < r.MinMod ||
				r.MaxCreate != 0 && e.CreateRevision > r.MaxCreate || r.MinCreate != 0 && e.CreateRevision < r.MinCreate
		})
	}
	sortKeyValues(kvs, r)
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, response.More = kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i := range kvs {
			kvs[i].Value = nil
		}
	}
	response.KVs = kvs
}

func sortKeyValues(kvs []kv.KeyValue, r *kv.RangeRequest) {
	order := compareFor(r.SortTarget)
	switch {
	case r.SortOrder == kv.SortDescend:
		slices.SortStableFunc(kvs, func(a, b kv.KeyValue) int { return order(&b, &a) })
	case r.SortTarget != kv.SortByKey:
		slices.SortStableFunc(kvs, func(a, b kv.KeyValue) int { return order(&a, &b) })
	}
}

func compareFor(target kv.SortTarget) func(a, b *kv.KeyValue) int {
	switch target {
	case kv.SortByVersion:
		return func(a, b *kv.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case kv.SortByCreate:
		return func(a, b *kv.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case kv.SortByMod:
		return func(a, b *kv.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case kv.SortByValue:
		return func(a, b *kv.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return func(a, b *kv.KeyValue) int { return strings.Compare(keyString(a.Key), keyString(b.Key)) }
}
