package mvcc

import (
	"bytes"
	"slices"
	"unsafe"

	"github.com/quoratedb/quorate/kv"
)

// item is a live key found by a scan.
type item struct {
	key    []byte
	meta   Meta
	value  []byte
	loaded bool // value is set
}

// What the things in a list take beside their bytes. A list that grows is counted twice: while it is copied both are there.
const (
	itemBytes      = 2 * int64(unsafe.Sizeof(item{}))
	referenceBytes = 2 * int64(unsafe.Sizeof(reference{}))
)

// contentBytes is what the keys, and the values that are read, take.
func contentBytes(items []item) (sum int64) {
	for i := range items {
		sum += int64(len(items[i].key) + len(items[i].value))
	}
	return sum
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
	bytes  int64 // of the chunk in memory
	values bool  // the caller needs values
	tally  *kv.Tally
}

// A chunk that turns out to be empty is followed by a larger one, up to this.
const (
	widestKeys  = 4096
	widestBytes = 256 << 10
)

// widen is called when a chunk turned out to be empty: its keys came after the revision, or were gone by then. There may be many of them,
// and versions of many keys are looked up in one pass.
func (l *scanLimits) widen() {
	if l.keys < widestKeys {
		l.keys = min(4*l.keys, widestKeys)
	}
	if l.bytes < widestBytes {
		l.bytes = min(4*l.bytes, widestBytes)
	}
}

// scan gives the live keys of an interval at a revision to fn, in key order, chunk by
// chunk. The items belong to fn; held is what the tally counts for them, and for what was needed to find them. fn returns false to stop.
func (r *Reader) scan(lower, upper []byte, at kv.Revision, limits scanLimits, fn func(items []item, held int64) (bool, error)) error {
	if upper != nil && bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	m := r.newMerge(lower, upper, limits.values)
	defer m.close()
	for {
		before := limits.tally.HeldBytes()
		items, more, err := r.scanChunk(m, at, limits)
		if err != nil {
			return err
		}
		held := limits.tally.HeldBytes() - before
		if len(items) == 0 {
			limits.tally.Forget(held)
			limits.widen()
		} else if proceed, err := fn(items, held); err != nil || !proceed {
			return err
		}
		if !more {
			return nil
		}
	}
}

// scanChunk returns the next live keys. There may be none of them although there is more: then what was read lives no more, or not yet.
func (r *Reader) scanChunk(m *merge, at kv.Revision, limits scanLimits) (items []item, more bool, err error) {
	var a arena
	var older []reference // items whose version at the revision must be looked for, and where to begin
	size := int64(0)
	for len(items) < limits.keys && size < limits.bytes {
		row, ok, err := m.next()
		if err != nil {
			return nil, false, err
		}
		if !ok {
			items, err = r.resolveItems(items, older, at, limits)
			return items, false, err
		}
		if err := limits.tally.Look(1); err != nil {
			return nil, false, err
		}
		it := item{meta: row.Meta}
		from, held := Locator{}, itemBytes+int64(len(m.key))
		switch {
		case row.At.Rev > at:
			from = row.At
		case row.Deleted():
			continue
		case limits.values:
			value, ok, err := m.value(&row)
			if err != nil {
				return nil, false, err
			}
			if it.loaded = ok; ok {
				it.value = value
				held += int64(len(value))
				if err := limits.tally.LookAt(len(value)); err != nil {
					return nil, false, err
				}
			}
		}
		if from.Rev > 0 {
			held += referenceBytes
		}
		if err := limits.tally.Add(held); err != nil {
			return nil, false, err
		}
		if it.loaded {
			it.value = a.copy(it.value)
		}
		if from.Rev > 0 {
			older = append(older, reference{from, len(items)})
		}
		it.key = a.copy(m.key)
		items = append(items, it)
		size += it.size(limits.values)
	}
	items, err = r.resolveItems(items, older, at, limits)
	return items, true, err
}

// size is what an answer takes with the key and, perhaps, the value.
func (i *item) size(value bool) int64 {
	size := kv.KeyValueBytes + int64(len(i.key))
	if value {
		size += int64(i.meta.ValueLen)
	}
	return size
}

// reference is a version row that item number index needs.
type reference struct {
	at    Locator
	index int
}

// resolveItems replaces the metas of the pending items by the ones at the revision, and removes keys that
// were not live. All chains advance together, a version each round, in row order. Values are read on the way while
// they fit into the chunk; they may be larger than those by which it was measured.
func (r *Reader) resolveItems(items []item, pending []reference, at kv.Revision, limits scanLimits) ([]item, error) {
	if len(pending) == 0 {
		return items, nil
	}
	var a arena
	read := int64(0)
	for len(pending) > 0 {
		var next []reference
		err := r.visitRows(pending, limits.values, func(ref reference, v *version) error {
			it := &items[ref.index]
			if err := limits.tally.Look(1); err != nil {
				return err
			}
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
				if limits.values && v.number != 0 && read < limits.bytes {
					read += int64(len(v.value))
					return it.load(&a, v.value, limits.tally)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		pending = next
	}
	return drop(items, func(i *item) bool { return i.meta.Deleted() }, limits.tally)
}

// load gives the item a copy of its value.
func (i *item) load(a *arena, value []byte, tally *kv.Tally) error {
	if err := tally.Add(int64(len(value))); err != nil {
		return err
	}
	if err := tally.LookAt(len(value)); err != nil {
		return err
	}
	i.value, i.loaded = a.copy(value), true
	return nil
}

// drop removes items.
func drop(items []item, which func(*item) bool, tally *kv.Tally) ([]item, error) {
	before := len(items)
	return apart(slices.DeleteFunc(items, func(i item) bool { return which(&i) }), before, tally)
}

// apart moves what is left of items to memory of its own if most were dropped: keys and values share blocks, and a few that stay could keep
// all of them.
func apart(left []item, before int, tally *kv.Tally) ([]item, error) {
	if !tally.Counts() || 2*len(left) >= before {
		return left, nil
	}
	if err := tally.Add(int64(len(left))*itemBytes + contentBytes(left)); err != nil {
		return nil, err
	}
	moved := slices.Clone(left)
	var a arena
	for i := range moved {
		moved[i].key, moved[i].value = a.copy(left[i].key), a.copy(left[i].value)
	}
	return moved, nil
}

// load reads the values that are missing, in row order.
func (r *Reader) load(items []item, tally *kv.Tally) error {
	wanted, err := unloaded(items, tally)
	if err != nil {
		return err
	}
	if len(wanted) == 1 {
		it := &items[wanted[0].index]
		v, ok, err := r.version(wanted[0].at)
		if err == nil && !ok {
			err = missing(wanted[0].at, it.key)
		}
		if err == nil {
			err = r.fill(&v)
		}
		it.value, it.loaded = v.value, true
		return err
	}
	var a arena
	return r.visitRows(wanted, true, func(ref reference, v *version) error {
		it := &items[ref.index]
		if v == nil {
			return missing(ref.at, it.key)
		}
		it.value, it.loaded = a.copy(v.value), true
		return tally.LookAt(len(v.value))
	})
}

// unloaded lists the items without a value, after it made room for all of their values.
func unloaded(items []item, tally *kv.Tally) ([]reference, error) {
	n, values := 0, int64(0)
	for i := range items {
		if !items[i].loaded {
			n++
			values += int64(items[i].meta.ValueLen)
		}
	}
	if err := tally.Add(values + int64(n)*int64(unsafe.Sizeof(reference{}))); err != nil {
		return nil, err
	}
	wanted := make([]reference, 0, n)
	for i := range items {
		if !items[i].loaded {
			wanted = append(wanted, reference{items[i].meta.At, i})
		}
	}
	return wanted, nil
}

// Scan gives the metas of the live keys in a span at a revision (0: the newest) to
// fn, in key order, until it returns false. The key is valid only during the call. The tally counts what is read ahead.
func (r *Reader) Scan(span kv.Span, at kv.Revision, tally *kv.Tally, fn func(key []byte, m Meta) bool) error {
	at, err := r.readRevision(at)
	if err != nil || span.Empty() {
		return err
	}
	lower, upper := span.Bounds()
	limits := scanLimits{keys: 64, bytes: scanAheadBytes, tally: tally}
	return r.scan(lower, upper, at, limits, func(items []item, held int64) (bool, error) {
		defer tally.Forget(held)
		for i := range items {
			if !fn(items[i].key, items[i].meta) {
				return false, nil
			}
		}
		return true, nil
	})
}

// scanAheadBytes bounds what a scan of metas reads ahead: keys may be long.
const scanAheadBytes = 1 << 20

// Load reads the version rows at the locators in one pass, in row order, and returns them in
// the order given. A row that is not there leaves a zero KeyValue.
func (r *Reader) Load(locators []Locator, tally *kv.Tally) ([]kv.KeyValue, error) {
	held := int64(len(locators)) * int64(unsafe.Sizeof(reference{}))
	if err := tally.Add(held + int64(len(locators))*kv.KeyValueBytes); err != nil {
		return nil, err
	}
	defer tally.Forget(held)
	references := make([]reference, len(locators))
	for i, at := range locators {
		references[i] = reference{at, i}
	}
	var a arena
	found := make([]kv.KeyValue, len(locators))
	err := r.visitRows(references, true, func(ref reference, v *version) error {
		if v == nil {
			return nil
		}
		if err := tally.LookAt(len(v.value)); err != nil {
			return err
		}
		if err := tally.Add(int64(len(v.key) + len(v.value))); err != nil {
			return err
		}
		found[ref.index] = v.keyValue()
		found[ref.index].Key, found[ref.index].Value = a.copy(v.key), a.copy(v.value)
		return nil
	})
	return found, err
}
