package wal

import (
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// slot is where one entry is. The zero slot is a hole.
type slot struct {
	segment  *segment
	offset   uint32
	length   uint32
	checksum uint32 // of the data: reading a part of a record cannot check the record's
	kind     consensus.EntryKind
	term     consensus.Term
	data     []byte // nil if not in memory any more
}

func (s *slot) sizeBytes() int { return int(s.length) + 24 } // as consensus.Entry.SizeBytes

// group is the index of one group's log.
type group struct {
	id        consensus.GroupID
	before    storage.LogPosition // the entry before the first
	base      consensus.Index     // index of slots[0]
	slots     []slot              // Invariant: neither the first nor the last is a hole; base > before.Index
	hardState consensus.HardState
	// compacted: before moved since the last record about this group said so.
	compacted bool
}

func (g *group) last() consensus.Index {
	if len(g.slots) == 0 {
		return g.before.Index
	}
	return g.base + consensus.Index(len(g.slots)) - 1
}

// slot returns nil for a hole and beyond the ends.
func (g *group) slot(index consensus.Index) *slot {
	if index < g.base || index-g.base >= consensus.Index(len(g.slots)) || g.slots[index-g.base].segment == nil {
		return nil
	}
	return &g.slots[index-g.base]
}

// maxSlotGap bounds what a record can make recovery allocate. It is far above what Write
// lets in, because entries that were written again at the head come late.
const maxSlotGap = 1 << 24

// set puts the entry in place. It returns an error if it would be too far from all others.
func (g *group) set(index consensus.Index, s slot, record uint64) error {
	switch {
	case index <= g.before.Index:
		return nil
	case len(g.slots) == 0:
		g.base = index
		g.slots = append(g.slots, slot{})
	case index < g.base:
		if g.base-index > maxSlotGap {
			return fmt.Errorf("entry %d is too far below entry %d", index, g.base)
		}
		g.slots = slices.Insert(g.slots, 0, make([]slot, g.base-index)...)
		g.base = index
	case index > g.last():
		if index-g.last() > maxSlotGap {
			return fmt.Errorf("entry %d is too far beyond entry %d", index, g.last())
		}
		for g.last() < index {
			g.slots = append(g.slots, slot{})
		}
	}
	place := &g.slots[index-g.base]
	place.release(record)
	*place = s
	s.segment.live++
	s.segment.liveBytes += int64(s.length)
	return nil
}

// release gives the place of the entry up, as the record says.
func (s *slot) release(record uint64) {
	if s.segment != nil {
		s.segment.live--
		s.segment.liveBytes -= int64(s.length)
		s.segment.emptySince = record
	}
	*s = slot{}
}

// truncate removes entries at or above the index.
func (g *group) truncate(from consensus.Index, record uint64) {
	for len(g.slots) > 0 && (g.last() >= from || g.slots[len(g.slots)-1].segment == nil) {
		g.slots[len(g.slots)-1].release(record)
		g.slots = g.slots[:len(g.slots)-1]
	}
}

// compact removes entries up to the position and remembers it. At the present position it only
// sets the term, which the first record of a segment must be able to do.
func (g *group) compact(to storage.LogPosition, record uint64) {
	if to.Index < g.before.Index {
		return
	}
	g.before = to
	n := 0
	for n < len(g.slots) && (g.base+consensus.Index(n) <= to.Index || g.slots[n].segment == nil) {
		g.slots[n].release(record)
		n++
	}
	g.base += consensus.Index(n)
	if g.slots = g.slots[n:]; cap(g.slots) > 2*len(g.slots)+64 {
		g.slots = slices.Clone(g.slots) // lets the compacted part of the array go
	}
}

func (g *group) clear(record uint64) { g.truncate(0, record) }

// position is what compact needs for the index.
func (g *group) position(index consensus.Index) storage.LogPosition {
	p := storage.LogPosition{Index: index}
	if s := g.slot(index); s != nil {
		p.Term = s.term
	}
	return p
}

// apply does what the part of the record says. The data of its entries is at the offset of the payload in the segment.
func (g *group) apply(p *part, s *segment, payload int64, record uint64, keepData bool) error {
	if p.compact != nil {
		g.compact(*p.compact, record)
	}
	if p.reset != nil {
		g.clear(record)
		g.before = *p.reset
	}
	if p.truncateFrom != 0 {
		g.truncate(p.truncateFrom, record)
	}
	for i := range p.entries {
		e := &p.entries[i]
		at := slot{
			segment: s, offset: uint32(payload + int64(e.offset)), length: uint32(len(e.Data)),
			checksum: crc32.Checksum(e.Data, castagnoli), kind: e.Kind, term: e.Term,
		}
		if keepData {
			at.data = e.Data
		}
		if err := g.set(e.Index, at, record); err != nil {
			return fmt.Errorf("group %d: %w", g.id, err)
		}
	}
	if p.hardState != nil {
		g.hardState = *p.hardState
	}
	return nil
}

// groupLog is the view of a group. It looks the group up at every call, because a group may appear and disappear.
type groupLog struct {
	log *Log
	id  consensus.GroupID
}

var _ storage.GroupLog = (*groupLog)(nil)

// with runs fn on the group, or on an empty one, under the log's lock.
func (v *groupLog) with(fn func(*group)) {
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	g := v.log.groups[v.id]
	if g == nil {
		g = &group{id: v.id}
	}
	fn(g)
}

func (v *groupLog) HardState() (hs consensus.HardState) {
	v.with(func(g *group) { hs = g.hardState })
	return hs
}

func (v *groupLog) First() (first consensus.Index) {
	v.with(func(g *group) { first = g.before.Index + 1 })
	return first
}

func (v *groupLog) Last() (last consensus.Index) {
	v.with(func(g *group) { last = g.last() })
	return last
}

func (v *groupLog) Term(index consensus.Index) (term consensus.Term, err error) {
	v.with(func(g *group) {
		switch s := g.slot(index); {
		case index == g.before.Index:
			term = g.before.Term
		case index < g.before.Index:
			err = consensus.ErrCompacted
		case s == nil:
			err = consensus.ErrUnavailable
		default:
			term = s.term
		}
	})
	return term, err
}

func (v *groupLog) Entries(lo, hi consensus.Index, maxBytes int) (entries []consensus.Entry, err error) {
	v.with(func(g *group) {
		switch {
		case v.log.failed != nil:
			err = v.log.failed
		case lo <= g.before.Index:
			err = consensus.ErrCompacted
		case lo < hi:
			entries, err = g.entries(lo, min(hi, g.last()+1), maxBytes)
		}
	})
	return entries, err
}

// entries collects from memory or disk. Holes are skipped.
func (g *group) entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	var found []consensus.Entry
	size := 0
	for i := max(lo, g.base); i < hi; i++ {
		s := g.slot(i)
		if s == nil {
			continue
		}
		if size += s.sizeBytes(); len(found) > 0 && size > maxBytes {
			break
		}
		found = append(found, consensus.Entry{Index: i, Term: s.term, Kind: s.kind, Data: s.data})
	}
	if len(found) == 0 {
		return nil, consensus.ErrUnavailable
	}
	return found, g.load(found)
}

// maxReadBytes and maxReadWaste bound one read from disk for several entries.
const (
	maxReadBytes = 1 << 20
	maxReadWaste = 16 << 10
)

// load reads the data that is not in memory, neighbours in one read.
func (g *group) load(entries []consensus.Entry) error {
	for i := 0; i < len(entries); {
		s := g.slot(entries[i].Index)
		if entries[i].Data != nil || s.length == 0 {
			i++
			continue
		}
		n, until := 1, s.offset+s.length
		for ; i+n < len(entries); n++ {
			next := g.slot(entries[i+n].Index)
			if entries[i+n].Data != nil || next.segment != s.segment || next.offset < until ||
				next.offset-until > maxReadWaste || next.offset+next.length-s.offset > maxReadBytes {
				break
			}
			until = next.offset + next.length
		}
		if err := g.read(entries[i:i+n], s.segment, s.offset, until); err != nil {
			return err
		}
		i += n
	}
	return nil
}

func (g *group) read(entries []consensus.Entry, from *segment, start, end uint32) error {
	buffer := make([]byte, end-start)
	if err := readFull(from.file, buffer, int64(start)); err != nil {
		return fmt.Errorf("wal: read entries of group %d from %s: %w", g.id, from.path, err)
	}
	for i := range entries {
		s := g.slot(entries[i].Index)
		data := buffer[s.offset-start : s.offset-start+s.length : s.offset-start+s.length]
		if crc32.Checksum(data, castagnoli) != s.checksum {
			return from.corrupt(int64(s.offset), "entry %d of group %d is not what was written", entries[i].Index, g.id)
		}
		entries[i].Data = data
	}
	return nil
}
