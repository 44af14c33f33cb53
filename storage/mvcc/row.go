package mvcc

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// Prefixes of this package's rows in the engine.
const (
	versionPrefix = 'r'
	latestPrefix  = 'k'
	statePrefix   = 'm'
	copyPrefix    = 'v'
)

const versionKeySize = 1 + 8 + 4

// flagPrevLive marks a version that replaced a live one.
const flagPrevLive = 1

func appendVersionKey(dst []byte, at Locator) []byte {
	dst = append(dst, versionPrefix)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.Rev))
	return binary.BigEndian.AppendUint32(dst, at.Sub)
}

func parseVersionKey(key []byte) (Locator, error) {
	if len(key) != versionKeySize || key[0] != versionPrefix {
		return Locator{}, fmt.Errorf("version row has a malformed key %x: %w", key, storage.ErrCorrupt)
	}
	return Locator{kv.Revision(binary.BigEndian.Uint64(key[1:])), binary.BigEndian.Uint32(key[9:])}, nil
}

func appendLatestKey(dst, key []byte) []byte {
	return append(append(dst, latestPrefix), key...)
}

func appendCopyKey(dst, key []byte) []byte {
	return append(append(dst, copyPrefix), key...)
}

// bounds translates an interval of keys into one of engine keys with a prefix.
func bounds(prefix byte, lower, upper []byte) ([]byte, []byte) {
	from := append(append(make([]byte, 0, 1+len(lower)), prefix), lower...)
	if upper == nil {
		return from, []byte{prefix + 1}
	}
	return from, append(append(make([]byte, 0, 1+len(upper)), prefix), upper...)
}

// version is a decoded version row. Its slices alias what it was decoded from.
type version struct {
	at         Locator
	create     kv.Revision
	number     int64 // 0: tombstone
	lease      kv.LeaseID
	prev       Locator
	prevLive   bool
	key, value []byte
}

func (v *version) meta() Meta {
	return Meta{Create: v.create, At: v.at, Version: v.number, Lease: v.lease, ValueLen: uint32(len(v.value))}
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

func appendVersionRow(dst []byte, e *Effect) []byte {
	flags := byte(0)
	if e.PrevLive {
		flags |= flagPrevLive
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(e.Create))
	dst = binary.AppendUvarint(dst, uint64(e.Version))
	dst = binary.AppendUvarint(dst, uint64(e.Lease))
	dst = binary.AppendUvarint(dst, uint64(e.Prev.Rev))
	dst = binary.AppendUvarint(dst, uint64(e.Prev.Sub))
	dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
	return append(append(dst, e.Key...), e.Value...)
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

func parseVersionRow(at Locator, row []byte) (version, error) {
	if len(row) == 0 || row[0]&^flagPrevLive != 0 {
		return version{}, corruptVersion(at)
	}
	f := fields{rest: row[1:]}
	v := version{
		at:       at,
		prevLive: row[0]&flagPrevLive != 0,
		create:   kv.Revision(f.next()),
		number:   int64(f.next()),
		lease:    kv.LeaseID(f.next()),
		prev:     Locator{kv.Revision(f.next()), f.next32()},
	}
	size := f.next()
	if f.bad || size > uint64(len(f.rest)) || v.create < 0 || v.number < 0 || v.prev.Rev < 0 {
		return version{}, corruptVersion(at)
	}
	v.key, v.value = f.rest[:size:size], f.rest[size:]
	return v, nil
}

func corruptVersion(at Locator) error {
	return fmt.Errorf("row of version %d.%d is malformed: %w", at.Rev, at.Sub, storage.ErrCorrupt)
}

// latest is a decoded latest row. base is the version that was the newest before the flush that
// wrote the row began: what holds if a crash interrupted that flush, and the row's own version does not
// exist (yet). The prev pointers would not always lead there: the leader that made a
// version may have forgotten a tombstone that the compaction took, which this
// replica, after the crash, has not come to yet.
type latest struct {
	Meta
	base Locator
}

func appendLatestRow(dst []byte, m latest) []byte {
	dst = binary.AppendUvarint(dst, uint64(m.Create))
	dst = binary.AppendUvarint(dst, uint64(m.At.Rev))
	dst = binary.AppendUvarint(dst, uint64(m.At.Sub))
	dst = binary.AppendUvarint(dst, uint64(m.Version))
	dst = binary.AppendUvarint(dst, uint64(m.Lease))
	dst = binary.AppendUvarint(dst, uint64(m.ValueLen))
	dst = binary.AppendUvarint(dst, uint64(m.base.Rev))
	return binary.AppendUvarint(dst, uint64(m.base.Sub))
}

func parseLatestRow(key, row []byte) (latest, error) {
	f := fields{rest: row}
	m := latest{Meta: Meta{
		Create:   kv.Revision(f.next()),
		At:       Locator{kv.Revision(f.next()), f.next32()},
		Version:  int64(f.next()),
		Lease:    kv.LeaseID(f.next()),
		ValueLen: f.next32(),
	}}
	m.base = Locator{kv.Revision(f.next()), f.next32()}
	if f.bad || len(f.rest) != 0 || m.Create < 0 || m.At.Rev <= 0 || m.Version < 0 || m.base.Rev < 0 {
		return latest{}, fmt.Errorf("latest row of key %q is malformed: %w", key, storage.ErrCorrupt)
	}
	return m, nil
}

// A copy row has the value of a key's newest version a second time, in key order, for lists. It names the version, and
// counts only for it: what a crash, or a version without a copy, left behind is not wrong, but of no use.
func appendCopyRow(dst []byte, at Locator, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(at.Rev))
	dst = binary.AppendUvarint(dst, uint64(at.Sub))
	return append(dst, value...)
}

func parseCopyRow(key, row []byte) (at Locator, value []byte, err error) {
	f := fields{rest: row}
	at = Locator{kv.Revision(f.next()), f.next32()}
	if f.bad || at.Rev <= 0 {
		return Locator{}, nil, fmt.Errorf("copy row of key %q is malformed: %w", key, storage.ErrCorrupt)
	}
	return at, f.rest, nil
}

// stateKey is the key of one of the store's own state rows.
func stateKey(shard kv.ShardID, name string) []byte {
	key := binary.BigEndian.AppendUint64([]byte{statePrefix}, uint64(shard))
	return append(append(key, "mvcc."...), name...)
}

// Spans are the engine intervals that hold the store's rows of a shard. A snapshot of
// the shard must carry all of them, of one moment: the progress of the physical
// compaction belongs to the rows it has worked on.
func Spans(shard kv.ShardID) []storage.Span {
	return []storage.Span{
		{Lower: []byte{latestPrefix}, Upper: []byte{latestPrefix + 1}},
		{Lower: stateKey(shard, ""), Upper: stateKey(shard, "~")},
		{Lower: []byte{versionPrefix}, Upper: []byte{versionPrefix + 1}},
		{Lower: []byte{copyPrefix}, Upper: []byte{copyPrefix + 1}},
	}
}
