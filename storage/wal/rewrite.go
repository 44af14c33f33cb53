package wal

import (
	"github.com/quoratedb/quorate/consensus"
)

// rewrite moves live entries out of the oldest segment, a little with every Write.
type rewrite struct {
	generation uint64 // of that segment; its struct may come back as another one
	all        bool   // todo has, or had, whatever was live in it
	aside      bool   // todo has, or had, what groups have in it that are set aside
	todo       []place
}

type place struct {
	group consensus.GroupID
	index consensus.Index
}

// rewriteSome does one step, if the log is too large and that would help.
func (l *Log) rewriteSome() error {
	oldest, w := l.segments[0], &l.rewrite
	if w.generation != oldest.generation {
		*w = rewrite{generation: oldest.generation}
	}
	switch {
	case len(w.todo) > 0 || w.all || len(l.segments) < 2:
	case l.worthRewriting(oldest):
		w.all, w.todo = true, l.placesIn(oldest, func(consensus.GroupID) bool { return true })
	case !w.aside && l.worthRewritingAside():
		w.aside, w.todo = true, l.placesIn(oldest, l.aside.has)
	}
	return l.rewriteStep()
}

// worthRewriting tells whether a few entries keep the segment: when most of it is still needed, the groups that need it must compact.
func (l *Log) worthRewriting(oldest *segment) bool {
	return oldest.live > 0 && oldest.liveBytes <= oldest.size/2 && l.retained > l.options.RetainBytes+asideShare*l.aside.bytes
}

// worthRewritingAside tells whether what is set aside should move on: nobody compacts it. The log is always several times as large as that, so that what is
// written again is a small part of what is written.
func (l *Log) worthRewritingAside() bool {
	return l.aside.bytes > 0 && l.retained > l.options.RetainBytes/2+asideShare*l.aside.bytes
}

// asideShare is how many times as large as what is set aside the log may be for it.
const asideShare = 4

// aside are the groups that are set aside.
type aside struct {
	of    map[consensus.GroupID]int64 // bytes that each had when it was set aside
	bytes int64                       // Invariant: the sum of these
}

func (a *aside) has(id consensus.GroupID) bool { _, has := a.of[id]; return has }

func (a *aside) add(id consensus.GroupID, bytes int64) {
	a.remove(id)
	a.of[id] = bytes
	a.bytes += bytes
}

func (a *aside) remove(id consensus.GroupID) {
	a.bytes -= a.of[id]
	delete(a.of, id)
}

// SetAside implements storage.Log.
func (l *Log) SetAside(id consensus.GroupID, aside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if !aside || g == nil {
		l.aside.remove(id)
		return
	}
	bytes := int64(0)
	for i := range g.slots {
		bytes += int64(g.slots[i].length)
	}
	l.aside.add(id, bytes)
	l.rewrite.aside = false
}

// placesIn are the entries in the segment of the groups that are wanted.
func (l *Log) placesIn(s *segment, wanted func(consensus.GroupID) bool) []place {
	var places []place
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		for i := range g.slots {
			if g.slots[i].segment == s && wanted(id) {
				places = append(places, place{id, g.base + consensus.Index(i)})
			}
		}
	}
	return places
}

// rewriteStep writes up to RewriteBytes of entries again, in one record.
func (l *Log) rewriteStep() error {
	var parts []part
	for size := 0; len(l.rewrite.todo) > 0 && size < l.options.RewriteBytes; l.rewrite.todo = l.rewrite.todo[1:] {
		at := l.rewrite.todo[0]
		g := l.groups[at.group]
		if g == nil {
			continue
		}
		s := g.slot(at.index)
		if s == nil || s.segment.generation != l.rewrite.generation {
			continue
		}
		entries, err := g.entries(at.index, at.index+1, 0)
		if err != nil {
			return err
		}
		size += s.sizeBytes()
		if n := len(parts); n == 0 || parts[n-1].group != at.group {
			parts = append(parts, part{group: at.group})
		}
		last := &parts[len(parts)-1]
		last.entries = append(last.entries, entry{Entry: entries[0]})
	}
	if len(parts) == 0 {
		return nil
	}
	return l.write(parts)
}
