package wal

import (
	"fmt"
	"io"

	"github.com/quoratedb/quorate/storage"
)

// scrub reads the needed segments again, record by record: those that there were when it began.
//
// It reads without the log's lock. A segment is not used again meanwhile, but it may have been given up: then nobody needs what looks like
// damage in it.
type scrub struct {
	log      *Log
	size     int64
	until    uint64 // generation of the segment that was the head when the pass began
	at       scrubPosition
	buffer   []byte
	previous uint64 // sequence number of the record before the position; 0: not known
}

// scrubPosition is where a pass goes on: the cursor.
type scrubPosition struct {
	generation uint64 // of the segment; 0 before the first
	offset     int64
}

// NewScrub implements storage.Log.
func (l *Log) NewScrub() storage.Scrub {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &scrub{log: l}
	for _, segment := range l.segments {
		s.size += segment.end
		s.until = segment.generation
	}
	return s
}

func (s *scrub) SizeBytes() int64 { return s.size }
func (s *scrub) Close() error     { return nil }

// Next implements storage.Scrub.
func (s *scrub) Next(maxBytes int) (read int64, done bool, err error) {
	segment, end, err := s.place()
	if segment == nil || err != nil {
		return 0, err == nil, err
	}
	defer s.leave(segment)
	chunk := min(max(int64(maxBytes), headerBytes), windowBytes, end-s.at.offset)
	for {
		needed, problem := s.verify(segment, chunk, end)
		switch {
		case problem == nil && needed == 0:
			return chunk, false, nil
		case problem == nil: // one record is larger than the chunk
			chunk = needed
		case s.inUse():
			return chunk, false, problem
		default:
			return chunk, false, nil // the next call goes on behind it
		}
	}
}

// place finds the segment to go on with, and how far it was written; nil if nothing is left. Its path, file and generation may be read
// until leave is called.
func (s *scrub) place() (*segment, int64, error) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return nil, 0, l.failed
	}
	finished := false
	for _, segment := range l.segments {
		switch {
		case segment.generation > s.until:
			return nil, 0, nil
		case segment.generation < s.at.generation:
			continue
		case segment.generation == s.at.generation && s.at.offset >= segment.end:
			finished = true
			continue
		case segment.generation > s.at.generation:
			if !finished {
				s.previous = 0 // the one before was given up before its end was read
			}
			s.at = scrubPosition{generation: segment.generation}
		}
		segment.readers++
		return segment, segment.end, nil
	}
	return nil, 0, nil
}

// leave gives back what place has returned.
func (s *scrub) leave(segment *segment) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	segment.readers--
}

// inUse tells whether the segment of the position is still needed, in the same use.
func (s *scrub) inUse() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, segment := range s.log.segments {
		if segment.generation == s.at.generation {
			return true
		}
	}
	return false
}

// verify reads a chunk at the position, and moves the position behind what it has verified. needed is how much the chunk must have at
// least if not even one record fits; 0 if one did.
func (s *scrub) verify(segment *segment, chunk, end int64) (needed int64, problem error) {
	if int64(cap(s.buffer)) < chunk || int64(cap(s.buffer)) > maxKeptBuffer {
		s.buffer = make([]byte, chunk)
	}
	b, start := s.buffer[:chunk], s.at.offset
	if err := readFull(segment.file, b, start); err == io.ErrUnexpectedEOF {
		return 0, segment.corrupt(start, "the file ends before offset %d, to which it was written", end)
	} else if err != nil {
		return 0, fmt.Errorf("wal: scrub %s at offset %d: %w", segment.path, start, err)
	}
	if start == 0 {
		if generation, err := decodeHeader(b); err != nil || generation != segment.generation {
			return 0, segment.corrupt(0, "its header is damaged")
		}
		b, s.at.offset = b[headerBytes:], headerBytes
	}
	for len(b) >= recordHeaderBytes {
		r, payload, ok := plausible(b, end-s.at.offset)
		size := recordBytes(payload)
		if ok && size > int64(len(b)) {
			if s.at.offset == start {
				return size, nil
			}
			return 0, nil
		}
		if !ok || s.previous != 0 && r.sequence != s.previous+1 ||
			checksum(segment.generation, b, b[recordHeaderBytes:recordHeaderBytes+payload]) != storedChecksum(b) {
			return 0, segment.corrupt(s.at.offset, "its record is not what was written")
		}
		s.previous = r.sequence
		s.at.offset += size
		b = b[size:]
	}
	if s.at.offset == start { // a chunk ends within the header of a record only if there is one before it
		return 0, segment.corrupt(start, "there is no record, but it was written to offset %d", end)
	}
	return 0, nil
}
