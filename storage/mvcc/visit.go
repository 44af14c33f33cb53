package mvcc

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Visits of versions, in the order of their revisions. Scans, which are in key order, are in scan.go.

// A step to the next row costs about a tenth of a seek. A batched lookup seeks at once when
// the next row it wants is farther away than farRevisions, and otherwise after
// nextsBeforeSeek steps: revisions that are compacted away have no rows.
const (
	farRevisions    = 16
	nextsBeforeSeek = 16
)

// visitRows reads the referenced rows with one iterator, in row order (it sorts
// references); with values, rows whose value is by key come later. fn gets nil for a row that is not there; what it gets is valid only during the call.
func (r *Reader) visitRows(references []reference, values bool, fn func(reference, *version) error) error {
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
	pending := pendingValues{reader: r}
	for len(references) > 0 {
		if e := r.bulk.at(references[0].at); e != nil {
			v := e.asVersion()
			if err := fn(references[0], &v); err != nil {
				return err
			}
			references = references[1:]
			continue
		}
		n := r.sameLineage(references)
		if err := r.visitRowsOfOne(references[:n], values, &pending, fn); err != nil {
			return err
		}
		references = references[n:]
	}
	return pending.resolve(fn)
}

// sameLineage tells how many of the first references, which are not of a bulk, are in the lineage of the first one.
func (r *Reader) sameLineage(references []reference) int {
	if r.bulk.committed {
		if n := slices.IndexFunc(references, func(ref reference) bool { return ref.at.Rev == r.bulk.revision }); n > 0 {
			references = references[:n]
		}
	}
	rows := &r.options.Rows
	if len(rows.Segments) == 1 {
		return len(references)
	}
	lineage := rows.LineageAt(references[0].at.Rev)
	n := slices.IndexFunc(references, func(ref reference) bool { return rows.LineageAt(ref.at.Rev) != lineage })
	if n < 0 {
		n = len(references)
	}
	return n
}

// visitRowsOfOne is visitRows for sorted references to one lineage.
func (r *Reader) visitRowsOfOne(references []reference, values bool, pending *pendingValues, fn func(reference, *version) error) error {
	last := references[len(references)-1].at
	it := r.source.NewIterator(r.appendVersionKey(nil, references[0].at), append(r.appendVersionValueKey(nil, last), 0))
	defer it.Close()
	var target, scratch []byte
	for n, ref := range references {
		target = r.appendVersionKey(target[:0], ref.at)
		far := n == 0 || ref.at.Rev-references[n-1].at.Rev > farRevisions
		found := seekForward(it, target, far)
		if err := it.Error(); err != nil {
			return err
		}
		if !found {
			if err := fn(ref, nil); err != nil {
				return err
			}
			continue
		}
		v, err := parseVersionRow(ref.at, it.Value())
		if err != nil {
			return err
		}
		if values && v.byKey {
			scratch = append(scratch[:0], v.key...)
			v.key = scratch
			it.Next()
			if took, err := v.takeBehind(it); err != nil {
				return err
			} else if !took {
				if err := pending.add(&v, ref, fn); err != nil {
					return err
				}
				continue
			}
		}
		if err := fn(ref, &v); err != nil {
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
// false. With values, those are set that are in the row or behind it; the others are by key. What it gives is valid only during the call.
func (r *Reader) visitVersions(from, to Locator, values bool, fn func(*version) (bool, error)) error {
	first, next := Locator{Rev: r.bulk.revision}, Locator{Rev: r.bulk.revision + 1}
	if !r.bulk.committed || !first.Less(to) || !from.Less(next) {
		_, err := r.visitSegments(from, to, values, fn)
		return err
	}
	if from.Less(first) {
		if proceed, err := r.visitSegments(from, first, values, fn); err != nil || !proceed {
			return err
		}
	}
	var v version
	proceed, err := r.bulk.between(from, to, func(e *Effect) (bool, error) {
		v = e.asVersion()
		return fn(&v)
	})
	if err != nil || !proceed || !next.Less(to) {
		return err
	}
	_, err = r.visitSegments(next, to, values, fn)
	return err
}

// visitSegments is visitVersions for those that have rows.
func (r *Reader) visitSegments(from, to Locator, values bool, fn func(*version) (bool, error)) (proceed bool, err error) {
	segments := r.options.Rows.Segments
	for i, s := range segments {
		lower, upper := from, to
		if start := (Locator{Rev: s.From}); lower.Less(start) {
			lower = start
		}
		if i+1 < len(segments) {
			if end := (Locator{Rev: segments[i+1].From}); end.Less(upper) {
				upper = end
			}
		}
		if !lower.Less(upper) {
			continue
		}
		if proceed, err := r.visitLineage(s.Lineage, lower, upper, values, fn); err != nil || !proceed {
			return false, err
		}
	}
	return true, nil
}

// visitLineage is visitVersions within one lineage, whose versions may be of other shards' keys, too.
func (r *Reader) visitLineage(lineage keys.Lineage, from, to Locator, values bool, fn func(*version) (bool, error)) (proceed bool, err error) {
	it := r.source.NewIterator(keys.AppendVersion(nil, lineage, from.Rev, from.Sub), keys.AppendVersion(nil, lineage, to.Rev, to.Sub))
	defer it.Close()
	shared := !r.options.Rows.Alone()
	var scratch []byte
	var v version // one for all rows: it is valid only during the call of fn
	for ok := it.First(); ok; {
		at, value, err := parseVersionKey(it.Key())
		if err != nil {
			return false, err
		}
		if value { // of a version that did not want it
			ok = it.Next()
			continue
		}
		if v, err = parseVersionRow(at, it.Value()); err != nil {
			return false, err
		}
		if shared && !r.options.Rows.Has(v.key) {
			ok = it.Next()
			continue
		}
		passed := true // the iterator is at a row that is dealt with
		if values && v.byKey {
			scratch = append(scratch[:0], v.key...)
			v.key, ok = scratch, it.Next()
			if passed, err = v.takeBehind(it); err != nil {
				return false, err
			}
		}
		if proceed, err := fn(&v); err != nil || !proceed {
			return false, err
		}
		if passed {
			ok = it.Next()
		}
	}
	return true, it.Error()
}

// takeBehind sets the value if the iterator, moved on from the version's row, is at the row with it.
func (v *version) takeBehind(it storage.Iterator) (took bool, err error) {
	if !it.Valid() {
		return false, it.Error()
	}
	at, value, err := parseVersionKey(it.Key())
	if err != nil || !value || at != v.at {
		return false, err
	}
	return true, v.filled(it.Value(), true, nil)
}

// parseVersionKey takes the key of a version row, or of the value behind one, apart.
func parseVersionKey(row []byte) (at Locator, value bool, err error) {
	at.Rev, at.Sub, value, err = keys.ParseVersion(row)
	return at, value, err
}
