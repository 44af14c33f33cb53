package watch

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// seat is what a stream has on one feed. Guarded by the stream's lock; what changes there changes under the hub's, too.
type seat struct {
	stream *Stream
	feed   *feed
	at     int   // where it is in its stream's list
	feedAt int   // and in that of its feed
	bytes  int64 // what was reserved for it

	watches  int
	groups   groups
	lagging  []*group // in no order
	lagPrev  int      // how many of them want previous versions
	lagIndex index
	scan     uint64    // number of the running or last catch-up step
	short    *shortage // what the last step did not get room for, and the next begins with; nil: there was no such revision

	notify   map[*watcher]struct{} // who asked for periodic progress
	periodic waiter                // of them; with several shards
}

// enlist puts the watcher into a group that wants the same, or into a new one: a live group when
// all it needs is yet to be dispatched. present is after which it begins if it does not say.
func (t *seat) enlist(w *watcher, request CreateRequest, present kv.Revision) {
	s, f := t.stream, t.feed
	f.sync()
	t.watches++
	if w.notify {
		t.notify[w] = struct{}{}
	}
	next := request.StartRevision
	if next == 0 {
		next = present + 1
	}
	live := next > f.dispatched
	want := want{
		start: string(request.Span.Start), end: string(request.Span.End),
		filters: request.Filters, prevKV: request.PrevKV, fragment: request.Fragment,
	}
	if g := t.groups.find(origin{want, next, live}, f.dispatched); g != nil {
		g.join(w)
		s.meter.dropWatch(groupCost(request.Span)) // the group's own was reserved when it was made
		return
	}
	s.hub.lastNumber++
	g := &group{seat: t, number: s.hub.lastNumber, want: want, next: next, waitAt: -1}
	g.span = kv.Span{Start: []byte(want.start), End: []byte(want.end)}
	g.join(w)
	t.groups.all[g] = struct{}{}
	if live {
		t.goLive(g)
	} else {
		t.lag(g)
	}
}

// remove is the opposite of enlist, but for the group.
func (t *seat) remove(w *watcher) {
	t.watches--
	delete(t.notify, w)
}

// goLive puts a group into the feed. The locks of the hub and of the stream are held.
func (t *seat) goLive(g *group) {
	g.live = true
	t.feed.live.add(g, t.feed.dispatched)
	t.groups.list(g)
	if g.next <= t.feed.dispatched+1 {
		t.groups.listCurrent(g)
	}
}

// lag notes a group as lagging.
func (t *seat) lag(g *group) {
	g.live, g.scan, g.lagAt = false, 0, len(t.lagging)
	t.short = nil
	t.lagPrev += kindOf(g)
	t.lagging = append(t.lagging, g)
	t.stream.seats.lagging++
	t.lagIndex.add(g)
	t.groups.list(g)
}

// unlag is the opposite of lag. It moves the last lagging group into the gap.
func (t *seat) unlag(g *group) {
	t.groups.unlist(g)
	t.short = nil
	t.lagPrev -= kindOf(g)
	t.lagIndex.remove(g)
	last := len(t.lagging) - 1
	t.lagging[g.lagAt] = t.lagging[last]
	t.lagging[g.lagAt].lagAt = g.lagAt
	t.lagging[last] = nil
	t.lagging = t.lagging[:last]
	t.stream.seats.lagging--
}

// advance notes that a lagging group has got everything below next.
func (t *seat) advance(g *group, next kv.Revision) {
	if next > g.next {
		t.groups.unlist(g)
		g.next = next
		t.groups.list(g)
	}
}

// liveGroups returns them in the order of their making.
func (t *seat) liveGroups() (live []*group) {
	for g := range t.groups.all { // sorted below
		if g.live {
			live = append(live, g)
		}
	}
	t.stream.hub.walked(len(t.groups.all))
	slices.SortFunc(live, func(a, b *group) int { return cmp.Compare(a.number, b.number) })
	return live
}

// dissolve removes a group from everywhere.
func (t *seat) dissolve(g *group) {
	if g.live {
		t.feed.live.remove(g)
		t.groups.unlist(g)
	} else {
		t.unlag(g)
	}
	delete(t.groups.all, g)
	t.stream.meter.dropWatch(groupCost(g.span))
}

// seats are those of a stream: one for each feed that a watch of it hangs on, and always one if there is only one shard. Guarded by the
// stream's lock; what changes there changes under the hub's, too.
type seats struct {
	list    []*seat
	byFeed  map[*feed]*seat // if there are several
	lagging int             // groups, of all
	turn    int             // where to look first for the next step of catching up
}

func (l *seats) find(f *feed) *seat {
	if len(l.list) == 1 && l.list[0].feed == f {
		return l.list[0]
	}
	return l.byFeed[f]
}

// cost is what one more takes. The first belongs to the stream.
func (l *seats) cost() int64 {
	if len(l.list) == 0 {
		return 0
	}
	return seatBytes
}

// take makes one.
func (l *seats) take(s *Stream, f *feed) *seat {
	t := &seat{stream: s, feed: f, bytes: l.cost(), at: len(l.list), feedAt: len(f.seats), groups: newGroups(), notify: map[*watcher]struct{}{}}
	t.periodic = waiter{stream: s, seat: t, at: -1}
	l.list = append(l.list, t)
	f.seats = append(f.seats, t)
	if len(l.list) > 1 {
		if l.byFeed == nil {
			l.byFeed = map[*feed]*seat{}
		}
		for _, t := range l.list[max(0, len(l.list)-2):] {
			l.byFeed[t.feed] = t
		}
	}
	return t
}

// leave is the opposite of take. The last seat of each list moves into the gap.
func (l *seats) leave(t *seat) {
	f := t.feed
	f.hub.unask(&t.periodic)
	if all := &t.stream.progress.all; all.feed == f {
		f.hub.unask(all)
	}
	last := l.list[len(l.list)-1]
	l.list[t.at], last.at = last, t.at
	l.list[len(l.list)-1] = nil
	l.list = l.list[:len(l.list)-1]
	delete(l.byFeed, f)
	l.lagging -= len(t.lagging)
	last = f.seats[len(f.seats)-1]
	f.seats[t.feedAt], last.feedAt = last, t.feedAt
	f.seats[len(f.seats)-1] = nil
	f.seats = f.seats[:len(f.seats)-1]
	f.listen()
	if f.merger != nil && len(f.seats) == 0 {
		f.hub.mergers.drop(f.merger)
	}
}

// behind returns the seat whose lagging groups get the next step of catching up; nil: none lags.
func (l *seats) behind() *seat {
	for i := range l.list { // few
		if t := l.list[(l.turn+i)%len(l.list)]; len(t.lagging) > 0 {
			l.turn = t.at
			return t
		}
	}
	return nil
}
