package watch

import (
	"fmt"
	"sort"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// record is what one log entry changed: all that there is of the shard from first to last.
type record struct {
	first, last kv.Revision
	parts       []part // a revision may be in several
	sizeBytes   int
}

// part are some of the changes of a log entry; most have one.
type part struct {
	effects []mvcc.Effect
	feed    *feed   // of the shard
	events  []Event // made when first matched; guarded by the hub's lock
	// In a merged record the effects are those of another part, from one on, and so are the events.
	of   *part
	from int
}

// newRecord returns what is held of an entry that changed something, or closed revisions that have no change in this shard.
func newRecord(f *feed, a *shard.Applied) *record {
	if a.Bulk == nil {
		rec := &struct {
			record
			one [1]part
		}{one: [1]part{{effects: a.Effects, feed: f}}}
		rec.record = record{first: a.After + 1, last: a.Revision, parts: rec.one[:]}
		if len(a.Effects) == 0 {
			rec.parts = nil
		}
		for i := range a.Effects {
			rec.sizeBytes += effectBytes(&a.Effects[i])
		}
		return &rec.record
	}
	rec := &record{first: a.After + 1, last: a.Revision, parts: make([]part, len(a.Bulk)), sizeBytes: a.BulkBytes}
	for i, effects := range a.Bulk {
		rec.parts[i].effects, rec.parts[i].feed = effects, f
		rec.sizeBytes += len(effects) * eventOverheadBytes
	}
	return rec
}

// position is where a change is in a record.
type position struct{ part, at int }

// revisionAt is that of the change at a spot, if there is one.
func (r *record) revisionAt(s position) (kv.Revision, bool) {
	if s.part == len(r.parts) {
		return 0, false
	}
	return r.parts[s.part].effects[s.at].At.Rev, true
}

// eachOfRevision gives fn the changes of one revision, beginning with the one at the spot, and returns where the next revision begins.
func (r *record) eachOfRevision(s position, fn func(p *part, at int)) (next position) {
	for revision, ok := r.revisionAt(s); ok; {
		p := &r.parts[s.part]
		fn(p, s.at)
		if s.at++; s.at == len(p.effects) {
			s = position{part: s.part + 1}
		}
		if next, more := r.revisionAt(s); !more || next != revision {
			break
		}
	}
	return s
}

// changed is the revision of the newest change; 0: there is none.
func (r *record) changed() kv.Revision {
	if len(r.parts) == 0 {
		return 0
	}
	effects := r.parts[len(r.parts)-1].effects
	return effects[len(effects)-1].At.Rev
}

// event returns the shared event of the i-th change.
func (p *part) event(i int) *Event {
	if p.of != nil {
		return p.of.event(p.from + i)
	}
	if p.events == nil {
		p.events = make([]Event, len(p.effects))
		for j := range p.events {
			p.events[j].effect, p.events[j].feed, p.events[j].shared = &p.effects[j], p.feed, true
		}
	}
	return &p.events[i]
}

// pool is what the rings of a hub hold together. A ring may hold what others do not; when all together hold limitBytes, whoever
// gets more goes back to an equal share. So together they hold less than twice as much. Guarded by the hub's feedMu.
type pool struct {
	limitBytes int
	usedBytes  int
	rings      int
}

// share is what a ring may hold whatever the others do.
func (p *pool) share() int { return p.limitBytes / p.rings }

// full tells whether all together hold too much.
func (p *pool) full() bool { return p.usedBytes > p.limitBytes }

// ring holds the newest records, without a hole between what they cover, within the bounds of its pool (but always one). What it covers is closed:
// nothing else will come there.
//
// Invariant: records[i+1].first == records[i].last+1, and last is the last one's.
type ring struct {
	records    []*record
	sizeBytes  int
	asideBytes int // what its shard keeps aside: that counts as the ring's own
	pool       *pool
	last       kv.Revision // everything up to here was heard of
	changed    kv.Revision // there is no change from here to last
}

func newRing(p *pool, last kv.Revision) ring {
	p.rings++
	return ring{pool: p, last: last, changed: last}
}

// push appends a record. When revisions are missing between, what was held is of no use
// any more: reset tells so. A record that is not new is ignored; one that is new in part has no changes in the other.
func (r *ring) push(rec *record) {
	if rec.last <= r.last {
		return
	}
	if rec.first > r.last+1 {
		r.reset(rec.first - 1)
	}
	rec.first = r.last + 1
	r.last = rec.last
	if changed := rec.changed(); changed > 0 {
		r.changed = changed
	} else if n := len(r.records); n > 0 && len(r.records[n-1].parts) == 0 {
		// Records may be in use elsewhere: another one takes its place.
		rec.first = r.records[n-1].first
		r.records[n-1] = rec
		return
	}
	r.records = append(r.records, rec)
	r.grow(rec.sizeBytes)
	r.trim()
}

// trim drops the oldest records if the ring holds too much.
func (r *ring) trim() {
	drop := 0
	for r.pool.full() && r.sizeBytes+r.asideBytes > r.pool.share() && drop < len(r.records)-1 {
		r.grow(-r.records[drop].sizeBytes)
		r.records[drop] = nil
		drop++
	}
	r.records = r.records[drop:]
}

// holdAside counts bytes that are kept aside, or no more.
func (r *ring) holdAside(bytes int) {
	r.asideBytes += bytes
	r.pool.usedBytes += bytes
}

// close notes that nothing will come any more up to the revision.
func (r *ring) close(revision kv.Revision) { r.push(&record{first: r.last + 1, last: revision}) }

func (r *ring) grow(bytes int) {
	r.sizeBytes += bytes
	r.pool.usedBytes += bytes
}

// reset forgets everything: the state continues after the revision.
func (r *ring) reset(last kv.Revision) {
	r.grow(-r.sizeBytes)
	r.records, r.last, r.changed = nil, last, last
}

// drop gives the ring's share back.
func (r *ring) drop() {
	r.reset(r.last)
	r.pool.rings--
}

// first is the oldest revision that from can serve.
func (r *ring) first() kv.Revision {
	if len(r.records) == 0 {
		return r.last + 1
	}
	return r.records[0].first
}

// from appends up to max records that contain revisions >= rev, beginning with the one that contains rev;
// ok is false when that one is not held any more.
func (r *ring) from(rev kv.Revision, max int, out []*record) (_ []*record, ok bool) {
	if rev < r.first() {
		return out, false
	}
	at := sort.Search(len(r.records), func(i int) bool { return r.records[i].last >= rev })
	end := min(len(r.records), at+max)
	return append(out, r.records[at:end]...), true
}

// check returns an error if the ring contradicts itself.
func (r *ring) check() error {
	next, size, changed := r.first(), 0, kv.Revision(0)
	for _, rec := range r.records {
		if rec.first != next || rec.last < rec.first || rec.changed() > rec.last {
			return fmt.Errorf("a record covers %d to %d, with a change at %d, and the one before ends at %d", rec.first, rec.last, rec.changed(), next-1)
		}
		next, size, changed = rec.last+1, size+rec.sizeBytes, max(changed, rec.changed())
	}
	if next != r.last+1 || size != r.sizeBytes || changed > r.changed || r.changed > r.last {
		return fmt.Errorf("the records end at %d with %d bytes and a last change at %d, noted are %d, %d and %d", next-1, size, changed, r.last, r.sizeBytes, r.changed)
	}
	return nil
}
