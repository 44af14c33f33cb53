package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// verify recomputes, the slow way, what the hub and its streams keep at hand.
func (h *Hub) verify() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	watches, live := 0, 0
	for s := range h.streams {
		s.mu.Lock()
		groups, err := s.verify(h.dispatched)
		watches += len(s.watchers)
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("stream %d: %w", s.number, err)
		}
		live += groups
	}
	if watches != h.watches || live != h.live.size() {
		return fmt.Errorf("%d watches in %d live groups, counted %d and %d", watches, live, h.watches, h.live.size())
	}
	for e, last := h.asking.Front(), kv.Revision(0); e != nil; e = e.Next() {
		s := e.Value.(*Stream)
		if s.progress.asking != e || s.closed || s.progress.want < last {
			return fmt.Errorf("stream %d is asking: revision %d, after one of %d", s.number, s.progress.want, last)
		}
		last = s.progress.want
	}
	return nil
}

func (s *Stream) verify(dispatched kv.Revision) (live int, err error) {
	members, lagPrev := 0, 0
	for g := range s.groups.all {
		if !g.live {
			lagPrev += kindOf(g)
		}
		members += len(g.watchers)
		switch waits := g.waitAt >= 0; {
		case len(g.watchers) == 0:
			return 0, fmt.Errorf("group %d has no watchers", g.number)
		case !g.live && (s.lagging[g.lagAt] != g || g.spot == nil || waits):
			return 0, fmt.Errorf("lagging group %d is not where it should be", g.number)
		case g.live && (g.spot == nil) != waits:
			return 0, fmt.Errorf("live group %d: waits %v, in the index %v", g.number, waits, g.spot != nil)
		case g.live && !waits && g.next > dispatched+1:
			return 0, fmt.Errorf("group %d starts at %d and is in the index at %d", g.number, g.next, dispatched)
		case g.ids != nil && len(g.ids) != len(g.watchers):
			return 0, fmt.Errorf("group %d has %d watchers and %d IDs", g.number, len(g.watchers), len(g.ids))
		}
		if g.live {
			live++
		}
	}
	if lagPrev != s.lagPrev {
		return 0, fmt.Errorf("%d lagging groups want previous versions, counted %d", lagPrev, s.lagPrev)
	}
	if members != len(s.watchers) || live+len(s.lagging) != len(s.groups.all) {
		return 0, fmt.Errorf("%d of %d watches are in groups; of %d groups %d are live, %d lag", members, len(s.watchers), len(s.groups.all), live, len(s.lagging))
	}
	for id, w := range s.watchers {
		_, future := s.progress.future[w]
		_, notify := s.progress.notify[w]
		if _, exists := s.groups.all[w.group]; !exists || w.id != id || w.group.watchers[w.at] != w || notify != w.notify || !future && w.start > dispatched {
			return 0, fmt.Errorf("watch %d is not where it should be", id)
		}
	}
	if err := s.verifyMemory(); err != nil {
		return 0, err
	}
	return live, s.groups.verify(dispatched)
}

// verifyMemory adds up what the stream holds.
func (s *Stream) verifyMemory() error {
	held, watches := s.outbox.takenBytes, int64(len(s.watchers))*watcherBytes
	for _, b := range s.outbox.batches[s.outbox.head:] {
		if b.prevBytes < 0 || b.heldBytes < b.prevBytes+batchCost(len(b.IDs)) {
			return fmt.Errorf("a batch counts %d bytes, %d of them for previous versions", b.heldBytes, b.prevBytes)
		}
		held += b.heldBytes
	}
	for g := range s.groups.all {
		watches += groupCost(g.span)
	}
	if s.meter.memory == nil || s.closed {
		watches = 0
	}
	if held != s.outbox.heldBytes || watches != s.meter.watches || s.meter.aside < 0 || s.meter.aside > s.meter.reserved {
		return fmt.Errorf("%d bytes are held, counted %d; watches take %d, counted %d; %+v", held, s.outbox.heldBytes, watches, s.meter.watches, s.meter)
	}
	return nil
}

// verify compares what find would return with the rule: the group wants the same, and needs the same.
func (l *groups) verify(dispatched kv.Revision) error {
	for o, g := range l.begun {
		if _, exists := l.all[g]; !exists || g.origin() != o {
			return fmt.Errorf("group %d is listed under %+v, and is %+v", g.number, o, g.origin())
		}
	}
	for w, g := range l.current {
		if _, exists := l.all[g]; !exists || g.want != w || !g.live || g.next > dispatched+1 {
			return fmt.Errorf("group %d (live %v, next %d) is listed as current at %d", g.number, g.live, g.next, dispatched)
		}
	}
	return nil
}

// TestLiveGroupsAgainstList compares the live groups with asking every group.
func TestLiveGroupsAgainstList(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 3))
		l := newLiveGroups()
		var list []*group
		dispatched := kv.Revision(1)
		for step := range 300 {
			switch n := random.IntN(10); {
			case n < 5:
				g := &group{number: uint64(step), span: kv.Span{Start: []byte{'a' + byte(random.IntN(3))}}, next: dispatched + 1 + kv.Revision(random.IntN(8)), waitAt: -1}
				l.add(g, dispatched)
				list = append(list, g)
			case n < 8 && len(list) > 0:
				at := random.IntN(len(list))
				l.remove(list[at])
				list = slices.Delete(list, at, at+1)
			default:
				l.begin(dispatched + 1)
				dispatched++
			}
			key := []byte{'a' + byte(random.IntN(3))}
			found := 0
			for _, s := range l.index.match(key, nil) {
				found += len(s.groups)
			}
			wanted := 0
			for _, g := range list {
				if g.next <= dispatched && g.span.Contains(key) || g.spot != nil && g.next == dispatched+1 && g.span.Contains(key) {
					wanted++
				}
			}
			if found != wanted || l.size() != len(list) {
				t.Fatalf("seed %d step %d at %d: %d groups of %q, want %d; %d of %d in all", seed, step, dispatched, found, key, wanted, l.size(), len(list))
			}
		}
	}
}
