package trail

import (
	"cmp"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the queue.
const (
	maxQueued = 4096
	// retryInterval is when a write that failed is tried again.
	retryInterval = 100 * time.Millisecond
)

// Options of a Trail.
type Options struct {
	// To is where the records go: a file, "-" for standard output, "syslog".
	To string
	// Node is the name of this node, for the records.
	Node string
	// MaxFileBytes is when a file is full, MaxFiles how many there are, the one that is written included. Default: 100 MiB, 10.
	MaxFileBytes int64
	MaxFiles     int
	// Failed is told, once until it works again, that writing failed; Recovered that it works again, and how many records were dropped.
	Failed    func(error)
	Recovered func(dropped int64)

	open  func() (io.WriteCloser, error) // in place of To
	retry time.Duration
}

// Trail writes records in the order in which they come. Safe for concurrent use.
type Trail struct {
	options Options
	out     io.WriteCloser
	places  chan struct{} // one in it for each record that is queued, or will be
	queue   chan Record
	stop    chan struct{}
	done    chan struct{}
	closing sync.Once

	written, dropped, failures atomic.Int64
	failing                    atomic.Bool
}

// Metrics are figures about a trail.
type Metrics struct {
	Records  int64 // written
	Dropped  int64 // that found no room
	Failures int64 // of writes
	Queued   int64 // that wait
}

// Open opens what the records go to.
func Open(options Options) (*Trail, error) {
	options.MaxFileBytes = cmp.Or(options.MaxFileBytes, 100<<20)
	options.MaxFiles = cmp.Or(options.MaxFiles, 10)
	options.retry = cmp.Or(options.retry, retryInterval)
	if options.Failed == nil {
		options.Failed = func(error) {}
	}
	if options.Recovered == nil {
		options.Recovered = func(int64) {}
	}
	if options.open == nil {
		options.open = func() (io.WriteCloser, error) { return open(options) }
	}
	out, err := options.open()
	if err != nil {
		return nil, fmt.Errorf("open the audit log (--audit-log=%s): %w", options.To, err)
	}
	t := &Trail{options: options, out: out, places: make(chan struct{}, maxQueued), queue: make(chan Record, maxQueued),
		stop: make(chan struct{}), done: make(chan struct{})}
	go t.run()
	return t, nil
}

// Reserve takes the place of a record that will come: Put follows. false: there is no room, because the records cannot be written as fast as they
// come, or not at all.
func (t *Trail) Reserve() bool {
	select {
	case t.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// Put has a record written that has a place. It does not wait. The record must not change any more.
func (t *Trail) Put(r Record) { t.queue <- r }

// Drop counts a record that has no place.
func (t *Trail) Drop() { t.dropped.Add(1) }

// Metrics returns figures of now.
func (t *Trail) Metrics() Metrics {
	return Metrics{Records: t.written.Load(), Dropped: t.dropped.Load(), Failures: t.failures.Load(), Queued: int64(len(t.places))}
}

// Close writes what is queued, unless that fails, and closes. Nothing may be put any more.
func (t *Trail) Close() error {
	t.closing.Do(func() { close(t.stop) })
	<-t.done
	return t.out.Close()
}

func (t *Trail) run() {
	defer close(t.done)
	var line []byte
	for {
		select {
		case r := <-t.queue:
			line = r.appendLine(line[:0], t.options.Node)
			t.write(line)
			<-t.places
		case <-t.stop:
			for {
				select {
				case r := <-t.queue:
					line = r.appendLine(line[:0], t.options.Node)
					t.write(line)
				default:
					return
				}
			}
		}
	}
}

// write tries until the line is written, or the trail is closed. A line whose write failed after a part of it begins anew, behind an end of line.
func (t *Trail) write(line []byte) {
	for torn := false; ; {
		if torn {
			_, _ = t.out.Write([]byte{'\n'}) // the next write says whether that works
		}
		n, err := t.out.Write(line)
		if err == nil {
			t.written.Add(1)
			if t.failing.Swap(false) {
				t.options.Recovered(t.dropped.Load())
			}
			return
		}
		torn = torn || n > 0
		t.failures.Add(1)
		if !t.failing.Swap(true) {
			t.options.Failed(err)
		}
		select {
		case <-t.stop:
			t.dropped.Add(1)
			return
		case <-time.After(t.options.retry):
		}
	}
}
