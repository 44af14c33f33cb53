package watch

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// merger is the feed of several shards: what all of them have closed, in one order. What is above waits in the rings of the shards, and nowhere
// else. Guarded by the hub's lock.
type merger struct {
	feed
	key     string // of its set of shards
	stall   stall
	dropped bool

	// Scratch of release.
	cursors []*cursor
	merged  []*record
}

// stall is which shard holds back what others have.
type stall struct {
	shard *Shard // nil: nothing waits
	since time.Duration
}

func newMerger(h *Hub, key string, shards []*Shard) *merger {
	m := &merger{key: key}
	m.feed = newFeed(h, shards)
	m.merger = m
	h.feedMu.Lock()
	m.dispatched, _ = m.closed()
	m.ring = newRing(&h.pool, m.dispatched)
	h.feedMu.Unlock()
	for _, s := range shards {
		s.mergers = append(s.mergers, m)
		s.listen()
	}
	m.look()
	return m
}

// drop ends a merger that nobody needs.
func (m *merger) drop() {
	m.dropped = true
	for _, s := range m.shards {
		s.leave(m)
	}
	m.hub.feedMu.Lock()
	defer m.hub.feedMu.Unlock()
	m.ring.drop()
}

// closed is the revision that all shards are closed at, and which of them holds it back. The lock of the rings is held.
func (m *merger) closed() (revision kv.Revision, by *Shard) {
	by = m.shards[0]
	for _, s := range m.shards[1:] {
		if s.ring.last < by.ring.last {
			by = s
		}
	}
	return by.ring.last, by
}

// heard is the newest change of any shard. The lock of the rings is held.
func (m *merger) heard() (revision kv.Revision) {
	for _, s := range m.shards {
		revision = max(revision, s.ring.changed)
	}
	return revision
}

// release moves what all shards have closed into the ring, a bounded piece, and tells whether there is more.
func (m *merger) release() (more bool) {
	h, after := m.hub, m.ring.last
	h.feedMu.Lock()
	closed, by := m.closed()
	m.note(closed, by)
	upTo, ok := after, true
	if closed > after {
		upTo, ok = m.collect(after, closed)
	}
	h.feedMu.Unlock()
	if upTo > after {
		merge(m.cursors, after, upTo, func(rec *record) { m.merged = append(m.merged, rec) })
	}
	for _, c := range m.cursors {
		c.close()
	}
	h.feedMu.Lock()
	for _, rec := range m.merged {
		m.ring.push(rec)
	}
	if !ok { // some shard does not hold it any more
		m.ring.reset(closed)
	}
	h.feedMu.Unlock()
	clear(m.merged)
	m.merged = m.merged[:0]
	return ok && upTo < closed
}

// collect opens the changes of the shards in (after, closed], if they are not too many, and returns up to where all are there. ok is false
// when some shard does not hold its changes any more. The lock of the rings is held.
func (m *merger) collect(after, closed kv.Revision) (upTo kv.Revision, ok bool) {
	n := 0
	upTo = closed
	for _, s := range m.shards {
		if s.ring.changed <= after {
			continue
		}
		if n == len(m.cursors) {
			m.cursors = append(m.cursors, &cursor{})
		}
		records, ok := s.ring.from(after+1, dispatchRecords, m.cursors[n].room())
		if !ok {
			return after, false
		}
		if len(records) == dispatchRecords {
			upTo = min(upTo, records[dispatchRecords-1].last)
		}
		m.cursors[n].open(records)
		n++
	}
	return upTo, true
}

// note keeps an eye on what waits, and has the question asked that closes the others. The lock of the rings is held.
func (m *merger) note(closed kv.Revision, by *Shard) {
	if m.heard() <= closed {
		m.stall = stall{}
		return
	}
	if closed > m.ring.last || m.stall.shard != by {
		m.stall = stall{shard: by, since: m.hub.options.Clock()}
	}
	m.hub.inquiry.seek(&m.feed)
}

// waiting counts the records above what all shards have closed. The lock of the rings is held.
func (m *merger) waiting() (records int) {
	closed, _ := m.closed()
	for _, s := range m.shards {
		if s.ring.changed <= closed {
			continue
		}
		held := s.ring.records
		at, _ := slices.BinarySearchFunc(held, closed+1, func(r *record, revision kv.Revision) int {
			if r.last < revision {
				return -1
			}
			return 1
		})
		records += len(held) - at
	}
	return records
}

// check returns an error if the merger contradicts itself. The locks of the hub and of the rings are held.
func (m *merger) check() error {
	if closed, _ := m.closed(); m.ring.last > closed {
		return fmt.Errorf("released up to %d, and some shard is closed at %d", m.ring.last, closed)
	}
	for _, s := range m.shards {
		if !slices.Contains(s.mergers, m) || !s.listening.Load() {
			return fmt.Errorf("shard %d does not know of the merger, or does not listen", s.id)
		}
	}
	if len(m.seats) == 0 {
		return fmt.Errorf("nobody needs the merger of %d shards", len(m.shards))
	}
	return m.feed.check()
}
