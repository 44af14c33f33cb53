package mvcc

import (
	"bytes"
	"fmt"
	"math"

	"github.com/quoratedb/quorate/kv"
)

// List reads a span in key order, portion by portion, so that a list of any size can be answered without being in memory. Its
// reader must not change meanwhile: take a View. Between calls it holds nothing but where it is. It is for one goroutine.
type List struct {
	reader   *Reader
	at       kv.Revision
	keysOnly bool
	limit    int64 // 0: none
	next     []byte
	upper    []byte
	returned int64
	// aheadKeys bounds how many keys are looked at for a portion. It falls when values at the revision are much larger than the newest ones, by
	// which a scan measures: what does not fit is looked for again.
	aheadKeys int
	done      bool
	end       *listEnd // once it is known
}

// listEnd is how a list ends.
type listEnd struct {
	keys  int64  // within the limit
	rest  []byte // first key that the limit cut off; nil: there is none
	count int64  // of the span; 0: not known yet
}

// InKeyOrder tells whether NewList takes the request: keys in ascending order, all of which are wanted.
func InKeyOrder(q *kv.RangeRequest) bool {
	return !q.CountOnly && !q.Filters() && q.SortTarget == kv.SortByKey && (q.SortOrder == kv.SortNone || q.SortOrder == kv.SortAscend)
}

// NewList begins a list. A request that is not InKeyOrder is refused with kv.ErrInvalidRequest, a revision that cannot be read as by Range.
func (r *Reader) NewList(q *kv.RangeRequest) (*List, error) {
	at, err := r.readRevision(q.Revision)
	if err != nil {
		return nil, err
	}
	if !InKeyOrder(q) {
		return nil, fmt.Errorf("list a range in portions: other orders, filters and counts need the whole range at once: %w", kv.ErrInvalidRequest)
	}
	lower, upper := q.Span.Bounds()
	limit := max(q.Limit, 0)
	if limit == math.MaxInt64 {
		limit = 0 // nothing reaches it, and one more is looked for than may be returned
	}
	l := &List{reader: r, at: at, keysOnly: q.KeysOnly, limit: limit, next: lower, upper: upper, aheadKeys: r.options.ChunkKeys}
	if q.Span.Empty() {
		l.finish(&listEnd{})
	}
	return l, nil
}

func (l *List) finish(end *listEnd) {
	l.done, l.end = true, end
}

// Next returns the next keys, of about so many bytes in memory, but at least one; nil when there are no more. What it reads ahead is no more
// than about that. The tally is left with what is returned; nil: nobody counts.
func (l *List) Next(bytes int64, tally *kv.Tally) ([]kv.KeyValue, error) {
	return l.NextKeys(math.MaxInt, bytes, tally)
}

// NextKeys is Next for so many keys at most, which is at least one. It does not look much farther than that.
func (l *List) NextKeys(most int, bytes int64, tally *kv.Tally) ([]kv.KeyValue, error) {
	before := tally.HeldBytes()
	kvs, err := l.portion(most, max(bytes, 1), tally)
	if err != nil {
		tally.Rewind(before)
		return nil, err
	}
	if tally.Counts() {
		tally.Rewind(before + kv.MemoryBytes(kvs))
	}
	return kvs, nil
}

// portion moves the list only when it has what it returns.
func (l *List) portion(most int, bytes int64, tally *kv.Tally) ([]kv.KeyValue, error) {
	if l.done {
		return nil, nil
	}
	found, more, err := l.scan(most, bytes, tally)
	if err != nil {
		return nil, err
	}
	n := min(l.fitting(found, bytes), most)
	items, err := apart(found[:n], len(found), tally)
	if err != nil {
		return nil, err
	}
	if !l.keysOnly {
		if err := l.reader.load(items, tally); err != nil {
			return nil, err
		}
	}
	if err := tally.Add(int64(n) * kv.KeyValueBytes); err != nil {
		return nil, err
	}
	l.move(found, n, more)
	if n == 0 {
		return nil, nil
	}
	return keyValues(items, l.keysOnly), nil
}

// scan finds the next keys, so many at most: with the limit one more than may be returned, to know whether there is one, or some more.
func (l *List) scan(most int, bytes int64, tally *kv.Tally) (items []item, more bool, err error) {
	if l.upper != nil && text(l.next) >= text(l.upper) {
		return nil, false, nil
	}
	limits := scanLimits{keys: min(l.aheadKeys, most), bytes: bytes, values: !l.keysOnly, tally: tally}
	if l.limit > 0 {
		limits.keys = int(min(int64(limits.keys), l.limit-l.returned+1))
	}
	m := l.reader.newMerge(l.next, l.upper, limits.values)
	defer m.close()
	for more = true; more && len(items) == 0; {
		before := tally.HeldBytes()
		if items, more, err = l.reader.scanChunk(m, l.at, limits); err != nil {
			return nil, false, err
		}
		if len(items) == 0 {
			tally.Rewind(before)
			limits.widen()
		}
	}
	return items, more, nil
}

// fitting tells how many of the items the next portion has.
func (l *List) fitting(items []item, bytes int64) int {
	n := chunkLength(len(items), bytes, func(i int) int64 { return items[i].size(!l.keysOnly) })
	if l.limit > 0 {
		n = int(min(int64(n), l.limit-l.returned))
	}
	return n
}

// move goes behind the first n items. more: there may be keys after them.
func (l *List) move(items []item, n int, more bool) {
	l.returned += int64(n)
	switch {
	case n < len(items) && l.returned == l.limit: // never with limit 0: then n is at least 1
		l.finish(&listEnd{keys: l.returned, rest: bytes.Clone(items[n].key)})
	case n < len(items):
		l.next, l.aheadKeys = bytes.Clone(items[n].key), min(2*n+16, l.reader.options.ChunkKeys)
	case more:
		l.next, l.aheadKeys = append(bytes.Clone(items[n-1].key), 0), min(2*l.aheadKeys, l.reader.options.ChunkKeys)
	default:
		l.finish(&listEnd{keys: l.returned})
	}
}

// measureKeys and measureBytes bound what Measure looks at together.
const (
	measureKeys  = 4096
	measureBytes = 256 << 10
)

// Measure gives the keys that Next has not returned yet, with the limit obeyed, to fn, without their values, and without moving
// the list. The key is valid only during the call. Afterwards More and Count are known. The tally counts what is read ahead.
func (l *List) Measure(tally *kv.Tally, fn func(key []byte, m Meta) error) error {
	if l.done {
		return nil
	}
	r := l.reader
	end := &listEnd{keys: l.returned}
	limits := scanLimits{keys: min(measureKeys, r.options.ChunkKeys), bytes: measureBytes, tally: tally}
	if l.limit > 0 {
		limits.keys = int(min(int64(limits.keys), l.limit-l.returned+1))
	}
	err := r.scan(l.next, l.upper, l.at, limits, func(items []item, held int64) (bool, error) {
		defer tally.Forget(held)
		for i := range items {
			if l.limit > 0 && end.keys == l.limit {
				end.rest = bytes.Clone(items[i].key)
				return false, nil
			}
			if err := fn(items[i].key, items[i].meta); err != nil {
				return false, err
			}
			end.keys++
		}
		return true, nil
	})
	if err == nil {
		l.end = end
	}
	return err
}

// More tells whether the limit cut anything off. It is known once Next returned nil, or after Measure; false before.
func (l *List) More() bool { return l.end != nil && l.end.rest != nil }

// Count is the number of keys in the span, whatever the limit. Once Next returned nil, or after Measure, it costs little: what was read is not
// counted again. The tally counts what is read ahead.
func (l *List) Count(tally *kv.Tally) (int64, error) {
	if l.end == nil {
		after, err := l.reader.count(l.next, l.upper, l.at, tally)
		return l.returned + after, err
	}
	if l.end.rest == nil {
		return l.end.keys, nil
	}
	if l.end.count == 0 {
		after, err := l.reader.count(l.end.rest, l.upper, l.at, tally)
		if err != nil {
			return 0, err
		}
		l.end.count = l.end.keys + after
	}
	return l.end.count, nil
}

// Unread takes back the last n keys that were returned; first is the first of them. They are returned again.
func (l *List) Unread(first []byte, n int) {
	l.next, l.returned = bytes.Clone(first), l.returned-int64(n)
	l.done, l.end = false, nil
}

// Ahead returns another list, which goes on where this one is with so many keys at most (0: no limit), without their values.
func (l *List) Ahead(limit int64) *List {
	ahead := *l
	ahead.keysOnly, ahead.limit = true, 0
	if limit > 0 {
		ahead.limit = l.returned + limit
	}
	if !l.done {
		ahead.end = nil
	}
	return &ahead
}

// Ended tells whether the last key was returned: whether Next will return nil.
func (l *List) Ended() (bool, error) {
	if l.done {
		return true, nil
	}
	items, _, err := l.scan(math.MaxInt, 1, nil)
	switch {
	case err != nil:
		return false, err
	case len(items) == 0:
		l.finish(&listEnd{keys: l.returned})
	case l.limit > 0 && l.returned == l.limit:
		l.finish(&listEnd{keys: l.returned, rest: bytes.Clone(items[0].key)})
	}
	return l.done, nil
}
