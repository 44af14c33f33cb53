package watch

import (
	"fmt"
	"slices"

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
	applied kv.Revision // by its own log, as far as the hub was told
	told    statement
	held    bool   // a question did not bring it further, and it has not moved since: it is not asked about before the next tick
	asked   uint64 // the inquiry's last attempt at a question that was to be about it

	staleRevision kv.Revision // of the last Tick: the applied revision, when the feed was behind it
}

// statement is what somebody said of a shard that was clean: as soon as it is closed at last, it is closed at revision.
type statement struct{ last, revision kv.Revision }

func newShard(h *Hub, id kv.ShardID, source Source) *Shard {
	s := &Shard{id: id, source: source}
	s.feed = newFeed(h, []*Shard{s})
	s.applied = source.Revision()
	s.ring = newRing(&h.pool, s.applied)
	s.dispatched = s.applied
	h.heard = max(h.heard, s.applied)
	return s
}

// Applied takes what an entry changed. It is called in apply order, from one goroutine at a time, and is quick.
func (s *Shard) Applied(applied *shard.Applied) {
	if applied.Jump {
		s.Restored(applied.Revision)
		return
	}
	if applied.Revision == applied.After {
		return
	}
	h, rec := s.hub, newRecord(&s.feed, applied)
	h.feedMu.Lock()
	s.ring.push(rec)
	s.moved(applied.Revision)
	h.feedMu.Unlock()
	if s.listening.Load() {
		h.signal()
	}
}

// Restored says that the state was replaced by a snapshot at the revision: watches catch up from history.
// Without the call Tick finds out.
func (s *Shard) Restored(revision kv.Revision) {
	h := s.hub
	h.feedMu.Lock()
	if revision > s.ring.last {
		s.ring.reset(revision)
	}
	s.moved(revision)
	h.feedMu.Unlock()
	h.signal()
}

// moved notes that the log has come to a revision. The lock of the rings is held.
func (s *Shard) moved(applied kv.Revision) {
	s.applied = max(s.applied, applied)
	s.held = false
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

// findReplacedState compares the applied revision with the feed: when the feed has not reached what was
// applied one tick ago, it never will.
func (s *Shard) findReplacedState() {
	applied := s.source.Revision()
	s.hub.feedMu.Lock()
	last := s.ring.last
	stale := s.staleRevision
	s.staleRevision = 0
	if last < applied {
		s.staleRevision = applied
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
	if s.applied > s.ring.last || s.told.last <= s.ring.last && s.told.revision > s.ring.last {
		return fmt.Errorf("applied is %d, and closed at %d; closed at %d it is closed at %d", s.applied, s.ring.last, s.told.last, s.told.revision)
	}
	return s.feed.check()
}
