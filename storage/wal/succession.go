package wal

import (
	"errors"
	"fmt"
	"slices"
)

// retired is a segment that nobody needs, but that the records on disk still count on until
// the record `after`, which says otherwise, is durable.
type retired struct {
	segment *segment
	after   uint64
}

func (l *Log) head() *segment { return l.segments[len(l.segments)-1] }

// durable notes that the records up to the number are on disk, and lets segments go.
func (l *Log) durable(until uint64) {
	l.synced = max(l.synced, until)
	l.retire()
}

// retire takes segments that no group needs from the front. Only from the front: a later
// record may say that an entry in an earlier segment no longer counts.
func (l *Log) retire() {
	for len(l.segments) > 1 {
		s := l.segments[0]
		if s.live > 0 || s.emptySince > l.synced || s == l.syncing {
			break
		}
		l.segments = slices.Delete(l.segments, 0, 1)
		l.retained -= s.size
		l.retired = append(l.retired, retired{s, l.sequence + 1})
	}
	for len(l.retired) > 0 && l.retired[0].after <= l.synced && l.retired[0].segment != l.syncing && l.retired[0].segment.readers == 0 {
		l.recycle(l.retired[0].segment)
		l.retired = slices.Delete(l.retired, 0, 1)
	}
}

// recycle keeps the segment for later, or removes the file if there are enough.
func (l *Log) recycle(s *segment) {
	if s.size == l.options.SegmentBytes && len(l.free) < l.options.SpareSegments {
		l.free = append(l.free, s)
		return
	}
	l.job(func() {
		if err := errors.Join(s.file.Close(), l.options.FS.Remove(s.path)); err != nil {
			l.problem(fmt.Errorf("wal: remove the surplus segment %s: %w", s.path, err))
		}
	})
}

// nextSegment makes the prepared segment the head.
func (l *Log) nextSegment() error {
	old := l.head()
	if err := old.file.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", old.path, err)
	}
	l.syncs++
	l.durable(l.sequence)
	s, err := l.takePrepared()
	if err != nil {
		return err
	}
	return l.activate(s)
}

// activate writes into the segment from now on. Its first record says for every group where its
// log begins and what its hard state is, so that no earlier segment is needed for that.
func (l *Log) activate(s *segment) error {
	l.segments = append(l.segments, s)
	l.retained += s.size
	var parts []part
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		before, hs := g.before, g.hardState
		g.compacted = false
		parts = append(parts, part{group: id, compact: &before, hardState: &hs})
	}
	l.compacted = l.compacted[:0]
	buffer := make([]byte, recordHeaderBytes)
	for i := range parts {
		buffer = appendPart(buffer, recordHeaderBytes, &parts[i])
	}
	if _, err := l.place(buffer); err != nil {
		return err
	}
	l.retire()
	l.prepare()
	return nil
}
