package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// preparation is the segment after the head, or the work on it.
type preparation struct {
	done    chan struct{} // nil: nothing was begun
	segment *segment
	err     error

	fill *fill // nil: nothing has to be filled with zeros
	from int64 // end of the head when the work began
}

// errAbandoned: the log was closed while a segment was being filled.
var errAbandoned = errors.New("the log was closed")

// prepare begins to make the segment after the head ready.
func (l *Log) prepare() {
	generation := l.head().generation + 1
	size := l.options.sizeOf(generation)
	l.next = preparation{done: make(chan struct{}), from: l.head().end}
	if len(l.free) > 0 && l.free[0].size == size {
		recycled := l.free[0]
		l.free = slices.Delete(l.free, 0, 1)
		l.job(func() { l.prepared(recycled, nil, generation) })
		return
	}
	l.number++
	f := newFill(l.options, l.number, size)
	l.next.fill = f
	if !l.options.Inline {
		l.jobs.Go(func() {
			s, err := f.run()
			l.prepared(s, err, generation)
		})
	}
}

// prepared ends a preparation.
func (l *Log) prepared(s *segment, err error, generation uint64) {
	if err == nil {
		if err = s.begin(generation); err != nil {
			s, err = nil, errors.Join(err, s.file.Close())
		}
	}
	l.next.segment, l.next.err = s, err
	close(l.next.done)
}

// pace lets the next segment be filled as far as the head is used: a sync of the head waits for the disk to write what
// was written elsewhere, too, so zeros go there in small pieces, spread over the writes that pay for them. All are there
// when three quarters of what the head had left are used.
func (l *Log) pace() {
	f := l.next.fill
	if f == nil {
		return
	}
	head := l.head()
	room := max(1, (head.size-l.next.from)*3/4)
	used := min(head.end-l.next.from, room)
	f.allow(f.size * used / room) // both are below 1 << 31
	if l.options.Inline {
		l.fillInline()
	}
}

// fillInline does what is allowed by now.
func (l *Log) fillInline() {
	select {
	case <-l.next.done:
		return
	default:
	}
	if s, err := l.next.fill.proceed(); s != nil || err != nil {
		l.prepared(s, err, l.head().generation+1)
	}
}

// takePrepared waits for the segment after the head.
func (l *Log) takePrepared() (*segment, error) {
	if l.next.done == nil {
		l.prepare()
	}
	select {
	case <-l.next.done:
	default:
		began := time.Now()
		l.hurry()
		if f := l.options.Listener.Waited; f != nil {
			f(time.Since(began))
		}
	}
	if err := l.next.err; err != nil { // space may have come free since
		l.problem(err)
		l.prepare()
		l.hurry()
	}
	s, err := l.next.segment, l.next.err
	l.next = preparation{}
	return s, err
}

// hurry waits until the preparation is done.
func (l *Log) hurry() {
	if f := l.next.fill; f != nil {
		f.allow(f.size)
		if l.options.Inline {
			l.fillInline()
		}
	}
	<-l.next.done
}

// abandon ends a preparation that nobody needs any more.
func (l *Log) abandon() {
	if l.next.done == nil {
		return
	}
	if f := l.next.fill; f != nil {
		f.abandon()
		if l.options.Inline {
			l.fillInline()
		}
	}
	<-l.next.done
}

// fill makes a file full of zeros: writing into it later changes no metadata of the file system, so that fdatasync has
// only the data to write. Each piece is synced, so that a sync of the head never queues behind more than one.
type fill struct {
	fs     vfs.FS
	dir    string
	path   string
	number uint64
	size   int64
	piece  int64

	file    vfs.File // nil before the first piece
	written int64
	zeros   []byte // a piece of them

	allowed   atomic.Int64  // how far the file may be filled now; below 0: no more, give up
	more      chan struct{} // allowed was raised
	announced int64         // when more was signalled; belongs to the log's lock
}

func newFill(o Options, number uint64, size int64) *fill {
	return &fill{
		fs: o.FS, dir: o.Dir, path: o.FS.PathJoin(o.Dir, fileName(number)), number: number, size: size,
		piece: min(size, int64(o.FillBytes)), more: make(chan struct{}, 1),
	}
}

// allow raises the mark, and wakes the filler when there is another piece to write.
func (f *fill) allow(bytes int64) {
	if bytes < min(f.announced+f.piece, f.size) || f.announced == f.size {
		return
	}
	f.announced = bytes
	f.allowed.Store(bytes)
	f.signal()
}

func (f *fill) abandon() {
	f.allowed.Store(-1)
	f.signal()
}

func (f *fill) signal() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// run fills the file at the pace that is allowed.
func (f *fill) run() (*segment, error) {
	for {
		if s, err := f.proceed(); s != nil || err != nil {
			return s, err
		}
		<-f.more
	}
}

// proceed writes the pieces that are allowed; the result is the segment when the file is full.
func (f *fill) proceed() (*segment, error) {
	for {
		allowed := f.allowed.Load()
		switch {
		case allowed < 0:
			return nil, f.fail(errAbandoned)
		case f.written == f.size:
			return f.finish()
		case allowed < min(f.written+f.piece, f.size):
			return nil, nil
		}
		if err := f.step(); err != nil {
			return nil, f.fail(err)
		}
	}
}

// step writes one piece.
func (f *fill) step() (err error) {
	if f.file == nil {
		if f.file, err = f.fs.Create(f.path, vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
	}
	if f.zeros == nil {
		f.zeros = make([]byte, f.piece)
	}
	clear(f.zeros) // the file system may have changed what it was given
	n, err := f.file.Write(f.zeros[:min(f.piece, f.size-f.written)])
	f.written += int64(n)
	if err != nil {
		return err
	}
	return f.file.SyncData()
}

// finish makes the file durable, its size and its name included.
func (f *fill) finish() (*segment, error) {
	err := errors.Join(f.file.Sync(), f.file.Close())
	f.file = nil
	if err == nil {
		err = syncDir(f.fs, f.dir)
	}
	s := &segment{path: f.path, number: f.number, size: f.size, end: headerBytes}
	if err == nil {
		s.file, err = f.fs.OpenReadWrite(f.path, vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		return nil, f.fail(err)
	}
	return s, nil
}

// fail removes the file: that gives back what little space there was, and the error is reported anyway.
func (f *fill) fail(err error) error {
	if f.file != nil {
		_ = f.file.Close()
	}
	_ = f.fs.Remove(f.path)
	return describeCreate(f.path, f.size, err)
}

func describeCreate(path string, size int64, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("wal: the disk is too full for another segment of the log, %s with %d bytes: %w; free space and restart the node", path, size, err)
	}
	return fmt.Errorf("wal: create segment %s: %w", path, err)
}
