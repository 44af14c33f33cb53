package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/quoratedb/quorate/storage"
)

// recovering is what is known of the files while Open looks at them.
type recovering struct {
	log        *Log
	used       []*segment // with a header, ascending generations
	headerless []*segment
	scan       scanner
	stale      []stale
}

// stale is a record that was never synced and that stands behind one which did not reach the disk.
type stale struct {
	segment *segment
	offset  int64
	bytes   int64
}

// recover reads the segments and rebuilds the index. Rules: DESIGN.md, "Recovery".
func (l *Log) recover() error {
	r := &recovering{log: l}
	if err := r.openFiles(); err != nil {
		return errors.Join(err, r.closeFiles())
	}
	head, tail, err := r.findHead()
	if err == nil {
		err = r.findStale(head, tail)
	}
	if err == nil {
		err = r.findTorn(head, tail)
	}
	var needed []*segment
	if err == nil && head != nil {
		needed, err = r.replay(head, tail)
	}
	if err == nil {
		err = r.eraseStale()
	}
	if err != nil {
		return errors.Join(err, r.closeFiles())
	}
	r.sortFiles(needed, head)
	return l.start(head)
}

func (r *recovering) closeFiles() error {
	var problems []error
	for _, s := range slices.Concat(r.used, r.headerless) {
		problems = append(problems, s.file.Close())
	}
	r.log.segments = nil
	return errors.Join(problems...)
}

func (r *recovering) openFiles() error {
	o := r.log.options
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return fmt.Errorf("wal: list %s: %w", o.Dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		number, ok := fileNumber(name)
		if !ok {
			continue
		}
		s, headerErr, err := openSegment(o.FS, o.Dir, number)
		if err != nil {
			return err
		}
		if headerErr != nil {
			r.headerless = append(r.headerless, s)
		} else {
			r.used = append(r.used, s)
		}
		r.log.number = max(r.log.number, number)
	}
	slices.SortFunc(r.used, func(a, b *segment) int { return cmp.Compare(a.generation, b.generation) })
	return r.sortOutTwins()
}

// sortOutTwins: when the header of a prepared segment could not be synced, another file was
// prepared in its place, and both headers may have reached the disk. Only one of the two was ever written to.
func (r *recovering) sortOutTwins() error {
	for i := 1; i < len(r.used); {
		a, b := r.used[i-1], r.used[i]
		if a.generation != b.generation {
			i++
			continue
		}
		spare := i - 1
		if written, err := r.written(a); err != nil {
			return err
		} else if written {
			spare = i
		}
		if written, err := r.written(r.used[spare]); err != nil {
			return err
		} else if written {
			return b.corrupt(0, "its header claims generation %d, and so does that of %s", b.generation, a.path)
		}
		r.headerless = append(r.headerless, r.used[spare])
		r.used = slices.Delete(r.used, spare, spare+1)
	}
	return nil
}

// written tells whether the segment has a first record.
func (r *recovering) written(s *segment) (bool, error) {
	_, size, err := r.scan.record(s, s.generation, headerBytes, sequences{1, math.MaxUint64})
	return size > 0, err
}

// findHead returns the last segment that holds a record, and its last record. Both are zero if there is none.
func (r *recovering) findHead() (head *segment, tail record, err error) {
	for _, s := range slices.Backward(r.used) {
		tail, err = r.parse(s, func(record, int64) error { return nil })
		if err != nil {
			return nil, record{}, err
		}
		if tail.sequence > 0 {
			return s, tail, nil
		}
	}
	return nil, record{}, nil
}

// parse calls fn for every record from the start of the segment up to the first that is not
// there, sets the segment's end and returns the last one.
func (r *recovering) parse(s *segment, fn func(r record, offset int64) error) (last record, err error) {
	s.end = headerBytes
	expected := sequences{1, math.MaxUint64}
	for {
		found, size, err := r.scan.record(s, s.generation, s.end, expected)
		if err != nil || size == 0 {
			return last, err
		}
		if err := fn(found, s.end); err != nil {
			return last, err
		}
		last = found
		last.payload = nil
		s.end += size
		expected = sequences{last.sequence + 1, last.sequence + 1}
	}
}

// findStale looks behind the end of the log for records that are whole. One of them may prove
// that the record that is missing at the end was durable: then the log is damaged.
func (r *recovering) findStale(head *segment, tail record) error {
	behind := func(s *segment, generation uint64, from int64, end *segment) error {
		// What was not synced when the log ended is at most two segments full.
		expected := sequences{tail.sequence + 1, tail.sequence + uint64(maxSegmentBytes/recordHeaderBytes)}
		return r.scan.each(s, generation, from, expected, func(found record, offset, size int64) error {
			switch {
			case found.synced > tail.sequence:
				return end.corrupt(end.end, "record %d is damaged, but it was durable: record %d, in %s at offset %d, says so",
					tail.sequence+1, found.sequence, s.path, offset)
			case s.generation != generation:
				return s.corrupt(0, "its header is damaged, but it holds record %d", found.sequence)
			}
			r.stale = append(r.stale, stale{s, offset, size})
			return nil
		})
	}
	next := uint64(1)
	if head != nil {
		next = head.generation + 1
		if err := behind(head, head.generation, head.end, head); err != nil {
			return err
		}
	}
	for _, s := range r.used {
		if s.generation >= next {
			end := head
			if end == nil {
				end = s
			}
			if err := behind(s, s.generation, headerBytes, end); err != nil {
				return err
			}
		}
	}
	for _, s := range r.headerless {
		if err := behind(s, next, headerBytes, s); err != nil {
			return err
		}
	}
	return nil
}

// replay builds the index from the segments that the tail says are needed.
func (r *recovering) replay(head *segment, tail record) ([]*segment, error) {
	needed := slices.DeleteFunc(slices.Clone(r.used), func(s *segment) bool {
		return s.generation < tail.oldest || s.generation > head.generation
	})
	for i, s := range needed {
		if want := tail.oldest + uint64(i); s.generation != want {
			return nil, r.missing(want)
		}
	}
	if want := head.generation - tail.oldest + 1; tail.oldest == 0 || uint64(len(needed)) != want {
		return nil, r.missing(tail.oldest)
	}
	l := r.log
	for i, s := range needed {
		previous := l.sequence
		last, err := r.parse(s, func(found record, offset int64) error {
			if i > 0 && previous > 0 && offset == headerBytes && found.sequence != previous+1 {
				before := needed[i-1]
				return before.corrupt(before.end, "record %d is damaged, but it was durable: the next segment begins with record %d", previous+1, found.sequence)
			}
			return r.apply(s, found, offset)
		})
		if err != nil {
			return nil, err
		}
		if last.sequence == 0 {
			return nil, s.corrupt(headerBytes, "its first record is damaged, but a later segment exists")
		}
	}
	return needed, nil
}

func (r *recovering) missing(generation uint64) error {
	path := r.log.options.Dir
	if len(r.headerless) > 0 {
		return r.headerless[0].corrupt(0, "its header is damaged; probably it is the segment of generation %d, which is missing in %s", generation, path)
	}
	return fmt.Errorf("%w: the log segment of generation %d is missing in %s; what this node acknowledged is lost; see \"A node that lost its data\" in docs/operations.md",
		storage.ErrCorrupt, generation, path)
}

// apply replays one record into the index.
func (r *recovering) apply(s *segment, found record, offset int64) error {
	parts, err := decodePayload(found.payload)
	if err != nil {
		return s.corrupt(offset, "record %d: %v", found.sequence, err)
	}
	l := r.log
	l.sequence = found.sequence
	l.recovery.Records++
	for i := range parts {
		if _, err := l.applyPart(&parts[i], s, offset, false); err != nil {
			return s.corrupt(offset, "record %d: %v", found.sequence, err)
		}
	}
	return nil
}

// eraseStale makes sure that a record which recovery left out can never become part of the log again.
func (r *recovering) eraseStale() error {
	for _, at := range r.stale {
		zeros := make([]byte, at.bytes)
		if _, err := at.segment.file.WriteAt(zeros, at.offset); err != nil {
			return fmt.Errorf("wal: cut off the torn end of %s: %w", at.segment.path, err)
		}
		if err := at.segment.file.SyncData(); err != nil {
			return fmt.Errorf("wal: cut off the torn end of %s: %w", at.segment.path, err)
		}
		r.log.recovery.TornBytes += at.bytes
		r.log.recovery.TornFile = at.segment.path
	}
	return nil
}

// sortFiles gives every file its place in the log.
func (r *recovering) sortFiles(needed []*segment, head *segment) {
	l := r.log
	l.segments = needed
	for _, s := range needed {
		l.retained += s.size
	}
	l.recovery.Segments = len(needed)
	next := uint64(1)
	if head != nil {
		next = head.generation + 1
	}
	for _, s := range slices.Concat(r.used, r.headerless) {
		switch {
		case slices.Contains(needed, s):
		case s.generation == next && l.next.done == nil:
			s.end = headerBytes
			l.next = preparation{done: make(chan struct{}), segment: s}
			close(l.next.done)
		default:
			l.recycle(s)
		}
	}
}

// start makes what was read durable, since a crash of the process alone leaves records that
// only the page cache holds, and gets ready to write.
func (l *Log) start(head *segment) error {
	if head == nil {
		return l.startFirst()
	}
	if err := head.file.SyncData(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", head.path, err)
	}
	l.durable(l.sequence)
	if l.next.done == nil {
		l.prepare()
	}
	return nil
}

// startFirst begins a log that never held anything.
func (l *Log) startFirst() error {
	if err := syncDir(l.options.FS, l.options.FS.PathDir(l.options.Dir)); err != nil {
		return fmt.Errorf("wal: make the directory %s durable: %w", l.options.Dir, err)
	}
	s := l.next.segment
	l.next = preparation{}
	if s == nil {
		l.number++
		f := newFill(l.options, l.number, l.options.sizeOf(1))
		f.piece = f.size // nobody else uses the disk yet
		f.allow(f.size)
		var err error
		if s, err = f.run(); err != nil {
			return err
		}
		if err := s.begin(1); err != nil {
			return errors.Join(err, s.file.Close())
		}
	}
	return l.activate(s)
}

// scanner reads records through a window of the file.
type scanner struct {
	segment *segment
	start   int64
	window  []byte
	buffer  []byte
}

const windowBytes = 1 << 20

// at returns n bytes of the segment from the offset on, or fewer at the end of the file.
func (w *scanner) at(s *segment, offset int64, n int) ([]byte, error) {
	if w.segment != s || offset < w.start || offset+int64(n) > w.start+int64(len(w.window)) {
		if err := w.load(s, offset, n); err != nil {
			return nil, err
		}
	}
	window := w.window[offset-w.start:]
	return window[:min(n, len(window))], nil
}

func (w *scanner) load(s *segment, offset int64, n int) error {
	size := min(max(int64(n), windowBytes), max(0, s.size-offset))
	if int64(cap(w.buffer)) < size {
		w.buffer = make([]byte, size)
	}
	w.segment = nil
	window := w.buffer[:size]
	read, err := s.file.ReadAt(window, offset)
	if err != nil && err != io.EOF {
		return fmt.Errorf("wal: read %s at offset %d: %w", s.path, offset, err)
	}
	w.segment, w.start, w.window = s, offset, window[:read]
	return nil
}

// sequences are the numbers that a record may have. Without them a search through a segment would
// compute a checksum over megabytes for every few bytes that could be a length.
type sequences struct{ from, to uint64 }

// record returns the record at the offset and its size on disk; size is 0 if there is none.
// The payload is valid until the next call.
func (w *scanner) record(s *segment, generation uint64, offset int64, expected sequences) (r record, size int64, err error) {
	header, err := w.at(s, offset, recordHeaderBytes)
	if err != nil || len(header) < recordHeaderBytes {
		return record{}, 0, err
	}
	r, payload, ok := plausible(header, s.size-offset)
	if !ok || r.sequence < expected.from || r.sequence > expected.to || r.oldest > generation {
		return record{}, 0, nil
	}
	whole, err := w.at(s, offset, recordHeaderBytes+payload)
	if err != nil || len(whole) < recordHeaderBytes+payload {
		return record{}, 0, err
	}
	r.payload = whole[recordHeaderBytes:]
	if checksum(generation, whole, r.payload) != storedChecksum(whole) {
		return record{}, 0, nil
	}
	return r, recordBytes(payload), nil
}

// skipZeros returns the first place from the offset on where a record could begin: its number, in the second word, is never 0. Most of what is
// behind the end of a log was never written.
func (w *scanner) skipZeros(s *segment, offset int64) (int64, error) {
	for offset+recordHeaderBytes <= s.size {
		window, err := w.at(s, offset, recordHeaderBytes)
		if err != nil || len(window) < recordHeaderBytes {
			return s.size, err
		}
		window = w.window[offset-w.start:]
		at := 0
		for at+2*recordAlignment <= len(window) && binary.NativeEndian.Uint64(window[at+recordAlignment:]) == 0 {
			at += recordAlignment
		}
		offset += int64(at)
		if at+2*recordAlignment <= len(window) {
			return offset, nil
		}
	}
	return offset, nil
}

// each calls fn for every whole record at or behind the offset.
func (w *scanner) each(s *segment, generation uint64, from int64, expected sequences, fn func(r record, offset, size int64) error) error {
	for offset := from; offset+recordHeaderBytes <= s.size; {
		found, size, err := w.record(s, generation, offset, expected)
		if err != nil {
			return err
		}
		if size == 0 {
			if offset, err = w.skipZeros(s, offset+recordAlignment); err != nil {
				return err
			}
			continue
		}
		if err := fn(found, offset, size); err != nil {
			return err
		}
		offset += size
	}
	return nil
}
