package storage

import (
	"slices"
	"sort"

	"github.com/quoratedb/quorate/consensus"
)

// memoryGroup is the log of one group.
type memoryGroup struct {
	before    LogPosition       // the entry before the first
	entries   []consensus.Entry // ascending, all above before.Index, holes allowed
	places    []int64           // where in the log each entry is: the bytes of entries that were written before
	hardState consensus.HardState
}

// append does what the part says, which is written at the place, and returns the place after it.
func (g *memoryGroup) append(a *GroupAppend, place int64) int64 {
	if a.Reset != nil {
		g.before, g.entries, g.places = *a.Reset, nil, nil
	}
	if a.TruncateFrom != 0 {
		i := g.search(a.TruncateFrom)
		g.entries, g.places = g.entries[:i], g.places[:i]
	}
	for _, e := range a.Entries {
		if e.Index > g.before.Index {
			g.set(e, place)
		}
		place += int64(e.SizeBytes())
	}
	if a.HardState != nil {
		g.hardState = *a.HardState
	}
	return place
}

// search returns the position of the first entry at or above the index.
func (g *memoryGroup) search(index consensus.Index) int {
	return sort.Search(len(g.entries), func(i int) bool { return g.entries[i].Index >= index })
}

func (g *memoryGroup) set(e consensus.Entry, place int64) {
	i := g.search(e.Index)
	if i < len(g.entries) && g.entries[i].Index == e.Index {
		g.entries[i], g.places[i] = e, place
		return
	}
	g.entries, g.places = slices.Insert(g.entries, i, e), slices.Insert(g.places, i, place)
}

func (g *memoryGroup) last() consensus.Index {
	if n := len(g.entries); n > 0 {
		return g.entries[n-1].Index
	}
	return g.before.Index
}

func (g *memoryGroup) compact(index consensus.Index) {
	index = min(index, g.last())
	if index <= g.before.Index {
		return
	}
	i := g.search(index)
	g.before = LogPosition{Index: index}
	if i < len(g.entries) && g.entries[i].Index == index {
		g.before.Term = g.entries[i].Term
		i++
	}
	g.entries, g.places = slices.Clone(g.entries[i:]), slices.Clone(g.places[i:])
}

func (g *memoryGroup) clone() *memoryGroup {
	cloned := *g
	cloned.entries, cloned.places = slices.Clone(g.entries), slices.Clone(g.places)
	return &cloned
}

// memoryGroupLog looks its group up at every call, because a group may appear and disappear.
type memoryGroupLog struct {
	log *MemoryLog
	id  consensus.GroupID
}

var emptyGroup = &memoryGroup{}

func (v *memoryGroupLog) group() *memoryGroup {
	if g := v.log.groups[v.id]; g != nil {
		return g
	}
	return emptyGroup
}

func (v *memoryGroupLog) HardState() consensus.HardState { return v.group().hardState }
func (v *memoryGroupLog) First() consensus.Index         { return v.group().before.Index + 1 }
func (v *memoryGroupLog) Last() consensus.Index          { return v.group().last() }

func (v *memoryGroupLog) Term(index consensus.Index) (consensus.Term, error) {
	g := v.group()
	switch {
	case index == g.before.Index:
		return g.before.Term, nil
	case index < g.before.Index:
		return 0, consensus.ErrCompacted
	}
	if i := g.search(index); i < len(g.entries) && g.entries[i].Index == index {
		return g.entries[i].Term, nil
	}
	return 0, consensus.ErrUnavailable
}

func (v *memoryGroupLog) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	g := v.group()
	switch {
	case v.log.Err() != nil:
		return nil, v.log.Err()
	case lo <= g.before.Index:
		return nil, consensus.ErrCompacted
	case lo >= hi:
		return nil, nil
	}
	i := g.search(lo)
	j, size := i, 0
	for ; j < len(g.entries) && g.entries[j].Index < hi; j++ {
		if size += g.entries[j].SizeBytes(); j > i && size > maxBytes {
			break
		}
	}
	if i == j {
		return nil, consensus.ErrUnavailable
	}
	return slices.Clone(g.entries[i:j]), nil
}
