package watch

import (
	"sort"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// record is what one log entry changed.
type record struct {
	first, last kv.Revision
	effects     []mvcc.Effect
	sizeBytes   int

	events []Event // made when first matched; guarded by the hub's lock
}

// event returns the shared event of the i-th change.
func (r *record) event(h *Hub, i int) *Event {
	if r.events == nil {
		r.events = make([]Event, len(r.effects))
		for j := range r.events {
			r.events[j].effect, r.events[j].hub, r.events[j].shared = &r.effects[j], h, true
		}
	}
	return &r.events[i]
}

// ring holds the newest records, without a hole in their revisions, in at most limitBytes (but always one).
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
