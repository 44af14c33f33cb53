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
	// each gives the live keys of a span to fn, in order, until it returns false. The key is valid only during the call.
	each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error
	// scan answers a range with all its options.
	scan(r *kv.RangeRequest) (*kv.RangeResponse, error)
	counted() *kv.Tally
	// compares and reaches are asked before revisions are compared with one, or a state as of one is read: it may not be known yet what the answer is.
	compares(kv.Revision) error
	reaches(kv.Revision) error
}

// appliedReading reads the applied state, or a view of it.
type appliedReading struct {
	*mvcc.Reader
	tally *kv.Tally
	// at, if it is not 0, is the revision as of which the state is read. It may be above that of the state, which is complete up to it then. Reads below
	// floor are refused, even if the state has not heard of the compaction.
	at, floor kv.Revision
}

func (a appliedReading) now() kv.Revision {
	if a.at != 0 {
		return a.at
	}
	return a.Revision()
}

func (a appliedReading) compactedAt() kv.Revision { return max(a.Compacted(), a.floor) }

// past tells whether the state is read as of an earlier revision than its own.
func (a appliedReading) past() bool { return a.at != 0 && a.at < a.Revision() }

func (a appliedReading) counted() *kv.Tally { return a.tally }

func (a appliedReading) compares(kv.Revision) error { return nil }
func (a appliedReading) reaches(kv.Revision) error  { return nil }

func (a appliedReading) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	if !a.past() {
		return stored(a.Reader, key, value, a.tally)
	}
	meta, found, err := a.Meta(key)
	if err != nil || !found {
		return kv.KeyValue{}, false, err
	}
	if meta.At.Rev <= a.at { // as of most keys
		return storedAs(a.Reader, key, meta, value, a.tally)
	}
	older, err := a.Range(&kv.RangeRequest{Span: kv.Span{Start: key}, Revision: a.at, KeysOnly: !value}, a.tally)
	if err != nil || len(older.KVs) == 0 {
		return kv.KeyValue{}, false, err
	}
	return older.KVs[0], true, nil
}

func (a appliedReading) each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error {
	at := kv.Revision(0)
	if a.past() {
		at = a.at
	}
	return a.Scan(span, at, a.tally, fn)
}

func (a appliedReading) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	if a.at == 0 {
		return a.Range(r, a.tally)
	}
	request, err := RangeAsOf(r, a.at, a.Revision(), a.compactedAt())
	if err != nil {
		return nil, err
	}
	return a.Range(request, a.tally)
}

// RangeAsOf returns the request by which a state at a revision answers a range as of another one, up to which it is complete: r itself, if it asks for the
// same. Revisions above that are in the future, those below compacted are compacted.
func RangeAsOf(r *kv.RangeRequest, at, state, compacted kv.Revision) (*kv.RangeRequest, error) {
	switch asked := r.Revision; {
	case asked > at:
		return nil, kv.ErrFutureRevision
	case asked > 0 && asked < compacted:
		return nil, kv.ErrCompacted
	case asked > 0:
		at = asked
	}
	if at >= state {
		at = 0 // the newest
	}
	if at == max(r.Revision, 0) {
		return r, nil
	}
	request := *r
	request.Revision = at
	return &request, nil
}

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

// stored returns the newest version of a key in the applied state.
func stored(r *mvcc.Reader, key []byte, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	meta, found, err := r.Meta(key)
	if err != nil || !found {
		return kv.KeyValue{}, false, err
	}
	return storedAs(r, key, meta, value, tally)
}

// storedAs returns the version of a key that is the newest, as Meta says.
func storedAs(r *mvcc.Reader, key []byte, meta mvcc.Meta, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	if meta.Deleted() {
		return kv.KeyValue{}, false, nil
	}
	if !value {
		return keyValueOfMeta(key, meta), true, nil
	}
	if err := tally.Add(rowBytes(key, meta)); err != nil {
		return kv.KeyValue{}, false, err
	}
	if err := tally.LookAt(int(meta.ValueLen)); err != nil {
		return kv.KeyValue{}, false, err
	}
	row, err := r.Newest(key, meta)
	return row, err == nil, err
}

func keyValueOfMeta(key []byte, meta mvcc.Meta) kv.KeyValue {
	return kv.KeyValue{Key: key, CreateRevision: meta.Create, ModRevision: meta.At.Rev, Version: meta.Version, Lease: meta.Lease}
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
	if r.Span.Single() && at == now && !r.CountOnly && !hasRevisionFilters(r) && !r.KeysOnly {
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
