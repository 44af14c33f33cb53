package watch

import (
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
	events  []Event // made when first matched; guarded by the hub's lock
}

// newRecord returns what is held of an entry that changed something, or closed revisions that have no change in this shard.
func newRecord(a *shard.Applied) *record {
	if a.Bulk == nil {
		rec := &struct {
			record
			one [1]part
		}{one: [1]part{{effects: a.Effects}}}
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
		rec.parts[i].effects = effects
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

// event returns the shared event of the i-th change.
func (p *part) event(h *Hub, i int) *Event {
	if p.events == nil {
		p.events = make([]Event, len(p.effects))
		for j := range p.events {
			p.events[j].effect, p.events[j].hub, p.events[j].shared = &p.effects[j], h, true
		}
	}
	return &p.events[i]
}

// ring holds the newest records, without a hole between what they cover, in at most limitBytes (but always one).
//
// Invariant: records[i+1].first == records[i].last+1, and last is the last one's.
type ring struct {
	records    []*record
	sizeBytes  int
	limitBytes int
	last       kv.Revision // the newest revision heard of
}

// push appends a record. When revisions are missing between, what was held is of no use
// any more: reset tells so. A record that is not new is ignored.
func (r *ring) push(rec *record) {
	if rec.last <= r.last {
		return
	}
	if rec.first != r.last+1 {
		r.reset(rec.first - 1)
	}
	r.records = append(r.records, rec)
	r.sizeBytes += rec.sizeBytes
	r.last = rec.last
	drop := 0
	for r.sizeBytes > r.limitBytes && drop < len(r.records)-1 {
		r.sizeBytes -= r.records[drop].sizeBytes
		r.records[drop] = nil
		drop++
	}
	r.records = r.records[drop:]
}

// reset forgets everything: the state continues after the revision.
func (r *ring) reset(last kv.Revision) {
	r.records, r.sizeBytes, r.last = nil, 0, last
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
