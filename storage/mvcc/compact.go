package mvcc

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// progress is how far the physical compaction has come. Invariant: every row that is
// obsolete at done is gone; if target is set, every row below cursor has been walked for it.
type progress struct {
	done   kv.Revision
	target kv.Revision // 0: no walk in progress
	cursor Locator
}

// Advance takes note that everything up to a revision is applied: what is missing in between is of others. Exclusive.
func (s *Store) Advance(rev kv.Revision) { s.revision = max(s.revision, rev) }

// SetCompacted makes reads below rev fail from now on; rows disappear later, by
// CompactStep. The compacted revision, as of its applied index, is for the caller to persist
// (Options.Compacted). Exclusive.
func (s *Store) SetCompacted(b storage.Batch, rev kv.Revision) {
	if rev > s.revision {
		panic(fmt.Sprintf("mvcc: compaction at revision %d beyond revision %d", rev, s.revision))
	}
	s.compacted, s.logCompacted = max(s.compacted, rev), rev
	b.Set(keys.Compacted(s.options.Rows.Shard), binary.AppendUvarint(nil, uint64(s.compacted)))
}

// loadCompaction reads the state rows. The compacted revision in the engine may be from after the applied
// index, as version rows may. It counts at once, as far as there are
// revisions: versions written after a compaction need not lead to those before it.
func (s *Store) loadCompaction() error {
	row, found, err := s.source.Get(keys.Compacted(s.options.Rows.Shard), nil)
	if err != nil {
		return err
	}
	if found {
		f := fields{rest: row}
		s.compacted = max(s.compacted, min(kv.Revision(f.next()), s.revision))
		if f.bad || len(f.rest) != 0 {
			return fmt.Errorf("row of the compacted revision is malformed: %w", storage.ErrCorrupt)
		}
	}
	row, found, err = s.source.Get(keys.Progress(s.options.Rows.Shard), nil)
	if err != nil || !found {
		return err
	}
	s.progress, err = parseProgress(row)
	return err
}

func parseProgress(row []byte) (progress, error) {
	f := fields{rest: row}
	p := progress{kv.Revision(f.next()), kv.Revision(f.next()), Locator{kv.Revision(f.next()), f.next32()}}
	if f.bad || len(f.rest) != 0 || p.done < 0 || p.target < 0 || p.cursor.Rev < 0 {
		return progress{}, fmt.Errorf("row of the compaction's progress is malformed: %w", storage.ErrCorrupt)
	}
	return p, nil
}

func (s *Store) saveProgress(b storage.Batch) {
	row := binary.AppendUvarint(nil, uint64(s.progress.done))
	row = binary.AppendUvarint(row, uint64(s.progress.target))
	row = binary.AppendUvarint(row, uint64(s.progress.cursor.Rev))
	b.Set(keys.Progress(s.options.Rows.Shard), binary.AppendUvarint(row, uint64(s.progress.cursor.Sub)))
}

// CompactStep deletes obsolete rows: it walks up to maxRows version rows of the interval
// between the last compaction and this one, and says whether there is more to do now. The
// caller applies b before it releases the lock. Exclusive.
//
// It works towards the compacted revision that the last finished flush included. The engine
// keeps batches in order, so whoever sees a deletion after a crash sees that flush and the
// applied index that came with it too: no replay writes a row of the interval again, and no
// restart finds a compacted revision below what is deleted.
func (s *Store) CompactStep(b storage.Batch, maxRows int) (more bool, err error) {
	p := &s.progress
	if p.target == 0 {
		if s.flushedCompacted <= p.done {
			return false, nil
		}
		// Rows at done are walked again: as rows at the compacted revision they stayed.
		p.target, p.cursor = s.flushedCompacted, Locator{Rev: p.done}
	}
	walked, end := 0, Locator{Rev: p.target + 1}
	err = s.visitVersions(p.cursor, end, false, func(v *version) (bool, error) {
		if walked++; walked > maxRows {
			p.cursor = v.at
			return false, nil
		}
		return true, s.compactRow(b, v)
	})
	if err != nil {
		return false, fmt.Errorf("compact revisions %d to %d: %w", p.done, p.target, err)
	}
	if walked <= maxRows {
		*p = progress{done: p.target}
	}
	s.saveProgress(b)
	return p.target != 0 || s.flushedCompacted > p.done, nil
}

// CompactBegun tells whether CompactStep is in the middle of an interval. Shared.
func (s *Store) CompactBegun() bool { return s.progress.target != 0 }

// compactRow deletes what the version makes obsolete at the target: the version before it, and
// itself if it is a tombstone. What is AT the target stays, for watches that start there.
func (s *Store) compactRow(b storage.Batch, v *version) error {
	p := &s.progress
	if v.prev.Rev > 0 && v.prev.Rev < p.target {
		s.keyBuffer = s.appendVersionKey(s.keyBuffer[:0], v.prev)
		b.Delete(s.keyBuffer)
		if v.prevLive {
			s.keyBuffer = s.appendVersionValueKey(s.keyBuffer[:0], v.prev)
			b.Delete(s.keyBuffer) // if there is one
		}
	}
	if v.number != 0 || v.at.Rev >= p.target {
		return nil
	}
	s.keyBuffer = s.appendVersionKey(s.keyBuffer[:0], v.at)
	b.Delete(s.keyBuffer)
	m, found, err := s.Reader.Meta(v.key)
	if err != nil || !found || m.At != v.at {
		return err
	}
	s.keyBuffer = keys.AppendRow(s.keyBuffer[:0], s.options.Rows.Home, keys.Latest, v.key)
	b.Delete(s.keyBuffer)
	keys.SetKind(s.keyBuffer, keys.Value) // a crash may have left one
	b.Delete(s.keyBuffer)
	s.dropRow(text(v.key))
	s.forgetDirty(v.key)
	return nil
}

// forgetDirty is called when the rows of a tombstone are deleted: if it is dirty, put there by Open, it is not to be written again.
func (s *Store) forgetDirty(key []byte) {
	for _, t := range [...]*tree[dirtyMeta]{&s.active, &s.frozen} {
		if _, ok := t.get(text(key)); ok {
			t.set(key, 0, func(old dirtyMeta, _ bool) dirtyMeta { return dirtyMeta{latest: latest{base: old.base}, fresh: true} })
			return
		}
	}
}
