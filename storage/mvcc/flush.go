package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// NeedsFlush tells whether the dirty map reached its bound. Shared.
func (s *Store) NeedsFlush() bool {
	return s.active.count >= s.options.MaxDirtyKeys || s.dirtyBytes >= s.options.MaxDirtyBytes
}

// Freeze begins a flush: what is dirty now will be written by FlushChunk, new effects
// gather in a new map. It returns false while another flush is in progress, or a bulk is staged or pending: after a crash it must come again as a
// whole. The caller
// notes its applied index, Revision(), Compacted() and FlushNumber() now and writes them with the last chunk; it freezes
// an empty dirty map too when that index is to move. Exclusive.
func (s *Store) Freeze() bool {
	if s.flushing || s.Staged() > 0 || s.Pending() > 0 {
		return false
	}
	s.under = nil
	s.flush++
	s.flushing, s.flushedTo, s.frozenCompacted = true, "", s.logCompacted
	s.frozen, s.active, s.values = s.active, tree[dirtyMeta]{}, arena{}
	s.frozenBytes, s.dirtyBytes = s.dirtyBytes, 0
	return true
}

// FlushNumber is the number of the flush that is in progress, or was the last to begin. Every latest row carries that of the flush that wrote it.
// Shared.
func (s *Store) FlushNumber() uint64 { return s.flush }

// FlushChunk adds up to maxRows of the frozen latest rows to b, in key order. done says
// that these were the last. The caller applies b before it releases the lock. Exclusive.
func (s *Store) FlushChunk(b storage.Batch, maxRows int) (done bool, err error) {
	if !s.flushing {
		return true, nil
	}
	s.splitBuckets(4 * maxRows)
	c := s.unwritten()
	if !c.valid() {
		return true, nil
	}
	run := flushRun{store: s, batch: b, tally: bucketTally{store: s}, replaced: newValueCursor(&s.Reader, []byte(c.entry().key), nil)}
	defer run.replaced.close()
	for rows := 0; c.valid() && rows < maxRows; rows++ {
		e := c.entry()
		if err := run.write(e.key, &e.value, e.weight); err != nil {
			return false, fmt.Errorf("flush key %q: %w", e.key, err)
		}
		s.flushedTo = e.key
		c.next()
	}
	run.tally.close()
	return !c.valid(), nil
}

// flushRun writes the rows of one chunk.
type flushRun struct {
	store    *Store
	batch    storage.Batch
	tally    bucketTally
	replaced *valueCursor
}

func (f *flushRun) write(key string, m *dirtyMeta, weight int64) error {
	s := f.store
	s.keyBuffer = append(keys.AppendRow(s.keyBuffer[:0], s.options.Rows.Home, keys.Latest, nil), key...)
	if !m.fresh {
		if err := f.moveValue([]byte(key), m.At); err != nil {
			return err
		}
	}
	switch {
	case m.At.Rev > 0:
		s.rowBuffer = appendLatestRow(s.rowBuffer[:0], m.latest, s.flush)
		f.batch.Set(s.keyBuffer, s.rowBuffer)
		f.tally.add(key, weight, m.fresh)
	case !m.fresh:
		f.batch.Delete(s.keyBuffer)
		f.tally.drop(key)
	}
	keys.SetKind(s.keyBuffer, keys.Value)
	switch {
	case m.byKey && !s.replacedMeanwhile(key):
		s.rowBuffer = appendValueRow(s.rowBuffer[:0], m.At, m.value)
		f.batch.Set(s.keyBuffer, s.rowBuffer)
	case !m.fresh:
		f.batch.Delete(s.keyBuffer)
	}
	return nil
}

// replacedMeanwhile tells whether a version of the map of the flush in progress is not the newest any more, so that replace has put its value behind it.
func (r *Reader) replacedMeanwhile(key string) bool {
	_, ok := r.active.get(key)
	return ok
}

// moveValue puts the value that the row by key has behind its version, which is not the newest any more.
func (f *flushRun) moveValue(key []byte, newest Locator) error {
	of, value, found, err := f.replaced.find(key)
	if err != nil || !found || !of.Less(newest) {
		return err // what is newer was left by a flush that did not end, and comes again
	}
	f.batch.Set(f.store.appendVersionValueKey(nil, of), value)
	return nil
}

// FlushDone ends a flush after its last chunk was applied. Exclusive.
func (s *Store) FlushDone() {
	if !s.flushing {
		return
	}
	s.frozen, s.frozenBytes, s.flushing, s.flushedTo = tree[dirtyMeta]{}, 0, false, ""
	s.flushedCompacted = s.frozenCompacted
	s.splitBuckets(4 * s.options.BucketRows)
	s.mergeBuckets()
}

// Replayed tells that everything is applied that was before a crash. Exclusive.
func (s *Store) Replayed() { s.replaying = false }
