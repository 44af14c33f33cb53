package wal

import (
	"github.com/quoratedb/quorate/consensus"
)

// rewrite moves the last few live entries out of the oldest segment, a little with every Write.
type rewrite struct {
	generation uint64 // of that segment; its struct may come back as another one
	todo       []place
}

type place struct {
	group consensus.GroupID
	index consensus.Index
}

// rewriteSome does one step, if the log is too large and that would help: when most of the
// oldest segment is still needed, the groups that need it must compact.
func (l *Log) rewriteSome() error {
	oldest := l.segments[0]
	if l.rewrite.generation != oldest.generation {
		l.rewrite = rewrite{}
		if !l.worthRewriting(oldest) {
			return nil
		}
		l.rewrite = rewrite{generation: oldest.generation, todo: l.placesIn(oldest)}
	}
	return l.rewriteStep()
}

func (l *Log) worthRewriting(oldest *segment) bool {
	if len(l.segments) < 2 || oldest.live == 0 || oldest.liveBytes > oldest.size/2 {
		return false
	}
	retained := int64(0)
	for _, s := range l.segments {
		retained += s.size
	}
	return retained > l.options.RetainBytes
}

func (l *Log) placesIn(s *segment) []place {
	var places []place
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		for i := range g.slots {
			if g.slots[i].segment == s {
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
