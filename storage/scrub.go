package storage

import (
	"errors"

	"github.com/quoratedb/quorate/consensus"
)

// Scrub is one pass that reads again what is on disk, so that damage is found which nobody else would read. It covers what was there
// when it began, and passes over what is no longer needed when it gets there. One goroutine uses it, beside those that use the engine or log
// (a MemoryLog allows no other). It keeps at most one file open between calls, and neither snapshots nor iterators.
type Scrub interface {
	// SizeBytes is about how much the pass reads in all.
	SizeBytes() int64
	// Next reads about as much as it is told, and at least one block or record. done: nothing is left. An error that wraps ErrCorrupt
	// says that bytes on disk are not what was written; any other that reading failed. Either ends the pass.
	Next(maxBytes int) (read int64, done bool, err error)
	Close() error
}

// NewReaderScrub is a pass over all rows of a reader. It is the scrub of engines whose damage shows when rows are read.
func NewReaderScrub(r Reader, sizeBytes int64) Scrub {
	return &readerScrub{reader: r, size: sizeBytes}
}

type readerScrub struct {
	reader Reader
	size   int64
	next   []byte // lower bound of what is still to be read
}

func (s *readerScrub) SizeBytes() int64 { return s.size }
func (s *readerScrub) Close() error     { return nil }

func (s *readerScrub) Next(maxBytes int) (read int64, done bool, err error) {
	it := s.reader.NewIterator(s.next, nil)
	more := it.First()
	for ; more && read < int64(max(1, maxBytes)); more = it.Next() {
		read += int64(len(it.Key()) + len(it.Value()))
		s.next = append(append(s.next[:0], it.Key()...), 0)
	}
	return read, !more, errors.Join(it.Error(), it.Close())
}

// NewLogScrub is a pass over all entries of a log. It is the scrub of logs whose damage shows when entries are read.
func NewLogScrub(l Log) Scrub {
	return &logScrub{log: l, groups: l.Groups(), size: l.Metrics().SizeBytes}
}

type logScrub struct {
	log    Log
	groups []consensus.GroupID // that are left
	next   consensus.Index     // of the first of them; 0: its first
	size   int64
}

func (s *logScrub) SizeBytes() int64 { return s.size }
func (s *logScrub) Close() error     { return nil }

func (s *logScrub) Next(maxBytes int) (read int64, done bool, err error) {
	for len(s.groups) > 0 && read < int64(max(1, maxBytes)) {
		group := s.log.Group(s.groups[0])
		from, last := max(s.next, group.First()), group.Last()
		if from > last {
			s.groups, s.next = s.groups[1:], 0
			continue
		}
		entries, err := group.Entries(from, last+1, maxBytes-int(read))
		if err != nil {
			return read, false, err
		}
		for i := range entries {
			read += int64(entries[i].SizeBytes())
			s.next = entries[i].Index + 1
		}
	}
	return read, len(s.groups) == 0, nil
}
