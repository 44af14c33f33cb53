package watch

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Shard is what a hub has of one shard: its feed, and how far it is closed. Safe for concurrent use.
type Shard struct {
	feed
	id      kv.ShardID
	source  Source
	mergers []*merger // that need it, in the order of their making; guarded by the hub's lock

	// Guarded by the hub's feedMu. Up to ring.last the shard is closed.
	byLog kv.Revision // up to here by its own log, as far as the hub was told
	aside aside
	told  statement
	held  bool   // a question did not bring it further, and it has not moved since: it is not asked about before the next tick
	asked uint64 // the inquiry's last attempt at a question that was to be about it

	staleRevision kv.Revision // of the last Tick: the closed revision, when the feed was behind it

	// settled is the newest revision of the log, if that has closed it; otherwise -1. It is written under feedMu.
	settled atomic.Int64
}

// statement is what somebody said of a shard that was clean: as soon as it is closed at last, it is closed at revision.
type statement struct{ last, revision kv.Revision }

func newShard(h *Hub, id kv.ShardID, source Source) *Shard {
	s := &Shard{id: id, source: source}
	s.feed = newFeed(h, []*Shard{s})
	s.byLog = source.Revision()
	s.ring = newRing(&h.pool, s.byLog)
	s.aside = newAside(s.byLog)
	s.settled.Store(int64(s.byLog))
	s.dispatched = s.byLog
	h.heard = max(h.heard, s.byLog)
	return s
}

// Applied takes what an entry changed. It is called in apply order, from one goroutine at a time, and is quick.
func (s *Shard) Applied(applied *shard.Applied) {
	inOrder := applied.Closed == applied.Revision && len(applied.Resolved) == 0
	switch {
	case applied.Jump:
		s.restored(applied.Closed, applied.Revision)
		return
	case inOrder && applied.Revision == applied.After && s.settled.Load() == int64(applied.Revision):
		return
	}
	h := s.hub
	var rec *record
	if inOrder && applied.Revision > applied.After {
		rec = newRecord(&s.feed, applied)
	}
	h.feedMu.Lock()
	before := s.ring.last
	if rec != nil && s.aside.changes.size() == 0 {
		s.ring.push(rec) // what is missing lies below it, and makes a gap
		s.aside.highest = max(s.aside.highest, applied.Revision)
	} else {
		s.keep(applied)
	}
	s.moved(applied.Closed)
	closed := s.ring.last > before
	h.feedMu.Unlock()
	if closed && s.listening.Load() {
		h.signal()
	}
}

// Restored says that the state was replaced by a snapshot that is closed at the revision: watches catch up from history.
// Without the call Tick finds out.
func (s *Shard) Restored(closed kv.Revision) { s.restored(closed, closed) }

// restored says the same of a snapshot that has changes up to highest.
func (s *Shard) restored(closed, highest kv.Revision) {
	h := s.hub
	h.feedMu.Lock()
	s.forget(highest)
	s.aside.highest = max(s.aside.highest, highest)
	s.release(closed)
	s.moved(closed)
	h.feedMu.Unlock()
	h.signal()
}

// moved notes that the log has closed a revision. The lock of the rings is held.
func (s *Shard) moved(closed kv.Revision) {
	if closed > s.byLog {
		s.byLog = closed
		s.held = false
	}
	s.settled.Store(-1)
	if s.byLog == s.aside.highest {
		s.settled.Store(int64(s.byLog))
	}
	s.closeAsTold()
	s.hub.freshen(&s.feed)
}

// hear takes a statement about a clean shard. The lock of the rings is held.
func (s *Shard) hear(told statement) {
	// A shard that is called clean loses a last revision that never took effect: then less is to be waited for, at the same present.
	if told.revision > s.told.revision || told.revision == s.told.revision && told.last < s.told.last {
		s.told = told
	}
	s.closeAsTold()
}

func (s *Shard) closeAsTold() {
	if s.told.revision > s.ring.last && s.told.last <= s.ring.last {
		s.ring.close(s.told.revision)
		s.hub.freshen(&s.feed)
	}
	s.hub.heard = max(s.hub.heard, s.ring.last)
}

// findReplacedState compares the closed revision with the feed: when the feed has not reached what was
// closed one tick ago, it never will.
func (s *Shard) findReplacedState() {
	closed := s.source.Revision()
	s.hub.feedMu.Lock()
	last := s.ring.last
	stale := s.staleRevision
	s.staleRevision = 0
	if last < closed {
		s.staleRevision = closed
	}
	s.hub.feedMu.Unlock()
	if stale > last {
		s.Restored(stale)
	}
}

func (s *Shard) leave(m *merger) {
	s.mergers = slices.DeleteFunc(s.mergers, func(other *merger) bool { return other == m })
	s.listen()
}

// check returns an error if the shard contradicts itself. The locks of the hub and of the rings are held.
func (s *Shard) check() error {
	if s.byLog > s.ring.last || s.byLog > s.aside.highest || s.told.last <= s.ring.last && s.told.revision > s.ring.last {
		return fmt.Errorf("the log has closed %d and has come to %d, and closed is %d; closed at %d it is closed at %d",
			s.byLog, s.aside.highest, s.ring.last, s.told.last, s.told.revision)
	}
	if err := s.aside.check(&s.ring); err != nil {
		return err
	}
	return s.feed.check()
}
