package mvcc

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/quoratedb/quorate/kv"
)

// History gives the changes of the revisions from..to (0: up to the newest) to fn, in order. It stops
// after the first whole revision that brings it to limitBytes (0: no limit) and
// returns the revision to go on with, to+1 if there is nothing left. The effects belong to fn; their
// PrevLease is not known. A from below the compacted revision is refused.
func (r *Reader) History(from, to kv.Revision, limitBytes int64, fn func(*Effect) error) (next kv.Revision, err error) {
	if to <= 0 || to > r.revision {
		to = r.revision
	}
	if from < r.compacted {
		return from, kv.ErrCompacted
	}
	next = max(to+1, from)
	last, size := kv.Revision(0), int64(0)
	err = r.visitVersions(Locator{Rev: from}, Locator{Rev: to + 1}, func(v *version) (bool, error) {
		if v.at.Rev != last && limitBytes > 0 && size >= limitBytes {
			next = v.at.Rev
			return false, nil
		}
		last = v.at.Rev
		size += int64(len(v.key) + len(v.value))
		return true, fn(v.effect())
	})
	return next, err
}

// effect copies the version.
func (v *version) effect() *Effect {
	data := slices.Concat(v.key, v.value)
	n := len(v.key)
	return &Effect{
		Key: data[:n:n], Value: data[n:], At: v.at, Create: v.create, Version: v.number,
		Lease: v.lease, Prev: v.prev, PrevLive: v.prevLive,
	}
}

// hashChunk is how many superseded versions are looked up at a time.
const hashChunk = 8192

// Hash sums up the history that is readable at a revision (0: the newest): all versions after the compacted
// revision, and those live at it. It is the same on every replica, whatever
// is flushed or physically compacted there.
func (r *Reader) Hash(at kv.Revision) (uint32, error) {
	at, err := r.readRevision(at)
	if err != nil {
		return 0, err
	}
	h := hashing{reader: r}
	if err := h.liveAt(r.compacted); err != nil {
		return 0, err
	}
	err = h.interval(r.compacted, at, false)
	return fold(h.all), err
}

// LiveHash is the part of a hash that what lives at a revision contributes. The zero value is that of a store without
// keys, which every store was before its first revision.
type LiveHash struct {
	At  kv.Revision
	sum uint64
}

// CompactionHash is Hash(to) as it was before a compaction at to, and with from compacted. It ends with ErrForgotten if
// something may be deleted that is obsolete only after from. before, if it is of from, saves reading what lived there; after is what
// the next compaction can begin with, so that a compaction costs what was written since the last one. goOn is asked now
// and then, and may end the work with an error.
func (r *Reader) CompactionHash(from, to kv.Revision, before LiveHash, goOn func() error) (hash uint32, after LiveHash, err error) {
	if max(r.progress.done, r.progress.target) > from {
		return 0, LiveHash{}, ErrForgotten
	}
	h := hashing{reader: r, goOn: goOn}
	if before.At == from {
		h.all, h.live = before.sum, before.sum
	} else if err := h.liveAt(from); err != nil {
		return 0, LiveHash{}, err
	}
	err = h.interval(from, to, true)
	return fold(h.all), LiveHash{At: to, sum: h.live}, err
}

func fold(sum uint64) uint32 { return uint32(sum ^ sum>>32) }

// hashing sums up versions. That a hash is a sum lets one pass add every row that is there, and a second
// one take those away that are superseded; no set of them is kept.
type hashing struct {
	reader    *Reader
	hasher    hasher
	all, live uint64
	goOn      func() error
	visited   int
}

// visit gives the rows of the revisions from..to to fn.
func (h *hashing) visit(from, to Locator, fn func(*version) error) error {
	return h.reader.visitVersions(from, to, func(v *version) (bool, error) {
		if h.visited++; h.goOn != nil && h.visited%1024 == 0 {
			if err := h.goOn(); err != nil {
				return false, err
			}
		}
		return true, fn(v)
	})
}

// liveAt adds the versions that live at a revision up to which obsolete rows may be deleted, or not yet.
func (h *hashing) liveAt(at kv.Revision) error {
	err := h.visit(Locator{}, Locator{Rev: at + 1}, func(v *version) error {
		if v.number != 0 {
			h.live += h.hasher.hash(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := superseded{hashing: h}
	err = h.visit(h.reader.progress.unwalked(), Locator{Rev: at + 1}, s.add)
	if err == nil {
		err = s.subtract()
	}
	h.all += h.live
	return err
}

// interval adds the versions after from and up to to, and what they do to those that live.
func (h *hashing) interval(from, to kv.Revision, live bool) error {
	s := superseded{hashing: h}
	err := h.visit(Locator{Rev: from + 1}, Locator{Rev: to + 1}, func(v *version) error {
		one := h.hasher.hash(v)
		h.all += one
		if !live {
			return nil
		}
		if v.number != 0 {
			h.live += one
		}
		return s.add(v)
	})
	if err != nil {
		return err
	}
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
	err := h.reader.visitRows(s.pending, func(_ reference, v *version) error {
		if v != nil && v.number != 0 {
			h.live -= h.hasher.hash(v)
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

type hasher struct {
	digest xxhash.Digest
	buffer []byte
}

func (h *hasher) hash(v *version) uint64 {
	b := binary.LittleEndian.AppendUint64(h.buffer[:0], uint64(v.at.Rev))
	b = binary.LittleEndian.AppendUint32(b, v.at.Sub)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.create))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.number))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.lease))
	h.buffer = binary.LittleEndian.AppendUint32(b, uint32(len(v.key)))
	h.digest.Reset()
	h.digest.Write(h.buffer)
	h.digest.Write(v.key)
	h.digest.Write(v.value)
	return h.digest.Sum64()
}
