package mvcc

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// History gives the changes of the revisions from..to (0: up to the closed revision, beyond which it never goes) to fn, in order. It stops
// after the first whole revision that brings it to limitBytes (0: no limit) and
// returns the revision to go on with, to+1 if there is nothing left. The effects belong to fn; their
// PrevLease is not known. A from below the compacted revision is refused.
func (r *Reader) History(from, to kv.Revision, limitBytes int64, fn func(*Effect) error) (next kv.Revision, err error) {
	if closed := r.Closed(); to <= 0 || to > closed {
		to = closed
	}
	if from < r.compacted {
		return from, kv.ErrCompacted
	}
	next = max(to+1, from)
	last, size := kv.Revision(0), int64(0)
	gathered := gathering{reader: r, fn: fn}
	err = r.visitVersions(Locator{Rev: from}, Locator{Rev: to + 1}, true, func(v *version) (bool, error) {
		if v.at.Rev != last && limitBytes > 0 && size >= limitBytes {
			next = v.at.Rev
			return false, nil
		}
		last = v.at.Rev
		size += int64(len(v.key)) + int64(v.valueLen)
		return true, gathered.add(v)
	})
	if err == nil {
		err = gathered.flush()
	}
	return next, err
}

// Changes gives the changes from a place in the history on, up to and including the revision to and no farther than the closed one, to fn, in order. Before it
// reads the value of one it asks want, in the same order, which is told where the change is, its key, which is valid only during the call, and how many bytes
// key and value take, and ends before the first that is not wanted. A from below the compacted revision is refused. The effects belong to fn; their
// PrevLease is not known.
func (r *Reader) Changes(from Locator, to kv.Revision, want func(at Locator, key []byte, bytes int64) bool, fn func(*Effect) error) error {
	if from.Rev < r.compacted {
		return kv.ErrCompacted
	}
	gathered := gathering{reader: r, fn: fn}
	err := r.visitVersions(from, Locator{Rev: min(to, r.Closed()) + 1}, true, func(v *version) (bool, error) {
		if !want(v.at, v.key, int64(len(v.key))+int64(v.valueLen)) {
			return false, nil
		}
		return true, gathered.add(v)
	})
	if err != nil {
		return err
	}
	return gathered.flush()
}

// gathering keeps effects in their order until their values are read, as many as are about gatherBytes, so that those that are by key are read in
// key order.
type gathering struct {
	reader  *Reader
	fn      func(*Effect) error
	effects []*Effect
	pending pendingValues
	bytes   int64
}

const gatherBytes = 1 << 20

func (g *gathering) add(v *version) error {
	e := v.effect()
	if !v.byKey && len(g.effects) == 0 {
		return g.fn(e)
	}
	if v.byKey {
		g.pending.put(v, reference{at: v.at, index: len(g.effects)})
	}
	g.effects = append(g.effects, e)
	if g.bytes += int64(len(v.key)) + int64(v.valueLen); g.bytes < gatherBytes && len(g.effects) < maxPendingValues {
		return nil
	}
	return g.flush()
}

// flush gives the effects to fn.
func (g *gathering) flush() error {
	g.pending.reader = g.reader
	err := g.pending.resolve(func(ref reference, v *version) error {
		g.effects[ref.index].Value = bytes.Clone(v.value)
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range g.effects {
		if err := g.fn(e); err != nil {
			return err
		}
	}
	clear(g.effects)
	g.effects, g.bytes = g.effects[:0], 0
	return nil
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
