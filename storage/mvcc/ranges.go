package mvcc

import (
	"bytes"
	"cmp"
	"slices"
	"unsafe"

	"github.com/quoratedb/quorate/kv"
)

// Range reads a span with all of etcd's options (etcd 3.7, server/etcdserver/txn/range.go). What is collected is added to the tally before it
// is there, what the answer takes is left in it; nil: nobody counts.
func (r *Reader) Range(q *kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error) {
	before := tally.HeldBytes()
	response, err := r.answer(q, tally)
	switch {
	case err != nil:
		tally.Rewind(before)
		return nil, err
	case tally.Counts():
		tally.Rewind(before + kv.MemoryBytes(response.KVs))
	}
	return response, nil
}

func (r *Reader) answer(q *kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error) {
	at, err := r.readRevision(q.Revision)
	if err != nil {
		return nil, err
	}
	if q.CountOnly {
		count, err := r.countAt(q.Span, at, tally)
		return &kv.RangeResponse{Count: count}, err
	}
	if q.Span.Single() {
		return r.rangeSingle(q, at, tally)
	}
	if q.Span.Empty() {
		return &kv.RangeResponse{}, nil
	}
	return r.rangeSpan(q, at, tally)
}

func (r *Reader) rangeSingle(q *kv.RangeRequest, at kv.Revision, tally *kv.Tally) (*kv.RangeResponse, error) {
	m, live, err := r.metaAt(q.Span.Start, at)
	if err != nil || !live {
		return &kv.RangeResponse{}, err
	}
	if err := tally.Add(itemBytes + int64(len(q.Span.Start))); err != nil {
		return nil, err
	}
	items := []item{{key: bytes.Clone(q.Span.Start), meta: m}}
	return r.respond(q, items, 1, tally)
}

// rangeSpan reads one key more than the limit, to know whether there are more. Filters,
// and orders other than by key, need every key of the span.
func (r *Reader) rangeSpan(q *kv.RangeRequest, at kv.Revision, tally *kv.Tally) (*kv.RangeResponse, error) {
	lower, upper := q.Span.Bounds()
	limit := q.FirstKeys()
	limits := scanLimits{keys: r.options.ChunkKeys, bytes: 1 << 62, values: needsValues(q), tally: tally}
	if limit > 0 {
		limits.keys = int(min(limit, int64(limits.keys)))
	} else {
		limits.keys = min(limits.keys, 4096) // values are read at the end, for all keys at once
	}
	var kept []item
	live := int64(0)
	full := false
	err := r.scan(lower, upper, at, limits, func(items []item, held int64) (bool, error) {
		if live == 0 && limit == 0 && len(items) == limits.keys && !q.Filters() {
			room, err := r.room(items[len(items)-1].key, upper, len(items), tally)
			if err != nil {
				return false, err
			}
			kept = room
		}
		live += int64(len(items))
		more, err := keep(q, kept, items, held, tally)
		if err != nil {
			return false, err
		}
		kept = more
		full = limit > 0 && live >= limit
		return !full, nil
	})
	if err != nil {
		return nil, err
	}
	count := live
	if full {
		kept = kept[:limit]
		rest := append(bytes.Clone(kept[limit-1].key), 0)
		after, err := r.count(rest, upper, at, tally)
		if err != nil {
			return nil, err
		}
		count = limit + after
	}
	return r.respond(q, kept, count, tally)
}

// keep adds the items of a chunk that the filters let through. Of what the tally counts for the chunk, what is kept remains.
func keep(q *kv.RangeRequest, kept, items []item, held int64, tally *kv.Tally) ([]item, error) {
	before := tally.HeldBytes() - held
	if q.Filters() {
		left, err := drop(items, func(i *item) bool { return q.LeavesOut(i.meta.Create, i.meta.At.Rev) }, tally)
		if err != nil {
			return nil, err
		}
		items = left
	}
	grown := int64(0)
	if len(kept)+len(items) > cap(kept) {
		grown = int64(len(items)) * itemBytes
	}
	if err := tally.Add(grown); err != nil {
		return nil, err
	}
	if tally.Counts() {
		tally.Rewind(before + contentBytes(items) + grown)
	}
	return append(kept, items...), nil
}

// needsValues tells whether a scan for a range is to bring values: not those of many keys that are dropped in the end.
func needsValues(q *kv.RangeRequest) bool {
	keepsAll := !q.Filters() && (q.Limit <= 0 || q.FirstKeys() > 0)
	return keepsAll && !q.KeysOnly || q.SortTarget == kv.SortByValue
}

// room makes room for a list that turns out to be long, so that it is not copied as it grows.
func (r *Reader) room(from, upper []byte, found int, tally *kv.Tally) ([]item, error) {
	rest, err := r.countNow(from, upper, tally)
	if err != nil {
		return nil, err
	}
	n := int64(found) + rest
	if err := tally.Add(n * int64(unsafe.Sizeof(item{}))); err != nil {
		return nil, err
	}
	return make([]item, 0, n), nil
}

// respond sorts, cuts at the limit, and reads the values of what is left.
func (r *Reader) respond(q *kv.RangeRequest, items []item, count int64, tally *kv.Tally) (*kv.RangeResponse, error) {
	items = slices.DeleteFunc(items, func(i item) bool { return q.LeavesOut(i.meta.Create, i.meta.At.Rev) })
	if q.SortTarget == kv.SortByValue && len(items) > 1 {
		if err := r.load(items, tally); err != nil {
			return nil, err
		}
	}
	if err := sortItems(q, items); err != nil {
		return nil, err
	}
	response := &kv.RangeResponse{Count: count}
	if n := len(items); q.Limit > 0 && int64(n) > q.Limit {
		left, err := apart(items[:q.Limit], n, tally)
		if err != nil {
			return nil, err
		}
		items, response.More = left, true
	}
	if !q.KeysOnly {
		if err := r.load(items, tally); err != nil {
			return nil, err
		}
	}
	if err := tally.Add(int64(len(items)) * kv.KeyValueBytes); err != nil {
		return nil, err
	}
	response.KVs = keyValues(items, q.KeysOnly)
	return response, nil
}

func keyValues(items []item, keysOnly bool) []kv.KeyValue {
	kvs := make([]kv.KeyValue, len(items))
	for i := range items {
		kvs[i] = items[i].keyValue()
		if keysOnly {
			kvs[i].Value = nil
		}
	}
	return kvs
}

// sortItems sorts what is in key order; equal ones keep that order.
func sortItems(q *kv.RangeRequest, items []item) error {
	compare := map[kv.SortTarget]func(a, b *item) int{
		kv.SortByKey:     func(a, b *item) int { return bytes.Compare(a.key, b.key) },
		kv.SortByVersion: func(a, b *item) int { return cmp.Compare(a.meta.Version, b.meta.Version) },
		kv.SortByCreate:  func(a, b *item) int { return cmp.Compare(a.meta.Create, b.meta.Create) },
		kv.SortByMod:     func(a, b *item) int { return cmp.Compare(a.meta.At.Rev, b.meta.At.Rev) },
		kv.SortByValue:   func(a, b *item) int { return bytes.Compare(a.value, b.value) },
	}[q.SortTarget]
	if compare == nil || q.SortOrder > kv.SortDescend {
		return kv.ErrInvalidSortOption
	}
	switch {
	case q.SortOrder == kv.SortDescend:
		slices.SortStableFunc(items, func(a, b item) int { return compare(&b, &a) })
	case q.SortTarget != kv.SortByKey:
		slices.SortStableFunc(items, func(a, b item) int { return compare(&a, &b) })
	}
	return nil
}
