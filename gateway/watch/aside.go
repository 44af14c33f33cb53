package watch

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// aside has the changes of a shard above its closed revision: a transaction that was prepared before them may yet be resolved below. It is empty while there is
// none. Guarded by the hub's feedMu.
//
// Invariants: what is kept lies above ring.last and above missing. There is one kept for each revision.
type aside struct {
	changes queue[*kept]
	// highest is the newest revision of the shard's log that the hub was told of.
	highest kv.Revision
	// missing is up to where changes may not be here although they were applied: they were dropped, or applied when nobody told the hub. What comes there from
	// now on is not kept either: as far as that goes the ring has a gap, and whoever needs it reads history.
	missing kv.Revision
}

// kept is all that a shard has of one revision.
type kept struct {
	record
	one [1]part
	at  int // in the queue
}

func newAside(highest kv.Revision) aside {
	less := func(a, b *kept) bool { return a.last < b.last }
	return aside{changes: newQueue(less, func(k *kept) *int { return &k.at }), highest: highest, missing: highest}
}

// keep takes what an entry changed, whatever its revisions, and hands on what its shard has closed now. The lock of the rings is held.
func (s *Shard) keep(a *shard.Applied) {
	w := &s.aside
	if a.After > w.highest { // entries before this one were not told
		s.forget(a.After)
	}
	w.highest = max(w.highest, a.Revision)
	s.keepEach(a.Resolved)
	s.keepEach(a.Effects)
	if a.Bulk != nil {
		k := &kept{record: *newRecord(&s.feed, a)}
		k.first, k.last = a.Revision, a.Revision
		s.put(k)
	}
	s.release(a.Closed)
	s.ring.trim()
	if s.ring.pool.full() && s.ring.asideBytes > s.ring.pool.share() {
		s.forget(w.highest)
	}
}

// keepEach keeps effects: those of one revision stand together.
func (s *Shard) keepEach(effects []mvcc.Effect) {
	for len(effects) > 0 {
		n, revision := 1, effects[0].At.Rev
		for n < len(effects) && effects[n].At.Rev == revision {
			n++
		}
		k := &kept{record: record{first: revision, last: revision}, one: [1]part{{effects: effects[:n:n], feed: &s.feed}}}
		k.parts = k.one[:]
		k.sizeBytes = k.one[0].sizeBytes()
		s.put(k)
		effects = effects[n:]
	}
}

func (s *Shard) put(k *kept) {
	if k.last > s.ring.last && k.last > s.aside.missing {
		s.aside.changes.add(k)
		s.ring.holdAside(k.sizeBytes)
	}
}

// take takes the first of what is kept.
func (s *Shard) take() *kept {
	k := s.aside.changes.first()
	s.aside.changes.remove(k)
	s.ring.holdAside(-k.sizeBytes)
	return k
}

// release appends to the ring what lies up to the revision, which the log has closed.
func (s *Shard) release(closed kv.Revision) {
	if closed <= s.ring.last {
		return
	}
	w := &s.aside
	if w.missing > s.ring.last {
		s.ring.reset(min(w.missing, closed))
	}
	for w.changes.size() > 0 && w.changes.first().last <= closed {
		k := s.take()
		if w.changes.size() == 0 || w.changes.first().last > closed {
			k.last = closed
		}
		k.first = s.ring.last + 1
		s.ring.push(&k.record)
	}
	if s.ring.last < closed {
		s.ring.close(closed)
	}
}

// forget drops what is kept. Of what was applied up to the revision, or was told before, nothing will be there any more.
func (s *Shard) forget(upTo kv.Revision) {
	s.aside.missing = max(s.aside.missing, s.aside.highest, upTo)
	for s.aside.changes.size() > 0 {
		s.take()
	}
}

// check returns an error if what is kept contradicts the ring.
func (w *aside) check(r *ring) error {
	size := 0
	for _, k := range w.changes.heap.items {
		if k.last <= max(r.last, w.missing) || k.last > w.highest || k.changed() != k.last {
			return fmt.Errorf("revision %d is kept aside; closed is %d, nothing is missing above %d, and the newest revision is %d", k.last, r.last, w.missing, w.highest)
		}
		size += k.sizeBytes
	}
	if size != r.asideBytes || w.missing > w.highest {
		return fmt.Errorf("%d bytes are kept aside, counted %d; missing up to %d, and the newest revision is %d", size, r.asideBytes, w.missing, w.highest)
	}
	return nil
}
