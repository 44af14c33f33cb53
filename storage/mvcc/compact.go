package mvcc

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// progress is how far the physical compaction has come. Invariant: every row that is
// obsolete at done is gone; if target is set, every row below cursor has been walked for it.
type progress struct {
	done   kv.Revision
	target kv.Revision // 0: no walk in progress
	cursor Locator
}

// passed tells whether a tombstone at this place has been walked and deleted.
func (p progress) passed(at Locator) bool {
	return at.Rev < p.done || at.Rev < p.target && at.Less(p.cursor)
}

func progressKey(shard kv.ShardID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{statePrefix}, uint64(shard)), "mvcc.compact"...)
}

func (s *Store) loadProgress() error {
	row, found, err := s.source.Get(progressKey(s.options.Shard), nil)
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
		return progress{}, fmt.Errorf("row is malformed: %w", storage.ErrCorrupt)
	}
	return p, nil
}

func (s *Store) saveProgress(b storage.Batch) {
	row := binary.AppendUvarint(nil, uint64(s.progress.done))
	row = binary.AppendUvarint(row, uint64(s.progress.target))
	row = binary.AppendUvarint(row, uint64(s.progress.cursor.Rev))
	b.Set(progressKey(s.options.Shard), binary.AppendUvarint(row, uint64(s.progress.cursor.Sub)))
}

// CompactStep deletes obsolete rows: it walks up to maxRows version rows of the interval
// between the last compaction and this one, and says whether there is more to do. The
// caller applies b before it releases the lock, and starts only once the compaction is durable
// with the applied index: then no replay writes a row of the interval again. Exclusive.
func (s *Store) CompactStep(b storage.Batch, maxRows int) (more bool, err error) {
	p := &s.progress
	if p.target == 0 {
		if s.compacted <= p.done || s.compacted > s.durableLatest() {
			return false, nil
		}
		// Rows at done are walked again: as rows at the compacted revision they stayed.
		p.target, p.cursor = s.compacted, Locator{Rev: p.done}
	}
	walked, end := 0, Locator{Rev: p.target + 1}
	err = s.visitVersions(p.cursor, end, func(v *version) (bool, error) {
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
	return p.target != 0 || s.compacted > p.done, nil
}

// durableLatest is the revision up to which all latest rows are in the engine.
func (s *Store) durableLatest() kv.Revision {
	if s.active.count == 0 && !s.flushing {
		return s.revision
	}
	return s.flushed
}

// compactRow deletes what the version makes obsolete at the target: the version before it, and
// itself if it is a tombstone. What is AT the target stays, for watches that start there.
func (s *Store) compactRow(b storage.Batch, v *version) error {
	p := &s.progress
	again := v.at.Rev == p.done && p.done > 0 // walked by the compaction before, which kept what was at done
	if v.prev.Rev > 0 && v.prev.Rev < p.target && (!again || v.prev.Rev == p.done) {
		s.keyBuffer = appendVersionKey(s.keyBuffer[:0], v.prev)
		b.Delete(s.keyBuffer)
	}
	if v.number != 0 || v.at.Rev >= p.target {
		return nil
	}
	s.keyBuffer = appendVersionKey(s.keyBuffer[:0], v.at)
	b.Delete(s.keyBuffer)
	m, found, err := s.newest(v.key)
	if err != nil || !found || m.At != v.at {
		return err
	}
	s.keyBuffer = appendLatestKey(s.keyBuffer[:0], v.key)
	b.Delete(s.keyBuffer)
	s.dropRow(text(v.key))
	return nil
}
