package membership

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// On which nodes the group is to be. See docs/protocols/members.md.

// Follow tells which list of members this node has heard of, as a roster; what it says of first replicas does not matter. A leader has the group follow it, if it
// is newer than what the group follows.
func (g *Group) Follow(list kv.Roster) {
	if list.Version > g.list.Version {
		g.list = list
		g.judgeNodes()
		g.wantRepair()
	}
}

// Following is the version of the list that the group follows as far as this replica has applied, and whether everybody is what that says. Nodes that
// have never had a replica do not count.
func (g *Group) Following() (version uint64, settled bool) {
	p := g.plan(g.config)
	return g.seats.Version, p.complete()
}

// nextSeats is the roster that the group should have; nil: the one that it has.
func (g *Group) nextSeats(config consensus.Config) *kv.Roster {
	if g.list.Version <= g.seats.Version {
		return nil
	}
	next := kv.Roster{Version: g.list.Version}
	for _, listed := range g.list.Seats {
		seat := kv.Seat{Node: listed.Node, First: uint64(g.firstOn(listed.Node)), Role: listed.Role}
		if before, ok := g.seats.Seat(listed.Node); ok && before.Role == kv.SeatVoter {
			seat.Role = kv.SeatVoter // nobody loses a vote but with its place
		}
		next.Seats = append(next.Seats, seat)
	}
	for _, node := range g.nodes {
		if _, listed := next.Seat(node); !listed && config.Contains(g.placed(node)) {
			next.Seats = append(next.Seats, kv.Seat{Node: node, First: uint64(g.firstOn(node)), Role: kv.SeatLeaving})
		}
	}
	slices.SortFunc(next.Seats, func(a, b kv.Seat) int { return cmp.Compare(a.Node, b.Node) })
	return &next
}

// reckonNodes is what nodes is to be. What this replica has applied may lag behind, and who leads may have been added since: so those of a newer list belong there.
func (g *Group) reckonNodes() (nodes []kv.NodeID) {
	switch {
	case g.seats.Version != 0:
		for _, seat := range g.seats.Seats {
			if seat.Role != kv.SeatLeaving || g.config.Contains(g.placed(seat.Node)) {
				nodes = append(nodes, seat.Node)
			}
		}
	case len(g.first) == 0:
		nodes = slices.Clone(g.known)
	default:
		for _, h := range g.first {
			nodes = append(nodes, h.Node)
		}
	}
	if g.list.Version > g.seats.Version {
		for _, seat := range g.list.Seats {
			if !slices.Contains(nodes, seat.Node) {
				nodes = append(nodes, seat.Node)
			}
		}
	}
	return nodes
}

// judgeNodes says so if this replica has to do with others than before. What was known of those that are gone is forgotten.
func (g *Group) judgeNodes() {
	nodes := g.reckonNodes()
	if slices.Equal(nodes, g.nodes) {
		return
	}
	for _, node := range g.nodes {
		if !slices.Contains(nodes, node) {
			g.forget(node)
		}
	}
	g.nodes, g.ready.Nodes = nodes, true
}

func (g *Group) forget(node kv.NodeID) {
	r := &g.roster
	delete(r.learned, node)
	delete(r.seen, node)
	delete(r.later, node)
	delete(r.gone, node)
	delete(g.repair.claims, node)
	delete(g.identity.told, node)
	delete(g.identity.reports, node)
	g.toldRemoved(node)
}

// hasNode tells whether this replica has to do with the node.
func (g *Group) hasNode(node kv.NodeID) bool { return slices.Contains(g.nodes, node) }

// leaves tells whether the list of members has the node no more.
func (g *Group) leaves(node kv.NodeID) bool {
	seat, ok := g.seats.Seat(node)
	return g.seats.Version != 0 && (!ok || seat.Role == kv.SeatLeaving)
}

// out tells whether a node was removed, and is no member of the group any more, as far as this replica knows. After the next change it does not know any more.
func (g *Group) out(node kv.NodeID) bool {
	seat, ok := g.seats.Seat(node)
	return ok && seat.Role == kv.SeatLeaving && !g.hasNode(node)
}

// hearOut takes the word of another node that this one was removed. Nobody says so but who has applied it. One that still takes itself for the leader hears it
// when it does not any more.
func (g *Group) hearOut(m *Message) {
	if m.Site == g.site && g.identity.standing == standingMember && !g.isOut && !g.repair.leading {
		g.isOut = true
		g.judgeStanding()
	}
}

// askOut has a replica whose node leaves ask whether it is over: who takes it out of the membership has no reason to tell it.
func (g *Group) askOut() {
	for _, node := range g.nodes {
		if node != g.node.options.Self {
			g.send(node, Message{Kind: KindQuestion, Site: g.site, Replica: g.self})
		}
	}
}

// awaitsOut tells whether this replica's node leaves, and it is not over yet.
func (g *Group) awaitsOut() bool {
	return g.identity.standing == standingMember && !g.standing.Removed && g.removed() && g.site.Disk != 0
}

// removed tells whether this node was one of the group's, and is to be so no more. Where it has no seat at all, a snapshot may be from before it had one.
func (g *Group) removed() bool {
	seat, ok := g.seats.Seat(g.node.options.Self)
	return ok && seat.Role == kv.SeatLeaving
}

// Left tells whether the list of members has this node no more, and the group does without it, as far as this replica knows.
func (g *Group) Left() bool { return g.standing.Removed }

// plan is how the group gets from the membership to what it is to be: it consists of the newest replica of every node in the roster, as the table says.
func (g *Group) plan(config consensus.Config) plan {
	p := plan{self: g.self, config: config}
	for _, node := range g.nodes {
		id := g.placed(node)
		switch seat, _ := g.seats.Seat(node); {
		case id == 0:
		case g.leaves(node):
			p.leaving = append(p.leaving, id)
		case seat.Role == kv.SeatLearner:
			p.learners = append(p.learners, id)
		default:
			p.wanted = append(p.wanted, id)
		}
	}
	slices.Sort(p.wanted)
	slices.Sort(p.learners)
	return p
}
