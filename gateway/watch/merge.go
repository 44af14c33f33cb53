package watch

import (
	"bytes"

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

// turn is where a change stands in the order of all shards' changes: by revision, and of those at the revision of a transaction by place, key, and what its
// shard did there one after the other. So a deletion of many keys comes out in their order, wherever they are. A revision that one shard has alone keeps
// that one's order.
type turn struct {
	at  mvcc.Locator
	key []byte
}

// turnOf is the turn of a change.
func turnOf(e *mvcc.Effect) turn { return turn{e.At, e.Key} }

// before tells whether a change comes before one of another shard.
func (t turn) before(other turn) bool {
	if t.at.Rev != other.at.Rev {
		return t.at.Rev < other.at.Rev
	}
	if here, there := t.at.Place(), other.at.Place(); here != there {
		return here < there
	}
	if order := bytes.Compare(t.key, other.key); order != 0 {
		return order < 0
	}
	return t.at.Sub < other.at.Sub
}

// endOf is the turn after all changes up to a revision.
func endOf(revision kv.Revision) turn { return turn{at: mvcc.Locator{Rev: revision + 1}} }

// head is whose turn is next; ok is false when there is none.
func (c *cursor) head() (next turn, ok bool) {
	for len(c.records) > 0 {
		if parts := c.records[0].parts; c.at.part < len(parts) {
			return turnOf(&parts[c.at.part].effects[c.at.at]), true
		}
		c.records, c.at = c.records[1:], position{}
	}
	return turn{}, false
}

// run takes the next changes of a part that come before the one of another shard, at least one.
func (c *cursor) run(before turn) part {
	rec := c.records[0]
	p, from := &rec.parts[c.at.part], c.at.at
	to := from + 1
	for to < len(p.effects) && turnOf(&p.effects[to]).before(before) {
		to++
	}
	if c.at.at = to; to == len(p.effects) {
		c.at = position{part: c.at.part + 1}
	}
	return part{effects: p.effects[from:to:to], feed: p.feed, of: p, from: from}
}

// skip passes over the changes up to a revision.
func (c *cursor) skip(revision kv.Revision) {
	for next, ok := c.head(); ok && next.at.Rev <= revision; next, ok = c.head() {
		c.run(endOf(revision))
	}
}

// merge gives push the changes of all cursors in (after, upTo] as records that cover it, in the order of their turns. A
// record is what stands together in one shard, so that it takes no more than that one's; a revision of several shards is in one.
func merge(cursors []*cursor, after, upTo kv.Revision, push func(*record)) {
	end := endOf(upTo)
	b := builder{push: push, last: after}
	for _, c := range cursors {
		c.skip(after)
	}
	for {
		var first *cursor
		least, next := end, end // and what comes after the run
		for _, c := range cursors {
			switch head, ok := c.head(); {
			case !ok || !head.before(next):
			case head.before(least):
				first, least, next = c, head, least
			default:
				next = head
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
