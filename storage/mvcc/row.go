package mvcc

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// The flags of a version row.
const (
	flagPrevLive   = 1 << iota // the version before is live
	flagValueByKey             // the value is not here; see valueOf
)

// version is a decoded version row. Its slices alias what it was decoded from.
type version struct {
	at         Locator
	create     kv.Revision
	number     int64 // 0: tombstone
	lease      kv.LeaseID
	prev       Locator
	prevLive   bool
	byKey      bool // the row has no value: it is in the row by key, or behind the version row
	valueLen   uint32
	key, value []byte
}

func (v *version) meta() Meta {
	return Meta{Create: v.create, At: v.at, Version: v.number, Lease: v.lease, ValueLen: v.valueLen}
}

func (v *version) keyValue() kv.KeyValue {
	return kv.KeyValue{Key: v.key, Value: v.value, CreateRevision: v.create, ModRevision: v.at.Rev, Version: v.number, Lease: v.lease}
}

// netCreation is what the version added to the number of live keys.
func (v *version) netCreation() int64 { return liveDelta(v.number != 0, v.prevLive) }

func liveDelta(live, before bool) int64 {
	switch {
	case live && !before:
		return 1
	case !live && before:
		return -1
	}
	return 0
}

// appendVersionRow writes the row of an effect: without its value if that is kept by key.
func appendVersionRow(dst []byte, e *Effect, byKey bool) []byte {
	flags := byte(0)
	if e.PrevLive {
		flags |= flagPrevLive
	}
	if byKey {
		flags |= flagValueByKey
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(e.Version))
	if e.Version != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.At.Rev-e.Create))
	}
	dst = binary.AppendUvarint(dst, uint64(e.Lease))
	dst = appendBefore(dst, e.At, e.Prev)
	if byKey {
		dst = binary.AppendUvarint(dst, uint64(len(e.Value)))
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
	dst = append(dst, e.Key...)
	if !byKey {
		dst = append(dst, e.Value...)
	}
	return dst
}

// appendBefore writes a locator that is not after another one: how many revisions it lies before that, and one more; 0 if there is none.
func appendBefore(dst []byte, at, before Locator) []byte {
	if before.Rev == 0 {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(at.Rev-before.Rev)+1)
	return binary.AppendUvarint(dst, uint64(before.Sub))
}

// fields reads uvarints one after the other; after the first bad one all are bad.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) next() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 {
		f.bad = true
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) next32() uint32 {
	v := f.next()
	if v > 1<<32-1 {
		f.bad = true
	}
	return uint32(v)
}

// revision reads a number that is none of a revision if it is too large.
func (f *fields) revision() kv.Revision {
	v := f.next()
	if v > 1<<63-1 {
		f.bad = true
	}
	return kv.Revision(v)
}

// before reads what appendBefore wrote.
func (f *fields) before(at Locator) Locator {
	distance := f.next()
	if distance == 0 {
		return Locator{}
	}
	if distance-1 >= uint64(at.Rev) {
		f.bad = true
		return Locator{}
	}
	return Locator{at.Rev - kv.Revision(distance-1), f.next32()}
}

// created reads how long before a revision a key was created.
func (f *fields) created(at kv.Revision) kv.Revision {
	age := f.next()
	if age >= uint64(at) {
		f.bad = true
		return 0
	}
	return at - kv.Revision(age)
}

func parseVersionRow(at Locator, row []byte) (version, error) {
	if len(row) == 0 || row[0]&^(flagPrevLive|flagValueByKey) != 0 || at.Rev <= 0 {
		return version{}, corruptVersion(at)
	}
	f := fields{rest: row[1:]}
	v := version{at: at, prevLive: row[0]&flagPrevLive != 0, byKey: row[0]&flagValueByKey != 0}
	if v.number = int64(f.revision()); v.number != 0 {
		v.create = f.created(at.Rev)
	}
	v.lease = kv.LeaseID(f.next())
	v.prev = f.before(at)
	if v.byKey {
		v.valueLen = f.next32()
	}
	size := f.next()
	if f.bad || size > uint64(len(f.rest)) || v.byKey && (size != uint64(len(f.rest)) || v.valueLen == 0 || v.number == 0) {
		return version{}, corruptVersion(at)
	}
	v.key = f.rest[:size:size]
	if !v.byKey {
		v.value = f.rest[size:]
		v.valueLen = uint32(len(v.value))
	}
	return v, nil
}

func corruptVersion(at Locator) error {
	return fmt.Errorf("row of version %d.%d is malformed: %w", at.Rev, at.Sub, storage.ErrCorrupt)
}

// latest is a decoded latest row. base is the version that was the newest before the flush that
// wrote the row began: what holds if a crash interrupted that flush. The prev pointers would not always lead there: the leader that made a
// version may have forgotten a tombstone that the compaction took, which this
// replica, after the crash, has not come to yet.
type latest struct {
	Meta
	base Locator
}

// appendLatestRow writes the row, with the number of the flush that writes it.
func appendLatestRow(dst []byte, m latest, flush uint64) []byte {
	dst = binary.AppendUvarint(dst, flush)
	dst = binary.AppendUvarint(dst, uint64(m.At.Rev))
	dst = binary.AppendUvarint(dst, uint64(m.At.Sub))
	dst = binary.AppendUvarint(dst, uint64(m.Version))
	if m.Version != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.At.Rev-m.Create))
	}
	dst = binary.AppendUvarint(dst, uint64(m.Lease))
	dst = binary.AppendUvarint(dst, uint64(m.ValueLen))
	return appendBefore(dst, m.At, m.base)
}

func parseLatestRow(key, row []byte) (m latest, flush uint64, err error) {
	f := fields{rest: row}
	flush = f.next()
	m.At = Locator{f.revision(), f.next32()}
	if m.Version = int64(f.revision()); m.Version != 0 {
		m.Create = f.created(m.At.Rev)
	}
	m.Lease = kv.LeaseID(f.next())
	m.ValueLen = f.next32()
	m.base = f.before(m.At)
	if f.bad || len(f.rest) != 0 || m.At.Rev <= 0 {
		return latest{}, 0, fmt.Errorf("latest row of key %q is malformed: %w", key, storage.ErrCorrupt)
	}
	return m, flush, nil
}

// A value row has the value of a key's newest version, in key order. It names the version, and counts only for it: what a crash, or a version
// that keeps its value itself, left behind is not wrong, but of no use.
func appendValueRow(dst []byte, at Locator, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(at.Rev))
	dst = binary.AppendUvarint(dst, uint64(at.Sub))
	return append(dst, value...)
}

func parseValueRow(key, row []byte) (at Locator, value []byte, err error) {
	f := fields{rest: row}
	at = Locator{f.revision(), f.next32()}
	if f.bad || at.Rev <= 0 {
		return Locator{}, nil, fmt.Errorf("value row of key %q is malformed: %w", key, storage.ErrCorrupt)
	}
	return at, f.rest, nil
}

// appendVersionKey appends the key of a version's row.
func (r *Reader) appendVersionKey(dst []byte, at Locator) []byte {
	return keys.AppendVersion(dst, r.options.Rows.LineageAt(at.Rev), at.Rev, at.Sub)
}

// appendVersionValueKey appends the key of the value behind a version's row.
func (r *Reader) appendVersionValueKey(dst []byte, at Locator) []byte {
	return keys.AppendVersionValue(dst, r.options.Rows.LineageAt(at.Rev), at.Rev, at.Sub)
}

// bounds are those of the rows by key of an interval of keys.
func (r *Reader) bounds(kind keys.Kind, lower, upper []byte) (from, to []byte) {
	lower, upper = r.options.Rows.Clip(lower, upper)
	if upper != nil && text(lower) >= text(upper) {
		upper = lower // nothing
	}
	return keys.RowBounds(r.options.Rows.Home, kind, lower, upper)
}
