package mvcc

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/keys"
)

// hashChunk is how many superseded versions are looked up at a time.
const hashChunk = 8192

// Hash sums up the history that is readable at a revision (0: the closed one): all versions after the compacted
// revision, and those live at it. It is the same on every replica, whatever
// is flushed or physically compacted there.
func (r *Reader) Hash(at kv.Revision) (uint32, error) {
	sum, err := r.HashSum(r.compacted, at)
	return sum.Fold(), err
}

// HashSum is a hash before it is folded: a sum over versions. So the sums of stores that have different keys add up to that of one which has them all.
type HashSum uint64

// Fold returns the hash.
func (s HashSum) Fold() uint32 { return uint32(s ^ s>>32) }

// HashSum is what Hash folds, as if history was compacted at a revision that is not below the compacted one. Above the newest revision that is
// the newest one. What comes out above the closed revision stays so only if whoever asks knows that the state is complete up to there, and it does not
// hold while Options.Replaying does.
func (r *Reader) HashSum(compacted, at kv.Revision) (HashSum, error) {
	compacted = min(compacted, r.revision)
	if at <= 0 {
		at = r.Closed()
	}
	at, err := r.readRevision(at)
	if err == nil && (compacted < r.compacted || at < compacted) {
		err = kv.ErrCompacted
	}
	if err != nil {
		return 0, err
	}
	h := hashing{reader: r, pending: pendingValues{reader: r}}
	if err := h.liveAt(compacted); err != nil {
		return 0, err
	}
	err = h.interval(compacted, at, false)
	return HashSum(h.all), err
}

// LiveHash is the part of a hash that what lives at a revision contributes. The zero value is that of a store without
// keys, which every store was before its first revision.
type LiveHash struct {
	At  kv.Revision
	sum uint64
}

// CompactionHash is the sum of Hash(to) as it was before a compaction at to, and with from compacted. It ends with ErrForgotten if
// something may be deleted that is obsolete only after from. before, if it is of from, saves reading what lived there; after is what
// the next compaction can begin with, so that a compaction costs what was written since the last one. goOn is asked now
// and then, and may end the work with an error.
func (r *Reader) CompactionHash(from, to kv.Revision, before LiveHash, goOn func() error) (sum HashSum, after LiveHash, err error) {
	if max(r.progress.done, r.progress.target) > from {
		return 0, LiveHash{}, ErrForgotten
	}
	h := hashing{reader: r, goOn: goOn, pending: pendingValues{reader: r}}
	if before.At == from {
		h.all, h.live = before.sum, before.sum
	} else if err := h.liveAt(from); err != nil {
		return 0, LiveHash{}, err
	}
	err = h.interval(from, to, true)
	return HashSum(h.all), LiveHash{At: to, sum: h.live}, err
}

// hashing sums up versions. That a hash is a sum lets one pass add every row that is there, and a second
// one take those away that are superseded; no set of them is kept. And it lets values be added where they are, apart from their versions.
type hashing struct {
	reader    *Reader
	pending   pendingValues
	hasher    hasher
	all, live uint64
	goOn      func() error
	visited   int
}

// pause asks now and then whether to go on.
func (h *hashing) pause() error {
	if h.visited++; h.goOn != nil && h.visited%1024 == 0 {
		return h.goOn()
	}
	return nil
}

// add sums up the versions of [from, to): those that are live, and tombstones. Each version is given to fn, perhaps without its value.
func (h *hashing) add(from, to Locator, fn func(*version) error) (live, tombstones uint64, err error) {
	value := func(_ reference, v *version) error {
		live += h.hasher.value(v.at, v.value)
		return nil
	}
	// As many values that are by key are looked up. Where there are more, all from the next version on are read in key order: from the first one if
	// the interval is so long that more are to be expected.
	lookups, rest := h.reader.options.ChunkKeys/2, to
	if to.Rev-from.Rev > kv.Revision(lookups) {
		lookups = 0
	}
	err = h.reader.visitVersions(from, to, true, func(v *version) (bool, error) {
		if err := h.pause(); err != nil {
			return false, err
		}
		if v.number == 0 {
			tombstones += h.hasher.meta(v)
		} else {
			live += h.hasher.meta(v)
		}
		switch {
		case !v.byKey:
			live += h.hasher.value(v.at, v.value)
		case lookups > 0:
			lookups--
			if err := h.pending.add(v, reference{}, value); err != nil {
				return false, err
			}
		case rest == to:
			rest = v.at
		}
		return true, fn(v)
	})
	if err == nil {
		err = h.pending.resolve(value)
	}
	if err == nil && rest != to {
		var sum uint64
		sum, err = h.byKey(rest, to)
		live += sum
	}
	return live, tombstones, err
}

// byKey sums up the values by key, and those in memory, of the versions of [from, to).
func (h *hashing) byKey(from, to Locator) (uint64, error) {
	sum := uint64(0)
	r := h.reader
	add := func(at Locator, value []byte) {
		if r.bulk.at(at) == nil && !at.Less(from) && at.Less(to) {
			sum += h.hasher.value(at, value)
		}
	}
	if err := h.eachValue(add); err != nil {
		return 0, err
	}
	for c := r.active.seek(""); c.valid(); c.next() {
		if e := c.entry(); e.value.byKey {
			add(e.value.At, e.value.value)
		}
	}
	for c := r.unwritten(); c.valid(); c.next() {
		if e := c.entry(); e.value.byKey && !r.replacedMeanwhile(e.key) {
			add(e.value.At, e.value.value)
		}
	}
	return sum, nil
}

// eachValue gives the values by key that are in the engine to fn, but for those that came back with the replay, or will.
func (h *hashing) eachValue(fn func(at Locator, value []byte)) error {
	r := h.reader
	if r.stale.none() {
		return h.eachValueRow(fn)
	}
	values := newValueCursor(r, nil, nil)
	defer values.close()
	return r.eachLatest(nil, nil, func(key []byte, _ latest, flush uint64) error {
		if err := h.pause(); err != nil {
			return err
		}
		if r.stale.has(flush) {
			return nil
		}
		of, value, found, err := values.find(key)
		if err == nil && found {
			fn(of, value)
		}
		return err
	})
}

// eachValueRow gives all rows of values by key to fn, whatever flush wrote them.
func (h *hashing) eachValueRow(fn func(at Locator, value []byte)) error {
	rows := h.reader.source.NewIterator(h.reader.bounds(keys.Value, nil, nil))
	defer rows.Close()
	for ok := rows.First(); ok; ok = rows.Next() {
		if err := h.pause(); err != nil {
			return err
		}
		at, value, err := parseValueRow(keys.UserKey(rows.Key()), rows.Value())
		if err != nil {
			return err
		}
		fn(at, value)
	}
	return rows.Error()
}

// liveAt adds the versions that live at a revision up to which obsolete rows may be deleted, or not yet.
func (h *hashing) liveAt(at kv.Revision) error {
	live, _, err := h.add(Locator{}, Locator{Rev: at + 1}, func(*version) error { return nil })
	if err != nil {
		return err
	}
	h.live += live
	s := superseded{hashing: h}
	err = h.reader.visitVersions(h.reader.progress.unwalked(), Locator{Rev: at + 1}, false, func(v *version) (bool, error) {
		if err := h.pause(); err != nil {
			return false, err
		}
		return true, s.add(v)
	})
	if err == nil {
		err = s.subtract()
	}
	h.all += h.live
	return err
}

// interval adds the versions after from and up to to, and what they do to those that live.
func (h *hashing) interval(from, to kv.Revision, live bool) error {
	s := superseded{hashing: h}
	each := func(*version) error { return nil }
	if live {
		each = s.add
	}
	alive, tombstones, err := h.add(Locator{Rev: from + 1}, Locator{Rev: to + 1}, each)
	if err != nil {
		return err
	}
	h.all += alive + tombstones
	if !live {
		return nil
	}
	h.live += alive
	return s.subtract()
}

// superseded collects versions that others replaced, to take them from those that live.
type superseded struct {
	hashing *hashing
	pending []reference
}

func (s *superseded) add(v *version) error {
	if v.prev.Rev > 0 {
		s.pending = append(s.pending, reference{at: v.prev})
	}
	if len(s.pending) < hashChunk {
		return nil
	}
	return s.subtract()
}

func (s *superseded) subtract() error {
	h := s.hashing
	err := h.reader.visitRows(s.pending, true, func(_ reference, v *version) error {
		if v != nil && v.number != 0 {
			h.live -= h.hasher.meta(v) + h.hasher.value(v.at, v.value)
		}
		return nil
	})
	s.pending = s.pending[:0]
	return err
}

// unwalked is the first version whose predecessor may still have its row although it is obsolete.
// The versions at the revision a walk ends with keep predecessors at that revision.
func (p progress) unwalked() Locator {
	end := Locator{Rev: p.target}
	if p.target == 0 {
		end.Rev = p.done
	} else if p.cursor.Less(end) {
		return p.cursor
	}
	return end
}

// hasher hashes the parts of a version. Each begins with the locator, so that no part can stand for another's.
type hasher struct {
	digest xxhash.Digest
	buffer []byte
}

func (h *hasher) begin(at Locator) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(h.buffer[:0], uint64(at.Rev)), at.Sub)
}

// meta is the hash of everything but the value.
func (h *hasher) meta(v *version) uint64 {
	b := binary.LittleEndian.AppendUint64(h.begin(v.at), uint64(v.create))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.number))
	h.buffer = binary.LittleEndian.AppendUint64(b, uint64(v.lease))
	h.digest.Reset()
	h.digest.Write(h.buffer)
	h.digest.Write(v.key)
	return h.digest.Sum64()
}

// value is the hash of a version's value; 0 if it is empty.
func (h *hasher) value(at Locator, value []byte) uint64 {
	if len(value) == 0 {
		return 0
	}
	h.buffer = append(h.begin(at), "value"...)
	h.digest.Reset()
	h.digest.Write(h.buffer)
	h.digest.Write(value)
	return h.digest.Sum64()
}

// HashOf is what a version adds to a HashSum: a deletion, whose number is 0, has neither value nor creation.
func HashOf(e *kv.KeyValue, at Locator) HashSum {
	var h hasher
	v := version{key: e.Key, at: at, create: e.CreateRevision, number: e.Version, lease: e.Lease}
	return HashSum(h.meta(&v) + h.value(at, e.Value))
}
