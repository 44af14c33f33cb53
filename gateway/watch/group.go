package watch

import "github.com/quoratedb/quorate/kv"

// watcher is one watch.
type watcher struct {
	id    ID
	start kv.Revision // as asked for
	group *group
	at    int // where it is in its group
	// For periodic progress: seen is the group's event count when the watcher was last found idle or not.
	notify bool
	seen   uint64
}

// want is what the watchers of a group have in common.
type want struct {
	start, end string // the span
	filters    Filter
	prevKV     bool
	fragment   bool
}

// origin is where a group can be joined: by whoever wants the same, from the same revision on.
type origin struct {
	want want
	next kv.Revision
	live bool
}

// group is the watchers of one seat that want the same, from the same revision on.
//
// Invariant: every event below next that the group wants is in the outbox or was taken from it.
type group struct {
	seat   *seat
	number uint64 // in the order of their making
	want   want
	span   kv.Span

	watchers []*watcher
	ids      []ID // of watchers, made when a batch needs them; shared with batches, so replaced and never changed
	next     kv.Revision
	live     bool   // in the hub's index; otherwise lagging, in the stream's
	scan     uint64 // the stream's catch-up step that serves the group; 0: none yet
	lagAt    int    // where it is in its seat's list of lagging groups

	spot   *spot // where it is in its index
	spotAt int
	waitAt int // where it is among the feed's groups that start in the future; negative: it is not there

	open      *Batch // the last batch, while it may take more events
	openEpoch uint64
	count     uint64 // events so far
	costed    uint64 // the stream's reckoning in which its next batch was counted
}

// rejects tells whether the group filters the event out.
func (g *group) rejects(event *Event) bool {
	if g.want.filters == 0 {
		return false
	}
	if deletion(event.effect) {
		return g.want.filters&FilterNoDelete != 0
	}
	return g.want.filters&FilterNoPut != 0
}

// join and leave change who the watchers are: batches made before keep their IDs and take no more events. Both cost the same
// whatever the number of watchers.
func (g *group) join(w *watcher) {
	w.group, w.at, w.seen = g, len(g.watchers), g.count
	g.watchers = append(g.watchers, w)
	g.open, g.ids = nil, nil
}

func (g *group) leave(w *watcher) {
	last := len(g.watchers) - 1
	g.watchers[w.at] = g.watchers[last]
	g.watchers[w.at].at = w.at
	g.watchers[last] = nil
	g.watchers = g.watchers[:last]
	g.open, g.ids = nil, nil
}

// listIDs returns the watchers' IDs for a batch, which costs as much as sending it.
func (g *group) listIDs() []ID {
	if g.ids == nil {
		g.ids = make([]ID, len(g.watchers))
		for i, w := range g.watchers {
			g.ids[i] = w.id
		}
		g.seat.stream.hub.walked(len(g.ids))
	}
	return g.ids
}

// groups are the groups of a seat, and where a new watcher finds the one that it can join.
//
// Invariant: every value of begun and current is in all. A value of begun has the origin that is its key; a value of current is live,
// wants what is its key, and has missed nothing of what is yet to be dispatched.
type groups struct {
	all     map[*group]struct{}
	begun   map[origin]*group
	current map[want]*group
}

func newGroups() groups {
	return groups{all: map[*group]struct{}{}, begun: map[origin]*group{}, current: map[want]*group{}}
}

// find returns the group that a watcher which needs everything from next on can join; nil when there is none.
func (l *groups) find(o origin, dispatched kv.Revision) *group {
	if o.live && o.next == dispatched+1 {
		if g := l.current[o.want]; g != nil {
			return g
		}
	}
	return l.begun[o]
}

// list makes the group known to find, unless another one stands there. Whoever changes next or live calls unlist before.
func (l *groups) list(g *group) {
	if o := g.origin(); l.begun[o] == nil {
		l.begun[o] = g
	}
}

// listCurrent does the same for a group that has just become live and has missed nothing.
func (l *groups) listCurrent(g *group) {
	if l.current[g.want] == nil {
		l.current[g.want] = g
	}
}

func (l *groups) unlist(g *group) {
	if o := g.origin(); l.begun[o] == g {
		delete(l.begun, o)
	}
	if l.current[g.want] == g {
		delete(l.current, g.want)
	}
}

func (g *group) origin() origin { return origin{g.want, g.next, g.live} }
