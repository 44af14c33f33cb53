package mvcc

import (
	"github.com/quoratedb/quorate/storage"
)

// NeedsFlush tells whether the dirty map reached its bound. Shared.
func (s *Store) NeedsFlush() bool {
	return s.active.count >= s.options.MaxDirtyKeys || s.dirtyBytes >= s.options.MaxDirtyBytes
}

// Freeze begins a flush: what is dirty now will be written by FlushChunk, new effects
// gather in a new map. It returns false while another flush is in progress. The caller
// notes its applied index and Compacted() now and writes them with the last chunk; it freezes
// an empty dirty map too when that index is to move. Exclusive.
func (s *Store) Freeze() bool {
	if s.flushing {
		return false
	}
	s.flushing, s.flushedTo, s.frozenAt, s.frozenCompacted = true, "", s.revision, s.compacted
	s.frozen, s.active, s.dirtyBytes, s.values = s.active, tree[dirtyMeta]{}, 0, arena{}
	return true
}

// FlushChunk adds up to maxRows of the frozen latest rows to b, in key order. done says
// that these were the last. The caller applies b before it releases the lock. Exclusive.
func (s *Store) FlushChunk(b storage.Batch, maxRows int) (done bool) {
	if !s.flushing {
		return true
	}
	s.splitBuckets(4 * maxRows)
	tally := bucketTally{store: s}
	c := s.frozen.seek(s.flushedTo)
	if c.valid() && s.flushedTo != "" && c.entry().key == s.flushedTo {
		c.next()
	}
	for rows := 0; c.valid() && rows < maxRows; rows++ {
		e := c.entry()
		s.keyBuffer = append(append(s.keyBuffer[:0], latestPrefix), e.key...)
		s.rowBuffer = appendLatestRow(s.rowBuffer[:0], e.value.latest)
		b.Set(s.keyBuffer, s.rowBuffer)
		s.flushCopy(b, &e.value)
		tally.add(e.key, e.weight, e.value.fresh)
		s.flushedTo = e.key
		c.next()
	}
	tally.close()
	return !c.valid()
}

// flushCopy writes the copy of the value beside the latest row whose key is in keyBuffer, or deletes the one that is there.
func (s *Store) flushCopy(b storage.Batch, m *dirtyMeta) {
	s.keyBuffer[0] = copyPrefix
	switch {
	case m.copied:
		s.rowBuffer = appendCopyRow(s.rowBuffer[:0], m.At, m.value)
		b.Set(s.keyBuffer, s.rowBuffer)
	case !m.fresh:
		b.Delete(s.keyBuffer)
	}
}

// FlushDone ends a flush after its last chunk was applied. Exclusive.
func (s *Store) FlushDone() {
	if !s.flushing {
		return
	}
	s.frozen, s.flushing, s.flushedTo, s.flushed = tree[dirtyMeta]{}, false, "", s.frozenAt
	s.flushedCompacted = s.frozenCompacted
	s.splitBuckets(4 * s.options.BucketRows)
	s.mergeBuckets()
}
