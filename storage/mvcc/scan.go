package mvcc

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// item is a live key found by a scan.
type item struct {
	key    []byte
	meta   Meta
	value  []byte
	loaded bool // value is set
}

func (i *item) keyValue() kv.KeyValue {
	return kv.KeyValue{Key: i.key, Value: i.value, CreateRevision: i.meta.Create, ModRevision: i.meta.At.Rev, Version: i.meta.Version, Lease: i.meta.Lease}
}

// arena gives out copies of small byte strings from large blocks. The first is small: most reads are.
type arena struct {
	free  []byte
	block int // size of the last one
}

func (a *arena) copy(b []byte) []byte {
	if len(b) > len(a.free) {
		if len(b) > 4<<10 {
			return bytes.Clone(b)
		}
		a.block = min(max(2*a.block, 512), 32<<10)
		a.free = make([]byte, max(a.block, len(b)))
	}
	c := a.free[:len(b):len(b)]
	a.free = a.free[len(b):]
	copy(c, b)
	return c
}

// scanLimits bound a chunk of a scan: whichever is reached first.
type scanLimits struct {
	keys   int
	bytes  int64 // of keys and values
	ready  int64 // of keys and values, unless values are missing that are best looked up for many keys at once; 0: no such limit
	values bool  // the caller needs values
}

// scan gives the live keys of an interval at a revision to fn, in key order, chunk by
// chunk. The items belong to fn. fn returns false to stop.
func (r *Reader) scan(lower, upper []byte, at kv.Revision, limits scanLimits, fn func([]item) (bool, error)) error {
	if upper != nil && bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	m := r.newMerge(lower, upper, limits.values)
	defer m.close()
	for {
		items, more, err := r.scanChunk(m, at, limits)
		if err != nil {
			return err
		}
		if len(items) > 0 {
			if proceed, err := fn(items); err != nil || !proceed {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

func (r *Reader) scanChunk(m *merge, at kv.Revision, limits scanLimits) (items []item, more bool, err error) {
	var a arena
	var older []reference // items whose version at the revision must be looked for, and where to begin
	size, complete := int64(0), limits.ready > 0
	for len(items) < limits.keys && size < limits.bytes && !(complete && size >= limits.ready) {
		row, ok, err := m.next()
		if err != nil {
			return nil, false, err
		}
		if !ok {
			items, err = r.resolveItems(items, older, at, limits.values)
			return items, false, err
		}
		it := item{meta: row.Meta}
		switch {
		case row.At.Rev > r.revision: // left by a flush that a crash interrupted
			if row.base.Rev == 0 {
				continue
			}
			older = append(older, reference{row.base, len(items)})
		case row.At.Rev > at:
			older = append(older, reference{row.At, len(items)})
		case row.Deleted():
			continue
		case limits.values:
			value, ok, err := m.value(row.At)
			if err != nil {
				return nil, false, err
			}
			if ok {
				it.value, it.loaded = a.copy(value), true
			}
		}
		it.key = a.copy(m.key)
		complete = complete && it.loaded
		items = append(items, it)
		size += int64(len(m.key)) + int64(row.ValueLen)
	}
	items, err = r.resolveItems(items, older, at, limits.values)
	return items, true, err
}

// reference is a version row that item number index needs.
type reference struct {
	at    Locator
	index int
}

// resolveItems replaces the metas of the pending items by the ones at the revision, and removes keys that
// were not live. All chains advance together, a version each round, in row order.
func (r *Reader) resolveItems(items []item, pending []reference, at kv.Revision, values bool) ([]item, error) {
	if len(pending) == 0 {
		return items, nil
	}
	var a arena
	for len(pending) > 0 {
		var next []reference
		err := r.visitRows(pending, func(ref reference, v *version) error {
			it := &items[ref.index]
			switch {
			case v == nil:
				it.meta = Meta{}
				return r.dangling(ref.at)
			case ref.at.Rev > at && v.prev.Rev > 0:
				next = append(next, reference{v.prev, ref.index})
			case ref.at.Rev > at:
				it.meta = Meta{}
			default:
				it.meta = v.meta()
				if values && v.number != 0 {
					it.value, it.loaded = a.copy(v.value), true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		pending = next
	}
	return slices.DeleteFunc(items, func(i item) bool { return i.meta.Deleted() }), nil
}

// load reads the values that are missing, in row order.
func (r *Reader) load(items []item) error {
	wanted := make([]reference, 0, len(items))
	for i := range items {
		if !items[i].loaded {
			wanted = append(wanted, reference{items[i].meta.At, i})
		}
	}
	if len(wanted) == 1 {
		it := &items[wanted[0].index]
		v, ok, err := r.version(wanted[0].at)
		if err == nil && !ok {
			err = missing(wanted[0].at, it.key)
		}
		it.value, it.loaded = v.value, true
		return err
	}
	var a arena
	return r.visitRows(wanted, func(ref reference, v *version) error {
		it := &items[ref.index]
		if v == nil {
			return missing(ref.at, it.key)
		}
		it.value, it.loaded = a.copy(v.value), true
		return nil
	})
}

// A step to the next row costs about a tenth of a seek. A batched lookup seeks at once when
// the next row it wants is farther away than farRevisions, and otherwise after
// nextsBeforeSeek steps: revisions that are compacted away have no rows.
const (
	farRevisions    = 16
	nextsBeforeSeek = 16
)

// visitRows reads the referenced rows with one iterator, in row order (it sorts
// references). fn gets nil for a row that is not there; what it gets is valid only during the call.
func (r *Reader) visitRows(references []reference, fn func(reference, *version) error) error {
	if len(references) == 0 {
		return nil
	}
	slices.SortFunc(references, func(a, b reference) int {
		if a.at.Less(b.at) {
			return -1
		}
		if b.at.Less(a.at) {
			return 1
		}
		return a.index - b.index
	})
	last := references[len(references)-1].at
	it := r.source.NewIterator(appendVersionKey(nil, references[0].at), append(appendVersionKey(nil, last), 0))
	defer it.Close()
	var key [versionKeySize]byte
	for n, ref := range references {
		target := appendVersionKey(key[:0], ref.at)
		far := n == 0 || ref.at.Rev-references[n-1].at.Rev > farRevisions
		found := seekForward(it, target, far)
		if err := it.Error(); err != nil {
			return err
		}
		var v *version
		if found {
			row, err := parseVersionRow(ref.at, it.Value())
			if err != nil {
				return err
			}
			v = &row
		}
		if err := fn(ref, v); err != nil {
			return err
		}
	}
	return nil
}

// seekForward moves the iterator to the key, which is not before its position, and tells whether it is there.
func seekForward(it storage.Iterator, key []byte, far bool) bool {
	if far {
		return it.SeekGE(key) && bytes.Equal(it.Key(), key)
	}
	for range nextsBeforeSeek {
		if !it.Valid() {
			return false // behind the last row
		}
		if c := bytes.Compare(it.Key(), key); c >= 0 {
			return c == 0
		}
		it.Next()
	}
	if it.Valid() && bytes.Compare(it.Key(), key) < 0 {
		it.SeekGE(key)
	}
	return it.Valid() && bytes.Equal(it.Key(), key)
}

// visitVersions gives the version rows of [from, to) to fn, in order, until it returns
// false. What it gives is valid only during the call.
func (r *Reader) visitVersions(from, to Locator, fn func(*version) (bool, error)) error {
	if !from.Less(to) {
		return nil
	}
	it := r.source.NewIterator(appendVersionKey(nil, from), appendVersionKey(nil, to))
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		at, err := parseVersionKey(it.Key())
		if err != nil {
			return err
		}
		v, err := parseVersionRow(at, it.Value())
		if err != nil {
			return err
		}
		if proceed, err := fn(&v); err != nil || !proceed {
			return err
		}
	}
	return it.Error()
}

// Scan gives the metas of the live keys in a span at a revision (0: the newest) to
// fn, in key order, until it returns false. The key is valid only during the call.
func (r *Reader) Scan(span kv.Span, at kv.Revision, fn func(key []byte, m Meta) bool) error {
	at, err := r.readRevision(at)
	if err != nil || span.Empty() {
		return err
	}
	lower, upper := span.Bounds()
	limits := scanLimits{keys: 64, bytes: 1 << 62}
	return r.scan(lower, upper, at, limits, func(items []item) (bool, error) {
		for i := range items {
			if !fn(items[i].key, items[i].meta) {
				return false, nil
			}
		}
		return true, nil
	})
}

// Load reads the version rows at the locators in one pass, in row order, and returns them in
// the order given. A row that is not there leaves a zero KeyValue.
func (r *Reader) Load(locators []Locator) ([]kv.KeyValue, error) {
	references := make([]reference, len(locators))
	for i, at := range locators {
		references[i] = reference{at, i}
	}
	var a arena
	found := make([]kv.KeyValue, len(locators))
	err := r.visitRows(references, func(ref reference, v *version) error {
		if v != nil {
			found[ref.index] = v.keyValue()
			found[ref.index].Key, found[ref.index].Value = a.copy(v.key), a.copy(v.value)
		}
		return nil
	})
	return found, err
}
