package watch

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// cursor is a place in the changes of one shard.
type cursor struct {
	all     []*record // what it was opened with, and room for the next time
	records []*record // what is left of them
	at      position  // in the first of those
}

// open has the cursor begin with the records, which are in its room.
func (c *cursor) open(records []*record) { c.all, c.records, c.at = records, records, position{} }

func (c *cursor) room() []*record { return c.all[:0] }

func (c *cursor) close() {
	clear(c.all)
	c.open(c.all[:0])
}

// head is where the next change is; ok is false when there is none.
func (c *cursor) head() (at mvcc.Locator, ok bool) {
	for len(c.records) > 0 {
		if parts := c.records[0].parts; c.at.part < len(parts) {
			return parts[c.at.part].effects[c.at.at].At, true
		}
		c.records, c.at = c.records[1:], position{}
	}
	return mvcc.Locator{}, false
}

// run takes the next changes of a part that come before the locator, at least one.
func (c *cursor) run(before mvcc.Locator) part {
	rec := c.records[0]
	p, from := &rec.parts[c.at.part], c.at.at
	to := from + 1
	for to < len(p.effects) && p.effects[to].At.Less(before) {
		to++
	}
	if c.at.at = to; to == len(p.effects) {
		c.at = position{part: c.at.part + 1}
	}
	return part{effects: p.effects[from:to:to], feed: p.feed, of: p, from: from}
}

// skip passes over the changes up to a revision.
func (c *cursor) skip(revision kv.Revision) {
	for at, ok := c.head(); ok && at.Rev <= revision; at, ok = c.head() {
		c.run(mvcc.Locator{Rev: revision + 1})
	}
}

// merge gives push the changes of all cursors in (after, upTo] as records that cover it, in the order of revision and place in the transaction. A
// record is what stands together in one shard, so that it takes no more than that one's; a revision of several shards is in one.
func merge(cursors []*cursor, after, upTo kv.Revision, push func(*record)) {
	end := mvcc.Locator{Rev: upTo + 1}
	b := builder{push: push, last: after}
	for _, c := range cursors {
		c.skip(after)
	}
	for {
		var first *cursor
		least, next := end, end // and what comes after the run
		for _, c := range cursors {
			switch at, ok := c.head(); {
			case !ok || !at.Less(next):
			case at.Less(least):
				first, least, next = c, at, least
			default:
				next = at
			}
		}
		if first == nil {
			b.flush(upTo)
			return
		}
		b.add(first.run(next))
	}
}

// builder makes records of parts that follow one another.
type builder struct {
	push  func(*record)
	parts []part
	last  kv.Revision // everything up to here was pushed
}

func (b *builder) add(p part) {
	if n := len(b.parts); n > 0 {
		before := b.parts[n-1].effects
		if last := before[len(before)-1].At.Rev; p.effects[0].At.Rev != last {
			b.flush(last)
		}
	}
	b.parts = append(b.parts, p)
}

// flush makes a record of what there is, up to the revision.
func (b *builder) flush(upTo kv.Revision) {
	if upTo <= b.last {
		return
	}
	r := &struct {
		record
		one [1]part
	}{record: record{first: b.last + 1, last: upTo}}
	switch {
	case len(b.parts) == 1:
		r.one[0] = b.parts[0]
		r.parts = r.one[:]
	case len(b.parts) > 1:
		r.parts = append([]part(nil), b.parts...)
	}
	for i := range r.parts {
		r.sizeBytes += r.parts[i].sizeBytes()
	}
	clear(b.parts)
	b.parts, b.last = b.parts[:0], upTo
	b.push(&r.record)
}

// sizeBytes is what the part's changes take.
func (p *part) sizeBytes() (bytes int) {
	for i := range p.effects {
		bytes += effectBytes(&p.effects[i])
	}
	return bytes
}
