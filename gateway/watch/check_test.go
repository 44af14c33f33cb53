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
	if err := h.Check(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	watches, live, seats := 0, map[*feed]int{}, map[*feed]int{}
	for s := range h.streams {
		s.mu.Lock()
		err := s.verify(live, seats)
		watches += len(s.watchers)
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("stream %d: %w", s.number, err)
		}
	}
	if watches != h.watches {
		return fmt.Errorf("%d watches, counted %d", watches, h.watches)
	}
	for _, f := range h.feeds() {
		if live[f] != f.live.size() || seats[f] != len(f.seats) {
			return fmt.Errorf("a feed has %d live groups and %d seats, counted %d and %d", live[f], seats[f], f.live.size(), len(f.seats))
		}
		for _, w := range f.asking.heap.items {
			if w.feed != f || w.stream.closed || w.want == endOfTime || w.question != 0 {
				return fmt.Errorf("stream %d asks, and does not know it", w.stream.number)
			}
		}
		delete(seats, f)
	}
	for range seats {
		return fmt.Errorf("there are seats on %d feeds that are gone", len(seats))
	}
	return nil
}

// feeds are all.
func (h *Hub) feeds() (all []*feed) {
	for _, s := range h.inOrder {
		all = append(all, &s.feed)
	}
	for _, m := range h.mergers.byKey {
		all = append(all, &m.feed)
	}
	return all
}

// asking is how many wait for progress.
func (h *Hub) asking() (n int) {
	for _, f := range h.feeds() {
		n += f.asking.size()
	}
	if h.inquiry != nil {
		n += h.inquiry.wanting
	}
	return n
}

func (s *Stream) verify(live, seats map[*feed]int) error {
	members, lagging := 0, 0
	for i, t := range s.seats.list {
		if t.stream != s || t.at != i || t.feed.seats[t.feedAt] != t || s.seats.find(t.feed) != t {
			return fmt.Errorf("seat %d is not where it should be", i)
		}
		if err := t.verify(live); err != nil {
			return err
		}
		seats[t.feed]++
		members += t.watches
		lagging += len(t.lagging)
	}
	if members != len(s.watchers) || lagging != s.seats.lagging {
		return fmt.Errorf("%d of %d watches are in groups; %d groups lag, counted %d", members, len(s.watchers), lagging, s.seats.lagging)
	}
	for id, w := range s.watchers {
		g, future := w.group, false
		t := g.seat
		_, future = s.progress.future[w]
		_, notify := t.notify[w]
		if _, exists := t.groups.all[g]; !exists || w.id != id || g.watchers[w.at] != w || notify != w.notify || !future && w.start > t.feed.dispatched {
			return fmt.Errorf("watch %d is not where it should be", id)
		}
	}
	return s.verifyMemory()
}

func (t *seat) verify(live map[*feed]int) error {
	members, lagPrev, dispatched, liveHere := 0, 0, t.feed.dispatched, 0
	for g := range t.groups.all {
		if !g.live {
			lagPrev += kindOf(g)
		}
		members += len(g.watchers)
		switch waits := g.waitAt >= 0; {
		case len(g.watchers) == 0 || g.seat != t:
			return fmt.Errorf("group %d has no watchers, or sits elsewhere", g.number)
		case !g.live && (t.lagging[g.lagAt] != g || g.spot == nil || waits):
			return fmt.Errorf("lagging group %d is not where it should be", g.number)
		case g.live && (g.spot == nil) != waits:
			return fmt.Errorf("live group %d: waits %v, in the index %v", g.number, waits, g.spot != nil)
		case g.live && !waits && g.next > dispatched+1:
			return fmt.Errorf("group %d starts at %d and is in the index at %d", g.number, g.next, dispatched)
		case g.ids != nil && len(g.ids) != len(g.watchers):
			return fmt.Errorf("group %d has %d watchers and %d IDs", g.number, len(g.watchers), len(g.ids))
		}
		if g.live {
			liveHere++
		}
	}
	live[t.feed] += liveHere
	if lagPrev != t.lagPrev {
		return fmt.Errorf("%d lagging groups want previous versions, counted %d", lagPrev, t.lagPrev)
	}
	if members != t.watches || liveHere+len(t.lagging) != len(t.groups.all) {
		return fmt.Errorf("%d of %d watches are in groups; of %d groups %d are live, %d lag", members, t.watches, len(t.groups.all), liveHere, len(t.lagging))
	}
	return t.groups.verify(dispatched)
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
	for _, t := range s.seats.list {
		watches += t.bytes
		for g := range t.groups.all {
			watches += groupCost(g.span)
		}
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
