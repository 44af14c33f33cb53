package kv

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// What a range means, for everybody who answers a part of it.

// Filters tells whether keys are left out for their revisions.
func (r *RangeRequest) Filters() bool {
	return r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0
}

// LeavesOut tells whether a key with these revisions is left out.
func (r *RangeRequest) LeavesOut(create, mod Revision) bool {
	return r.MaxMod != 0 && mod > r.MaxMod || r.MinMod != 0 && mod < r.MinMod ||
		r.MaxCreate != 0 && create > r.MaxCreate || r.MinCreate != 0 && create < r.MinCreate
}

// FirstKeys is how many keys, in key order, decide the answer; 0: all do. It is one more than the limit, to know whether there are more. etcd applies the
// limit before it sorts when the order is SortNone, whatever the target; so do we.
func (r *RangeRequest) FirstKeys() int64 {
	inKeyOrder := r.SortOrder == SortNone || r.SortTarget == SortByKey && r.SortOrder == SortAscend
	if !inKeyOrder || r.Filters() || r.Limit <= 0 || r.Limit == math.MaxInt64 {
		return 0
	}
	return r.Limit + 1
}

// KeysSuffice tells whether values are needed neither in the answer nor to sort it.
func (r *RangeRequest) KeysSuffice() bool { return r.KeysOnly && r.SortTarget != SortByValue }

// Compare orders keys as the answer has them: by what it is sorted by, and by key, ascending, where that is the same. It returns what cmp.Compare does.
func (r *RangeRequest) Compare(a, b *KeyValue) int {
	order := 0
	switch r.SortTarget {
	case SortByVersion:
		order = cmp.Compare(a.Version, b.Version)
	case SortByCreate:
		order = cmp.Compare(a.CreateRevision, b.CreateRevision)
	case SortByMod:
		order = cmp.Compare(a.ModRevision, b.ModRevision)
	case SortByValue:
		order = bytes.Compare(a.Value, b.Value)
	default:
		order = bytes.Compare(a.Key, b.Key)
	}
	switch {
	case order == 0:
		return bytes.Compare(a.Key, b.Key)
	case r.SortOrder == SortDescend:
		return -order
	}
	return order
}

// Finish makes the answer of all keys that may be in it, which come in key order, each once: it filters, sorts and limits them. It changes the list.
// The count stays.
func (r *RangeRequest) Finish(answer *RangeResponse) {
	kvs := answer.KVs
	if first := r.FirstKeys(); first > 0 && int64(len(kvs)) > first {
		kvs = kvs[:first]
	}
	if r.Filters() {
		kvs = slices.DeleteFunc(kvs, func(e KeyValue) bool { return r.LeavesOut(e.CreateRevision, e.ModRevision) })
	}
	if r.SortOrder == SortDescend || r.SortTarget != SortByKey {
		slices.SortFunc(kvs, func(a, b KeyValue) int { return r.Compare(&a, &b) })
	}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, answer.More = kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i := range kvs {
			kvs[i].Value = nil
		}
	}
	answer.KVs = kvs
}
