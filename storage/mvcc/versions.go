package mvcc

import "github.com/quoratedb/quorate/kv"

// HistoryFrom is where the history begins that a copy of the state can have. It is below the compacted revision while no rows are deleted that were compacted
// last: reads are refused there, because keys that were written since then may have forgotten what was before, but the rows by revision are all there.
func (r *Reader) HistoryFrom() kv.Revision {
	if r.progress.target != 0 { // rows of any revision below the compacted one may be gone
		return r.compacted
	}
	return min(r.progress.done, r.compacted)
}

// Versions gives what a copy of the store at a revision has whose history begins at a compacted one, HistoryFrom or not below that of the state: all versions
// from there on, and of those before it the ones that were live there, whatever is physically compacted. It begins at a place in the history, goes in its order, stops when
// it has given about limitBytes of keys and values to fn, and returns the place to go on from; done says that there is nothing left. Whoever asks knows that
// the state is complete up to the revision. The effects belong to fn; their PrevLease is not known.
func (r *Reader) Versions(from Locator, compacted, to kv.Revision, limitBytes int64, fn func(*Effect) error) (next Locator, done bool, err error) {
	if compacted < r.compacted && compacted != r.HistoryFrom() {
		return from, false, kv.ErrCompacted
	}
	next, done = from, true
	size := int64(0)
	gathered := gathering{reader: r, fn: fn}
	err = r.visitVersions(from, Locator{Rev: min(to, r.revision) + 1}, true, func(v *version) (bool, error) {
		if size >= limitBytes {
			done = false
			return false, nil
		}
		next = Locator{v.at.Rev, v.at.Sub + 1}
		kept, err := r.outlives(v, compacted)
		if err != nil || !kept {
			return err == nil, err
		}
		size += int64(len(v.key)) + int64(v.valueLen)
		return true, gathered.add(v)
	})
	if err == nil {
		err = gathered.flush()
	}
	return next, done, err
}

// outlives tells whether a compaction keeps a version. Its row may be there although it does not.
func (r *Reader) outlives(v *version, compacted kv.Revision) (bool, error) {
	switch {
	case v.at.Rev >= compacted:
		return true, nil
	case v.number == 0:
		return false, nil
	case r.progress.target == 0 && r.progress.done == compacted:
		return true, nil // what does not is gone
	}
	m, found, err := r.Meta(v.key)
	if err != nil || !found {
		return false, err
	}
	if m.At.Rev <= compacted {
		return m.At == v.at, nil
	}
	newest, found, err := r.resolve(m.At, compacted)
	return found && newest.at == v.at, err
}
