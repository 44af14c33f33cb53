package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard"
)

// The list of members, in runs that change it (Plan.Members). It is in shard 1, as in production; every node goes by the newest that it has heard of, from its own
// replica or from another node, and all groups follow. What package server does around the cores is here: a node that was removed ends when no group needs it, and
// one that takes its place has another ID, empty disks, and the list of whoever it asked.

// memberOf is what a node knows of who the members are. It outlives its process, as members.json does.
type memberOf struct {
	known   *members.List
	added   bool // the cluster began without it
	outside bool // its process does not run: it was removed, or is not added yet
	// left are the groups that have said to this process that they do without the node.
	left map[consensus.GroupID]bool
	// joins counts the IDs that were in this place.
	joins int
}

// everywhere tells whether all groups are on all nodes, so that one list is right for all of them.
func everywhere(p *Plan) bool { return p.Nodes > 2 && p.Homes == nil }

// idsApart is how far the IDs are apart that nodes have in one place, one after the other.
const idsApart = 100

// placeOf is the number of the place that a node of the ID has, or had.
func placeOf(id kv.NodeID) int { return int(id % idsApart) }

// named returns the node of an ID, or its second process; nil: it is no more.
func (w *world) named(id kv.NodeID, by uint) *node {
	if place := placeOf(id); place >= 1 && place <= len(w.nodes) {
		if n := w.reached(place, by); n.id == id {
			return n
		}
	}
	return nil
}

// founders are the nodes as they were at the beginning, as the list has them.
func (w *world) founders() (records []kv.NodeRecord) {
	for i := range w.plan.Nodes {
		id := nodeID(i + 1)
		records = append(records, kv.NodeRecord{ID: id, Name: fmt.Sprint("node", i+1), PeerURLs: []string{peerURL(id, 0)}})
	}
	return records
}

func peerURL(id kv.NodeID, moved int) string { return fmt.Sprintf("http://10.0.%d.%d:2380", moved, id) }

// remembered is the list that the node knows; its first one is that of the beginning.
func (n *node) remembered() *members.List {
	if n.known == nil {
		n.known = members.Founded(n.w.founders())
	}
	return n.known
}

// joined tells whether a replica that has nothing gets all from others, and never begins by itself.
func (n *node) joined() bool { return n.w.plan.Members && (n.added || n.remembered().Version > 0) }

// knownNodes are all that the driver has to do with when it starts.
func (n *node) knownNodes() (nodes []kv.NodeID) {
	if !n.w.plan.Members {
		for i := range n.w.plan.Nodes {
			nodes = append(nodes, nodeID(i+1))
		}
		return nodes
	}
	nodes = append(nodes, n.id)
	for i := range n.remembered().Members {
		nodes = append(nodes, n.known.Members[i].ID)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// beginList has a new process go by what the node knows.
func (n *node) beginList() {
	n.left = nil
	if !n.w.plan.Members {
		return
	}
	if p := n.parts[0]; p.replica != nil {
		n.hear(p.replica.Members(), true)
	}
	if n.added {
		n.spawn(n.publish)
	}
	if n.remembered().Version > 0 {
		n.store.Follow(n.known.Roster())
	}
}

// hear takes a list of members. applied: the node's own replica has it.
func (n *node) hear(list *members.List, applied bool) {
	if applied && list.Version > 0 { // what an added node begins with is nobody's list
		n.w.roster.decided(n, list)
	}
	before := n.remembered()
	if !list.Supersedes(before, applied) {
		return
	}
	n.known = list
	if list.Version < before.Version {
		n.w.fail(Correctness, "node %d went by the list of members of version %d, and goes by that of version %d", n.id, before.Version, list.Version)
	}
	n.store.Follow(list.Roster())
	if list.Version > before.Version {
		for _, other := range n.w.others(n, 0) {
			n.tellList(other)
		}
	}
}

// tellList has another node hear which list this one knows, unless the network loses it: then it hears when they connect again.
func (n *node) tellList(other *node) {
	w := n.w
	list := n.remembered()
	w.after(time.Duration(50+w.roster.random.Int64N(int64(5000)))*time.Microsecond, func() {
		if other.up && !other.frozen() && w.net.link(n, other).blocked == 0 && w.connected(n, other) {
			other.enter(func() { other.hear(list, false) })
		}
	})
}

// groupLeft is told when a group does without this node. When all do, it ends.
func (n *node) groupLeft(group consensus.GroupID) {
	if n.left == nil {
		n.left = map[consensus.GroupID]bool{}
	}
	n.left[group] = true
	if len(n.left) < len(n.w.groups) {
		return
	}
	id := n.id
	n.w.after(time.Duration(n.w.roster.random.Int64N(int64(300*time.Millisecond))), func() {
		if n.id != id || !n.up || n.outside {
			return
		}
		if !n.w.roster.newest().WasRemoved(id) {
			n.w.fail(Correctness, "node %d heard from all groups that it was removed, and it was not", id)
			return
		}
		n.w.mark("removed node stopped")
		n.stop()
	})
}

// stop ends the process of a node that was removed.
func (n *node) stop() {
	n.outside = true
	n.setAside()
	n.former = nil
}

// rejoin makes the node another one, which is not started: in the same place, with empty disks, and an ID that there never was.
func (n *node) rejoin() {
	n.outside, n.added, n.known = true, true, nil
	n.setAside()
	n.former = nil
	n.joins++
	n.id = nodeID(n.index+1) + kv.NodeID(n.joins*idsApart)
	n.newDisks()
	n.knowsLoss, n.hurt = false, true
}

// startAdded starts a node that was added, once another one says what the list is, and it is in it.
func (n *node) startAdded() {
	for _, other := range n.w.others(n, 0) {
		if other.up && !other.frozen() && n.w.net.link(other, n).blocked == 0 && n.w.net.link(n, other).blocked == 0 && other.remembered().Member(n.id) != nil {
			n.known, n.outside = other.known, false
			n.start()
			return
		}
	}
	id := n.id
	n.w.after(20*time.Millisecond, func() {
		if n.id == id && n.outside {
			n.startAdded()
		}
	})
}

// rosters is what the world knows of the list.
type rosters struct {
	w        *world
	random   *rand.Rand
	versions map[uint64]*members.List // as the first replica had it
	highest  uint64                   // of them
	answered uint64                   // the highest version that was answered
	operator *operator                // at work; nil: none is
}

// newest is the newest list that any replica has applied.
func (r *rosters) newest() *members.List { return r.versions[r.highest] }

func newRosters(w *world) *rosters {
	return &rosters{w: w, random: w.source(sourceMembers, 0), versions: map[uint64]*members.List{0: members.Founded(w.founders())}}
}

// decided holds a list that a replica has applied against what others have, and against the one before: one change makes one member another.
func (r *rosters) decided(n *node, list *members.List) {
	at := list.Version
	if was := r.versions[at]; was != nil {
		if ids := changed(was, list); len(ids) > 0 {
			r.w.fail(Correctness, "node %d has applied a list of members of version %d in which %v are not what another has", n.id, at, ids)
		}
		return
	}
	if before := r.versions[at-1]; before != nil && len(changed(before, list)) != 1 {
		r.w.fail(Correctness, "the list of members of version %d makes %d members others than they were", at, len(changed(before, list)))
	}
	r.versions[at], r.highest = list, max(r.highest, at)
	if r.w.reading() {
		r.w.line("list of members, version %d: %v", at, list.Roster().Seats)
	}
}

// changed are the members that two lists do not have in common.
func changed(a, b *members.List) (ids []kv.NodeID) {
	for _, lists := range [2][2]*members.List{{a, b}, {b, a}} {
		for i := range lists[0].Members {
			m, other := &lists[0].Members[i], lists[1].Member(lists[0].Members[i].ID)
			if (other == nil || other.Learner != m.Learner || !slices.Equal(other.PeerURLs, m.PeerURLs)) && !slices.Contains(ids, m.ID) {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}

// checkMembers: in the end all nodes go by the newest list, and all groups are on just its members.
func (w *world) checkMembers() {
	if !w.plan.Members || w.verdict != "" || w.roster.highest == 0 {
		return
	}
	newest := w.roster.newest()
	if newest.Version < w.roster.answered {
		w.fail(Correctness, "the list of members of version %d was answered, the newest is of version %d", w.roster.answered, newest.Version)
	}
	for _, n := range w.nodes {
		if has := n.parts[0].replica.Members(); has.Version != newest.Version || n.remembered().Version != newest.Version {
			w.fail(Correctness, "node %d has the list of members of version %d, and goes by that of version %d; the newest is of version %d",
				n.id, has.Version, n.known.Version, newest.Version)
		}
	}
	for _, g := range w.groups {
		g.checkConfig(newest)
	}
}

// checkConfig: the members of the group are the replicas that its table has on the nodes of the list, each with the role that the list says.
func (g *group) checkConfig(list *members.List) {
	leader := g.leader()
	if leader == nil {
		g.fail(Correctness, "nobody leads at the end")
		return
	}
	var want consensus.Config
	for _, at := range leader.machine.Placements() {
		switch m := list.Member(at.Node); {
		case m == nil:
		case m.Learner:
			want.Learners = append(want.Learners, at.Replica)
		default:
			want.Voters = append(want.Voters, at.Replica)
		}
	}
	slices.Sort(want.Voters)
	slices.Sort(want.Learners)
	if has := leader.core.Status().Config; !slices.Equal(has.Voters, want.Voters) || !slices.Equal(has.Learners, want.Learners) {
		g.fail(Correctness, "the members of the group are %s, by the list of version %d they must be %s", has, list.Version, want)
	}
}

// checkVoters: in no group a learner of its roster votes, as far as its replicas have applied.
func (w *world) checkVoters() {
	if !w.plan.Members {
		return
	}
	for _, g := range w.groups {
		for p := range g.parts() {
			if !p.up() {
				continue
			}
			roster, config := p.machine.(*shard.Machine).Roster(), p.machine.Config()
			for _, at := range p.machine.Placements() {
				if seat, _ := roster.Seat(at.Node); seat.Role == kv.SeatLearner && slices.Contains(config.Voters, at.Replica) {
					g.fail(Correctness, "node %d is a learner by the list of members, and has a vote", at.Node)
				}
			}
		}
	}
}

// checkElected: nobody leads whom all groups have done without.
func (p *part) checkElected() {
	if n := p.node; n.w.plan.Members && len(n.left) == len(n.w.groups) {
		p.group.fail(Correctness, "node %d was removed, and leads", n.id)
	}
}
