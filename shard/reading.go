package shard

import (
	"bytes"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// reading is a state that compares and ranges are evaluated on. What it returns is in its tally.
type reading interface {
	// now is the revision of the state, compactedAt the lowest one that can be read.
	now() kv.Revision
	compactedAt() kv.Revision
	// get returns the newest version; its value may be missing unless asked for.
	get(key []byte, value bool) (kv.KeyValue, bool, error)
	// scan answers a range with all its options.
	scan(r *kv.RangeRequest) (*kv.RangeResponse, error)
	counted() *kv.Tally
}

// appliedReading reads the applied state, or a view of it.
type appliedReading struct {
	*mvcc.Reader
	tally *kv.Tally
}

func (a appliedReading) now() kv.Revision         { return a.Revision() }
func (a appliedReading) compactedAt() kv.Revision { return a.Compacted() }

func (a appliedReading) counted() *kv.Tally { return a.tally }

func (a appliedReading) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	return stored(a.Reader, key, value, a.tally)
}

func (a appliedReading) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	return a.Range(r, a.tally)
}

// overlaidReading reads the applied state overlaid with what is in flight, including what
// the request under evaluation has already written.
type overlaidReading struct{ m *Machine }

func (o overlaidReading) now() kv.Revision {
	if o.m.lead.nextSub > 0 {
		return o.m.lead.revision + 1
	}
	return o.m.lead.revision
}

func (o overlaidReading) compactedAt() kv.Revision {
	return max(o.m.applied.Compacted, o.m.lead.overlay.compacted)
}

func (o overlaidReading) counted() *kv.Tally { return &o.m.lead.tally }

func (o overlaidReading) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	if c := o.m.lead.overlay.find(key); c != nil {
		if value {
			if err := o.counted().Add(effectBytes(&c.Effect)); err != nil {
				return kv.KeyValue{}, false, err
			}
		}
		return keyValueOf(&c.Effect), c.Version > 0, nil
	}
	return stored(&o.m.store.Reader, key, value, o.counted())
}

// stored returns the newest version of a key in the applied state.
func stored(r *mvcc.Reader, key []byte, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	meta, found, err := r.Meta(key)
	if err != nil || !found || meta.Deleted() {
		return kv.KeyValue{}, false, err
	}
	if !value {
		return keyValueOfMeta(key, meta), true, nil
	}
	if err := tally.Add(rowBytes(key, meta)); err != nil {
		return kv.KeyValue{}, false, err
	}
	row, err := r.Newest(key, meta)
	return row, err == nil, err
}

func keyValueOfMeta(key []byte, meta mvcc.Meta) kv.KeyValue {
	return kv.KeyValue{Key: key, CreateRevision: meta.Create, ModRevision: meta.At.Rev, Version: meta.Version, Lease: meta.Lease}
}

func (o overlaidReading) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	now := o.now()
	at := r.Revision
	switch {
	case at > now:
		return nil, kv.ErrFutureRevision
	case at <= 0:
		at = now
	}
	if at < o.compactedAt() {
		return nil, kv.ErrCompacted
	}
	if r.Span.Single() && at == now && !r.CountOnly && !hasRevisionFilters(r) && !r.KeysOnly {
		return o.scanSingle(r.Span.Start)
	}
	return o.merge(r, at)
}

func (o overlaidReading) scanSingle(key []byte) (*kv.RangeResponse, error) {
	found, ok, err := o.get(key, true)
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
func (o overlaidReading) merge(r *kv.RangeRequest, at kv.Revision) (*kv.RangeResponse, error) {
	tally := o.counted()
	before := tally.HeldBytes()
	over, err := o.overlaidKeys(r.Span, at)
	if err != nil {
		return nil, err
	}
	store := o.m.store
	if len(over) == 0 {
		request := *r
		request.Revision = min(at, store.Revision())
		return store.Range(&request, tally)
	}
	request := kv.RangeRequest{Span: r.Span, Revision: min(at, store.Revision()), CountOnly: r.CountOnly, KeysOnly: keysSuffice(r)}
	if limit := scanLimit(r); limit > 0 {
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
		if err := o.finish(response, r); err != nil {
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
func (o overlaidReading) finish(response *kv.RangeResponse, r *kv.RangeRequest) error {
	tally, before := o.counted(), len(response.KVs)
	finishRange(response, r)
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
func (o overlaidReading) overlaidKeys(span kv.Span, at kv.Revision) ([]overlaid, error) {
	overlay := o.m.lead.overlay
	var list []overlaid
	add := func(newest *change) error {
		c := newest
		for c != nil && c.At.Rev > at {
			c = overlay.older(c)
		}
		if c == nil {
			return nil
		}
		if err := o.counted().Add(overlaidBytes); err != nil {
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
		return func(a, b *kv.KeyValue) int { return compareInt(a.Version, b.Version) }
	case kv.SortByCreate:
		return func(a, b *kv.KeyValue) int { return compareInt(int64(a.CreateRevision), int64(b.CreateRevision)) }
	case kv.SortByMod:
		return func(a, b *kv.KeyValue) int { return compareInt(int64(a.ModRevision), int64(b.ModRevision)) }
	case kv.SortByValue:
		return func(a, b *kv.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return func(a, b *kv.KeyValue) int { return strings.Compare(keyString(a.Key), keyString(b.Key)) }
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
