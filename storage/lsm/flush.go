package lsm

import (
	"fmt"
	"sync"
	"time"

	"github.com/quoratedb/quorate/storage"
)

// flushRequest is a memtable on its way to disk, or a caller who waits for all before it.
type flushRequest struct {
	flushed <-chan struct{} // nil: nothing of its own to wait for
	bytes   int             // of the memtable
	done    func(error)     // nil: nobody waits
	slot    bool            // it holds a slot of flushQueue.slots
}

// flushQueue completes flushes in order.
type flushQueue struct {
	mu       sync.Mutex
	requests []flushRequest
	closed   bool
	wake     chan struct{} // capacity 1
	// slots bounds the memtables that Apply has queued.
	slots chan struct{}
}

func (q *flushQueue) init(pending int) {
	q.wake, q.slots = make(chan struct{}, 1), make(chan struct{}, pending)
}

// push returns false if the queue is closed.
func (q *flushQueue) push(r flushRequest) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.requests = append(q.requests, r)
	q.signal()
	return true
}

func (q *flushQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flushQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

func (q *flushQueue) take() (requests []flushRequest, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	requests, q.requests = q.requests, nil
	return requests, q.closed
}

// Flush implements storage.Engine.
func (e *Engine) Flush(done func(error)) {
	e.applying.Lock()
	err := e.flushLocked(done)
	e.applying.Unlock()
	if err != nil {
		done(err)
	}
}

func (e *Engine) flushLocked(done func(error)) error {
	if err := e.err(); err != nil {
		return err
	}
	return e.rotate(flushRequest{done: done})
}

// rotate makes the active memtable immutable, so that it is flushed, and queues the request behind it.
func (e *Engine) rotate(r flushRequest) error {
	if e.dirty {
		flushed, err := e.db.AsyncFlush()
		if err != nil {
			return fmt.Errorf("lsm: flush the state in %s: %w", e.options.Dir, err)
		}
		r.flushed, r.bytes = flushed, e.activeBytes
		e.activeBytes, e.dirty = 0, false
	}
	if e.options.Inline {
		e.afterFlush(r)
		return nil
	}
	if !e.flushes.push(r) {
		return e.err()
	}
	return nil
}

// makeRoom begins a new memtable when the active one is full and waits when too many
// are queued. Pebble would do the same, but could not be woken when the disk fails.
func (e *Engine) makeRoom(bytes int) error {
	if !e.dirty || e.activeBytes+bytes <= e.options.MemTableBytes {
		return nil
	}
	if err := e.waitForSlot(); err != nil {
		return err
	}
	if err := e.waitForLevel0(); err != nil {
		return err
	}
	return e.rotate(flushRequest{slot: true})
}

func (e *Engine) waitForSlot() error {
	select {
	case e.flushes.slots <- struct{}{}:
		return nil
	default:
	}
	began := time.Now()
	select {
	case e.flushes.slots <- struct{}{}:
		e.stalled("memtables wait for their flush", began)
		return nil
	case <-e.failure.failed:
	case <-e.failure.closing:
	}
	return e.err()
}

func (e *Engine) waitForLevel0() error {
	began := time.Now()
	for waited := false; ; waited = true {
		if e.db.Metrics().Levels[0].Sublevels < l0StopSublevels {
			if waited {
				e.stalled("level 0 waits for compactions", began)
			}
			return nil
		}
		select {
		case <-e.compacted:
		case <-e.failure.failed:
			return e.err()
		case <-e.failure.closing:
			return e.err()
		}
	}
}

// completeFlushes is the goroutine that calls done. It also tells the listener of a failure.
func (e *Engine) completeFlushes() {
	failed := e.failure.failed
	for {
		select {
		case <-e.flushes.wake:
		case <-failed:
			failed = nil
			e.reportFailure()
		}
		requests, closed := e.flushes.take()
		for _, r := range requests {
			e.complete(r)
		}
		if closed {
			if failed != nil && e.failure.err() != nil {
				e.reportFailure()
			}
			return
		}
	}
}

func (e *Engine) complete(r flushRequest) {
	err := e.waitFlushed(r.flushed)
	e.unflushed.Add(int64(-r.bytes))
	if r.slot {
		<-e.flushes.slots
	}
	if r.done != nil {
		r.done(err)
	}
}

func (e *Engine) waitFlushed(flushed <-chan struct{}) error {
	if flushed != nil {
		select {
		case <-flushed:
		case <-e.failure.failed:
		case <-e.failure.closing:
			return fmt.Errorf("%w: the state engine in %s, before the flush ended", storage.ErrClosed, e.options.Dir)
		}
	}
	return e.failure.err()
}

func (e *Engine) reportFailure() {
	if f := e.options.Listener.Failed; f != nil {
		f(e.failure.err())
	}
}
