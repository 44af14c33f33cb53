package watch

import (
	"fmt"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// patience is how long a stream waits for memory that one revision needs. It is as long as a connection may
// take nothing of what is sent: who keeps the memory has then been cut off, and there will never be more.
const patience = time.Minute

// shortage is why a stream cannot go on: there is no memory.
type shortage struct {
	// revision is what the memory is needed for; 0: for the smallest step, whatever it brings. That is waited for without end.
	revision kv.Revision
	bytes    int64
}

// starved are the streams that wait for memory. Its lock is taken last.
type starved struct {
	mu      sync.Mutex
	now     time.Duration // of the last tick
	streams []*Stream
}

// add has the stream woken at the next tick, and returns the time of the last one.
func (q *starved) add(s *Stream) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !s.starving {
		s.starving = true
		q.streams = append(q.streams, s)
	}
	return q.now
}

// wake has all of them look again.
func (q *starved) wake(now time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = now
	for i, s := range q.streams {
		s.starving = false
		s.signal()
		q.streams[i] = nil
	}
	q.streams = q.streams[:0]
}

// hunger is how long a stream has been waiting for the memory of one revision. It belongs to the goroutine that calls Next.
type hunger struct {
	revision kv.Revision // 0: it does not wait
	since    time.Duration
}

// await has the stream woken when there may be memory again, or says that it has waited long enough.
func (s *Stream) await(short *shortage) error {
	now := s.hub.starved.add(s)
	if short.revision == 0 || short.revision != s.hunger.revision {
		s.hunger = hunger{revision: short.revision, since: now}
		return nil
	}
	if now-s.hunger.since < patience {
		return nil
	}
	return fmt.Errorf("watch: the changes of revision %d take at least %d bytes with what is sent along, and for %v there was no memory for them on this connection; "+
		"watch fewer keys or without previous values, or raise the limits of client memory: %w", short.revision, short.bytes, patience, kv.ErrTooManyRequests)
}
