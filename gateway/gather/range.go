package gather

import (
	"bytes"
	"math"
	"slices"
	"unsafe"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// State is what one shard has, frozen.
type State = *mvcc.View

// store is what the shards have together at a revision. It implements shard.ReadState.
type store struct {
	// states returns those of the shards that may have keys of a span, in the order of the keys if they are ordered: then the states have disjoint spans.
	states        func(kv.Span) []State
	ordered       bool
	at, compacted kv.Revision
}

// Range answers a range. What the answer takes is left in the tally, which counts all that is held on the way: about as much again, or with an order
// other than by key twice that, and what one shard holds at a time.
func (s *store) Range(q *kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error) {
	r, err := s.begin(q)
	if err != nil {
		return nil, err
	}
	before := tally.HeldBytes()
	response, err := r.answer(tally)
	switch {
	case err != nil:
		tally.Rewind(before)
		return nil, err
	case tally.Counts():
		tally.Rewind(before + kv.MemoryBytes(response.KVs))
	}
	return response, nil
}

// stream answers a range in chunks.
func (s *store) stream(q *kv.RangeRequest, chunkBytes int64, tally *kv.Tally, fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	list := func() (mvcc.Portions, error) { return s.list(q) }
	answer := func() (*kv.RangeResponse, error) { return s.Range(q, tally) }
	return mvcc.Stream(q, chunkBytes, tally, list, answer, fn)
}

// read is a range at a revision.
type read struct {
	*kv.RangeRequest
	states  []State // that may have keys of its span
	ordered bool
	at      kv.Revision
}

// begin judges which revision a range reads.
func (s *store) begin(q *kv.RangeRequest) (read, error) {
	states, at, compacted := s.states(q.Span), s.at, s.compacted
	for _, state := range states {
		compacted = max(compacted, state.Compacted())
	}
	if q.Revision > at {
		return read{}, kv.ErrFutureRevision
	}
	if q.Revision > 0 {
		at = q.Revision
	}
	if at < compacted {
		return read{}, kv.ErrCompacted
	}
	return read{q, states, s.ordered, at}, nil
}

// spanIn is the span of the range as a state needs to know it: of those that are in the order of the keys, only the first has any before the span, and
// only the last behind it. To count all keys of a state it looks at none.
func (r *read) spanIn(at int) kv.Span {
	span := r.Span
	if r.ordered && at > 0 {
		span.Start = kv.Everything().Start
	}
	if r.ordered && at+1 < len(r.states) {
		span.End = kv.Everything().End
	}
	return span
}

// within is the revision at which to read a state for one of the store.
func within(s State, at kv.Revision) kv.Revision {
	if at >= s.Revision() {
		return 0
	}
	return at
}

// of asks one of the states.
func (r *read) of(s State, q kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error) {
	q.Revision = within(s, r.at)
	return s.Range(&q, tally)
}

func (r *read) answer(tally *kv.Tally) (*kv.RangeResponse, error) {
	switch {
	case len(r.states) == 1:
		return r.of(r.states[0], *r.RangeRequest, tally)
	case r.CountOnly:
		return r.count(tally)
	case r.Span.Empty():
		return &kv.RangeResponse{}, nil
	case r.firstDecide():
		return r.first(tally)
	}
	return r.best(tally)
}

func (r *read) count(tally *kv.Tally) (*kv.RangeResponse, error) {
	sum := &kv.RangeResponse{}
	for _, s := range r.states {
		part, err := r.of(s, *r.RangeRequest, tally)
		if err != nil {
			return nil, err
		}
		sum.Count += part.Count
	}
	return sum, nil
}

// firstDecide tells whether the first keys of the span, in key order, make the answer.
func (r *read) firstDecide() bool {
	if mvcc.InKeyOrder(r.RangeRequest) {
		return true
	}
	inKeyOrder := *r.RangeRequest
	inKeyOrder.SortTarget = kv.SortByKey
	return r.SortOrder == kv.SortNone && r.limited() && mvcc.InKeyOrder(&inKeyOrder)
}

func (r *read) limited() bool { return r.Limit > 0 && r.Limit < math.MaxInt64 }

// pageBytes is what is read at a time of the keys of an answer.
const pageBytes = 4 << 20

// first answers from the first keys: as many as the limit; or one more, if these are then sorted by something else, as etcd does.
func (r *read) first(tally *kv.Tally) (*kv.RangeResponse, error) {
	sorted := r.SortTarget != kv.SortByKey
	q := kv.RangeRequest{Span: r.Span, Limit: r.Limit, KeysOnly: r.KeysSuffice()}
	if sorted {
		q.Limit++
	}
	l, err := r.list(&q)
	if err != nil {
		return nil, err
	}
	var kvs []kv.KeyValue
	for l.left() > 0 {
		portion, err := l.Next(pageBytes, tally)
		if err != nil {
			return nil, err
		}
		if portion == nil {
			break
		}
		if err := tally.Add(int64(len(portion)) * kv.KeyValueBytes); err != nil { // the list is copied as it grows
			return nil, err
		}
		kvs = append(kvs, portion...)
	}
	count, err := l.Count(tally)
	if err != nil {
		return nil, err
	}
	if sorted {
		slices.SortFunc(kvs, func(a, b kv.KeyValue) int { return r.Compare(&a, &b) })
	}
	response := &kv.RangeResponse{KVs: kvs, Count: count}
	if r.limited() && count > r.Limit {
		response.KVs, response.More = kvs[:min(int64(len(kvs)), r.Limit)], true
	}
	if r.KeysOnly {
		forgetValues(response.KVs)
	}
	return response, nil
}

func forgetValues(kvs []kv.KeyValue) {
	for i := range kvs {
		kvs[i].Value = nil
	}
}

// found is a key of an answer, and the state that has it.
type found struct {
	kv.KeyValue
	in State
}

const foundBytes = 2 * int64(unsafe.Sizeof(found{})) // a list is there twice while it grows

func contentBytes(list []found) (sum int64) {
	for i := range list {
		sum += foundBytes + int64(len(list[i].Key)+len(list[i].Value))
	}
	return sum
}

// best answers what every key of the span decides. Each state brings as many as the limit, the best of its own; the values of those that are the best
// of all are read in the end, unless they are what decides.
func (r *read) best(tally *kv.Tally) (*kv.RangeResponse, error) {
	byValue := r.SortTarget == kv.SortByValue
	q := *r.RangeRequest
	q.KeysOnly = !byValue && (r.KeysOnly || r.limited())
	if !r.limited() {
		q.SortOrder, q.SortTarget = kv.SortNone, kv.SortByKey // all are sorted together
	}
	before, seen := tally.HeldBytes(), 0
	var list []found
	response := &kv.RangeResponse{}
	for _, s := range r.states {
		part, err := r.of(s, q, tally)
		if err != nil {
			return nil, err
		}
		if err := tally.Add(int64(len(part.KVs)) * foundBytes); err != nil {
			return nil, err
		}
		seen += len(part.KVs)
		for _, e := range part.KVs {
			list = append(list, found{e, s})
		}
		response.Count, response.More = response.Count+part.Count, response.More || part.More
		if r.limited() && int64(len(list)) > r.Limit {
			slices.SortFunc(list, func(a, b found) int { return r.Compare(&a.KeyValue, &b.KeyValue) })
			clear(list[r.Limit:])
			list, response.More = list[:r.Limit], true
		}
		if tally.Counts() {
			tally.Rewind(before + contentBytes(list))
		}
	}
	slices.SortFunc(list, func(a, b found) int { return r.Compare(&a.KeyValue, &b.KeyValue) })
	kvs, err := r.finish(list, seen, tally)
	if err != nil {
		return nil, err
	}
	if response.KVs = kvs; r.KeysOnly {
		forgetValues(kvs)
	}
	return response, nil
}

// finish makes the answer of what is left of so many keys that were seen.
func (r *read) finish(list []found, seen int, tally *kv.Tally) ([]kv.KeyValue, error) {
	if err := tally.Add(int64(len(list)) * kv.KeyValueBytes); err != nil {
		return nil, err
	}
	kvs := make([]kv.KeyValue, len(list))
	for i := range list {
		kvs[i] = list[i].KeyValue
	}
	if tally.Counts() && 2*len(list) < seen { // keys and values share memory, and those that were dropped would keep it
		if err := tally.Add(contentBytes(list)); err != nil {
			return nil, err
		}
		for i := range kvs {
			kvs[i].Key, kvs[i].Value = bytes.Clone(kvs[i].Key), bytes.Clone(kvs[i].Value)
		}
	}
	if r.KeysOnly || !r.limited() || r.SortTarget == kv.SortByValue {
		return kvs, nil
	}
	for i := range kvs {
		e, live, err := get(list[i].in, kvs[i].Key, r.at, true, tally)
		if err != nil {
			return nil, err
		}
		if live {
			kvs[i].Value = e.Value
		}
	}
	return kvs, nil
}

// get returns the live version of a key at a revision; its value only if it is wanted.
func get(s State, key []byte, at kv.Revision, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	m, live, err := s.MetaAt(key, within(s, at))
	if err != nil || !live {
		return kv.KeyValue{}, false, err
	}
	if !value {
		return kv.KeyValue{Key: key, CreateRevision: m.Create, ModRevision: m.At.Rev, Version: m.Version, Lease: m.Lease}, true, nil
	}
	if err := tally.Add(kv.KeyValueBytes + int64(len(key)) + int64(m.ValueLen)); err != nil {
		return kv.KeyValue{}, false, err
	}
	if err := tally.LookAt(int(m.ValueLen)); err != nil {
		return kv.KeyValue{}, false, err
	}
	e, err := s.Newest(key, m)
	return e, err == nil, err
}
