package shard

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// An evaluation reads the applied state and, over it, what is decided and not applied yet.

func (ev *evaluation) now() kv.Revision {
	if ev.nextSub > 0 {
		return ev.revision + 1
	}
	return ev.revision
}

func (ev *evaluation) compactedAt() kv.Revision {
	return max(ev.base.Compacted(), ev.overlay.compacted, ev.floor)
}

func (ev *evaluation) counted() *kv.Tally { return &ev.tally }

func (ev *evaluation) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	if err := ev.tally.Look(1); err != nil {
		return kv.KeyValue{}, false, err
	}
	if c := ev.overlay.find(key); c != nil {
		if value {
			if err := ev.counted().Add(effectBytes(&c.Effect)); err != nil {
				return kv.KeyValue{}, false, err
			}
		}
		return keyValueOf(&c.Effect), c.Version > 0, nil
	}
	return stored(ev.base, key, value, ev.counted())
}

func (ev *evaluation) each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error {
	return ev.eachLive(span, func(k liveKey) (bool, error) { return fn(k.key, k.meta), nil })
}

func (ev *evaluation) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	now := ev.now()
	at := r.Revision
	if err := ev.mayScan(r); err != nil {
		return nil, err
	}
	switch {
	case at > now:
		return nil, kv.ErrFutureRevision
	case at <= 0:
		at = now
	}
	if at < ev.compactedAt() {
		return nil, kv.ErrCompacted
	}
	if r.Span.Single() && at == now && !r.CountOnly && !r.Filters() && !r.KeysOnly {
		return ev.scanSingle(r.Span.Start)
	}
	return ev.merge(r, at)
}

// mayScan tells whether the revisions that a range names can be compared with those of the state.
func (ev *evaluation) mayScan(r *kv.RangeRequest) error {
	if err := ev.reaches(r.Revision); err != nil {
		return err
	}
	for _, bound := range [4]kv.Revision{r.MinMod, r.MaxMod, r.MinCreate, r.MaxCreate} {
		if err := ev.compares(bound); err != nil {
			return err
		}
	}
	return nil
}

func (ev *evaluation) scanSingle(key []byte) (*kv.RangeResponse, error) {
	found, ok, err := ev.get(key, true)
	if err != nil || !ok {
		return &kv.RangeResponse{}, err
	}
	return &kv.RangeResponse{KVs: []kv.KeyValue{found}, Count: 1}, nil
}

// overlaid is what is in flight about one key of a span.
type overlaid struct {
	key      []byte
	effect   *mvcc.Effect // as of the revision asked for; nil if only later changes are in flight
	liveBase bool         // the key lives in the applied state
}

// merge answers from the applied state and the changes in flight at the revision.
func (ev *evaluation) merge(r *kv.RangeRequest, at kv.Revision) (*kv.RangeResponse, error) {
	tally := ev.counted()
	before := tally.HeldBytes()
	over, err := ev.overlaidKeys(r.Span, at)
	if err != nil {
		return nil, err
	}
	store := ev.base
	if len(over) == 0 {
		request := *r
		request.Revision = min(at, store.Revision())
		return store.Range(&request, tally)
	}
	request := kv.RangeRequest{Span: r.Span, Revision: min(at, store.Revision()), CountOnly: r.CountOnly, KeysOnly: r.KeysSuffice()}
	if limit := r.FirstKeys(); limit > 0 {
		request.Limit = limit + int64(len(over))
	}
	base, err := store.Range(&request, tally)
	if err != nil {
		return nil, err
	}
	response := &kv.RangeResponse{Count: base.Count}
	for i := range over {
		if over[i].liveBase {
			response.Count--
		}
		if over[i].effect != nil && over[i].effect.Version > 0 {
			response.Count++
		}
	}
	if !r.CountOnly {
		if err := tally.Add(mergedBytes(len(base.KVs), over)); err != nil {
			return nil, err
		}
		response.KVs = mergeKeys(base.KVs, over)
		if err := ev.finish(response, r); err != nil {
			return nil, err
		}
	}
	if tally.Counts() {
		tally.Rewind(before + kv.MemoryBytes(response.KVs))
	}
	return response, nil
}

// finish filters, sorts and limits. If it drops most of the keys, what is left moves to memory of its own: keys and values share blocks, and a few
// that stay could keep all of them.
func (ev *evaluation) finish(response *kv.RangeResponse, r *kv.RangeRequest) error {
	tally, before := ev.counted(), len(response.KVs)
	r.Finish(response)
	if !tally.Counts() || 2*len(response.KVs) >= before {
		return nil
	}
	if err := tally.Add(kv.MemoryBytes(response.KVs)); err != nil {
		return err
	}
	response.KVs = slices.Clone(response.KVs)
	for i := range response.KVs {
		e := &response.KVs[i]
		e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	}
	return nil
}

// overlaidKeys lists the keys of the span that changed in flight at or before the revision. A key
// that changed only later is left to the applied state.
func (ev *evaluation) overlaidKeys(span kv.Span, at kv.Revision) ([]overlaid, error) {
	overlay := ev.overlay
	var list []overlaid
	add := func(newest *change) error {
		c := newest
		for c != nil && c.At.Rev > at {
			c = overlay.older(c)
		}
		if c == nil {
			return nil
		}
		if err := ev.tally.Look(1); err != nil {
			return err
		}
		if err := ev.tally.Add(overlaidBytes); err != nil {
			return err
		}
		oldest := c
		for older := overlay.older(oldest); older != nil; older = overlay.older(oldest) {
			oldest = older
		}
		list = append(list, overlaid{key: c.Key, effect: &c.Effect, liveBase: oldest.PrevLive})
		return nil
	}
	if !span.Single() {
		err := overlay.touched(span, add)
		return list, err
	}
	if c := overlay.find(span.Start); c != nil {
		if err := add(c); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// mergedBytes is what mergeKeys takes for a list of so many keys, and what it adds to it.
func mergedBytes(base int, over []overlaid) int64 {
	sum := int64(base) * kv.KeyValueBytes
	for i := range over {
		sum += effectBytes(over[i].effect)
	}
	return sum
}

// mergeKeys replaces the overlaid keys in a sorted list.
func mergeKeys(base []kv.KeyValue, over []overlaid) []kv.KeyValue {
	merged := make([]kv.KeyValue, 0, len(base)+len(over))
	for i := range over {
		at, _ := slices.BinarySearchFunc(base, over[i].key, func(a kv.KeyValue, key []byte) int { return bytes.Compare(a.Key, key) })
		merged = append(merged, base[:at]...)
		base = base[at:]
		if len(base) > 0 && bytes.Equal(base[0].Key, over[i].key) {
			base = base[1:]
		}
		if e := over[i].effect; e.Version > 0 {
			merged = append(merged, keyValueOf(e))
		}
	}
	return append(merged, base...)
}

func keyValueOf(e *mvcc.Effect) kv.KeyValue {
	return kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}
}
