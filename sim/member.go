package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// The list of members. The world keeps it, as the system shard does in production, and every node hears of it, sooner or later and after each start: so a leader may
// have an older one than the group follows.

// everywhere tells whether all groups are on all nodes, so that one list is right for all of them.
func everywhere(p *Plan) bool { return p.Nodes > 2 && p.Homes == nil }

// removeMember takes a node out of the list, and later, with empty disks, into it again. In production it would come back under another ID; what the groups do is
// the same.
func (w *world) removeMember(f *Fault, n *node, random *rand.Rand) {
	if w.list.Version > 0 && len(w.list.Seats) < len(w.nodes) || !w.mayDamage(n, "it was removed") {
		return
	}
	n.damage.wiped = true
	w.mark("member removed")
	w.setList(n, random)
	w.awaitRemoval(n, n.diskID, w.now+f.Duration, random)
}

// awaitRemoval adds a node again that was removed.
func (w *world) awaitRemoval(n *node, disk uint64, until time.Duration, random *rand.Rand) {
	w.after(20*time.Millisecond, func() {
		followed := w.followed()
		if !followed && w.now < until && !w.ended && n.diskID == disk {
			w.awaitRemoval(n, disk, until, random)
			return
		}
		if followed {
			w.mark("member was out of all groups")
		}
		w.setList(nil, random)
		if n.diskID == disk && n.damage.why != "" {
			n.lose(n.damage.why, true, 0)
		}
	})
}

// followed tells whether the leaders of all groups say that they follow the list, and are done.
func (w *world) followed() bool {
	for _, g := range w.groups {
		leader := g.leader()
		if leader == nil {
			return false
		}
		if version, settled := leader.replica.Following(); version != w.list.Version || !settled {
			return false
		}
	}
	return true
}

// setList changes the list to all nodes but one; nil: to all.
func (w *world) setList(without *node, random *rand.Rand) {
	list := kv.Roster{Version: w.list.Version + 1}
	for _, n := range w.nodes {
		if n != without {
			list.Seats = append(list.Seats, kv.Seat{Node: n.id, Role: kv.SeatVoter})
		}
	}
	w.list = list
	if w.reading() {
		w.line("list of members, version %d: %d nodes", list.Version, len(list.Seats))
	}
	for _, n := range w.nodes {
		w.after(time.Duration(random.Int64N(int64(200*time.Millisecond))), func() {
			if n.up {
				n.enter(n.hearList)
			}
		})
	}
}

// hearList tells the process the list.
func (n *node) hearList() {
	if n.w.list.Version > 0 {
		n.store.Follow(n.w.list)
	}
}
