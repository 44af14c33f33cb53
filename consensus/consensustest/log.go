package consensustest

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// Log is a consensus.LogReader in memory with the semantics of a disk: what is written can be read at
// once, and what is not synced is gone after Crash.
type Log struct {
	image
	durable image
	pending []consensus.Append
	// ReadError, if set, is what Term and Entries answer.
	ReadError error
}

// image is the content of a log: entries after base, ascending, possibly with holes.
type image struct {
	base     consensus.Index
	baseTerm consensus.Term
	entries  []consensus.Entry
	hard     consensus.HardState
}

// NewLog returns a log that starts after the given position.
func NewLog(base consensus.Index, term consensus.Term) *Log {
	im := image{base: base, baseTerm: term, hard: consensus.HardState{Term: term, Commit: base}}
	return &Log{image: im, durable: im.clone()}
}

// Write makes the parts readable; Sync makes the first n writes that are not yet durable so.
func (l *Log) Write(a consensus.Append) {
	l.image.write(&a)
	l.pending = append(l.pending, a)
}

// Sync makes the oldest n pending writes durable.
func (l *Log) Sync(n int) {
	for i := range l.pending[:n] {
		l.durable.write(&l.pending[i])
	}
	l.pending = slices.Delete(l.pending, 0, n)
}

// Crash loses what is not durable.
func (l *Log) Crash() { l.image, l.pending = l.durable.clone(), nil }

// Reset empties the log so that it continues after the position, durably.
func (l *Log) Reset(index consensus.Index, term consensus.Term) {
	hard := l.hard
	hard.Commit = max(hard.Commit, index)
	l.image = image{base: index, baseTerm: term, hard: hard}
	l.durable, l.pending = l.image.clone(), nil
}

// Compact forgets entries up to the index, durably.
func (l *Log) Compact(index consensus.Index) {
	l.image.compact(index)
	l.durable.compact(index)
}

// HardState returns the last one written.
func (l *Log) HardState() consensus.HardState { return l.hard }

// Term implements consensus.LogReader.
func (l *Log) Term(i consensus.Index) (consensus.Term, error) {
	if l.ReadError != nil {
		return 0, l.ReadError
	}
	return l.image.Term(i)
}

// Entries implements consensus.LogReader.
func (l *Log) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	if l.ReadError != nil {
		return nil, l.ReadError
	}
	return l.image.Entries(lo, hi, maxBytes)
}

func (im *image) clone() image {
	c := *im
	c.entries = slices.Clone(im.entries)
	return c
}

func (im *image) write(a *consensus.Append) {
	if a.Snapshot != nil {
		im.base, im.baseTerm, im.entries = a.Snapshot.Index, a.Snapshot.Term, nil
	}
	if a.TruncateFrom != 0 {
		im.entries = im.entries[:im.search(a.TruncateFrom)]
	}
	im.entries = slices.Clip(im.entries)
	for _, e := range a.Entries {
		switch at := im.search(e.Index); {
		case e.Index <= im.base: // compacted in the meantime
		case at < len(im.entries) && im.entries[at].Index == e.Index:
			im.entries = slices.Clone(im.entries)
			im.entries[at] = e
		default:
			im.entries = slices.Insert(im.entries, at, e)
		}
	}
	if a.HardState != nil {
		im.hard = *a.HardState
	}
}

// search returns where the first entry at or above the index is.
func (im *image) search(i consensus.Index) int {
	at, _ := slices.BinarySearchFunc(im.entries, i, func(e consensus.Entry, i consensus.Index) int { return cmp.Compare(e.Index, i) })
	return at
}

func (im *image) compact(index consensus.Index) {
	if index <= im.base || index > im.Last() {
		return
	}
	term, _ := im.Term(index)
	im.entries = slices.Clone(im.entries[im.search(index+1):])
	im.base, im.baseTerm = index, term
}

// First implements consensus.LogReader.
func (im *image) First() consensus.Index { return im.base + 1 }

// Last implements consensus.LogReader.
func (im *image) Last() consensus.Index {
	if n := len(im.entries); n > 0 {
		return im.entries[n-1].Index
	}
	return im.base
}

// Term implements consensus.LogReader.
func (im *image) Term(i consensus.Index) (consensus.Term, error) {
	switch {
	case i < im.base:
		return 0, consensus.ErrCompacted
	case i == im.base:
		return im.baseTerm, nil
	}
	e, ok := im.entry(i)
	if !ok {
		return 0, consensus.ErrUnavailable
	}
	return e.Term, nil
}

// Entries implements consensus.LogReader. Holes are left out.
func (im *image) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	switch {
	case lo <= im.base:
		return nil, consensus.ErrCompacted
	case hi > im.Last()+1 || lo >= hi:
		return nil, consensus.ErrUnavailable
	}
	entries := im.entries[im.search(lo):im.search(hi)]
	if len(entries) == 0 {
		return nil, consensus.ErrUnavailable
	}
	size := 0
	for i := range entries {
		if size += entries[i].SizeBytes(); size > maxBytes && i > 0 {
			return slices.Clone(entries[:i]), nil
		}
	}
	return slices.Clone(entries), nil
}

// entry returns the entry at the index, if the image holds it.
func (im *image) entry(i consensus.Index) (consensus.Entry, bool) {
	at := im.search(i)
	if at == len(im.entries) || im.entries[at].Index != i {
		return consensus.Entry{}, false
	}
	return im.entries[at], true
}

// Clone returns a log that goes its own way from here.
func (l *Log) Clone() *Log {
	return &Log{image: l.image.clone(), durable: l.durable.clone(), pending: slices.Clone(l.pending), ReadError: l.ReadError}
}

// Durable returns a log that holds what a crash would leave.
func (l *Log) Durable() *Log {
	return &Log{image: l.durable.clone(), durable: l.durable.clone()}
}
