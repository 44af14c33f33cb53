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

// hashChunk is how many superseded versions Hash looks up at a time.
const hashChunk = 8192

// Hash sums up the history that is readable at a revision (0: the newest): all versions after the compacted
// revision, and those live at it. It is the same on every replica, whatever
// is flushed or physically compacted there.
//
// The hash is a sum over versions. That lets one pass add every row that is there, and a second one, over
// the interval that physical compaction has yet to walk, take away those that
// it is going to delete; no set of them is kept.
func (r *Reader) Hash(at kv.Revision) (uint32, error) {
	at, err := r.readRevision(at)
	if err != nil {
		return 0, err
	}
	h := hasher{}
	err = r.visitVersions(Locator{}, Locator{Rev: at + 1}, func(v *version) (bool, error) {
		if v.at.Rev > r.compacted || v.number != 0 {
			h.sum += h.hash(v)
		}
		return true, nil
	})
	if err != nil {
		return 0, err
	}
	var pending []reference
	subtract := func() error {
		defer func() { pending = pending[:0] }()
		return r.visitRows(pending, func(_ reference, v *version) error {
			if v != nil && v.number != 0 {
				h.sum -= h.hash(v)
			}
			return nil
		})
	}
	err = r.visitVersions(r.progress.unwalked(), Locator{Rev: r.compacted + 1}, func(v *version) (bool, error) {
		if v.prev.Rev > 0 {
			pending = append(pending, reference{at: v.prev})
		}
		if len(pending) < hashChunk {
			return true, nil
		}
		return true, subtract()
	})
	if err == nil {
		err = subtract()
	}
	return uint32(h.sum ^ h.sum>>32), err
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
	sum    uint64
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
