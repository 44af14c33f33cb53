package membership

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Group is what one replica knows and decides about who is who in its group. It is not safe for concurrent use.
type Group struct {
	node *Node
	id   consensus.GroupID
	// first are the replicas that the group began with. Which replica lives on which node now is in the state machine (shard.Placement); a node
	// that is not there has its first replica.
	first []Home
	// founders is how many of their nodes must be new for the group to be.
	founders int

	self   consensus.ReplicaID
	site   shard.Site
	config consensus.Config  // as applied
	table  []shard.Placement // as applied
	// seats are on which nodes the group is to be, as applied; without a version those of first, or of known if it began without this node.
	seats kv.Roster
	known []kv.NodeID
	// nodes are those that this replica has to do with: all in the seats, but those that are leaving and have no replica in the membership any more; and those
	// of a newer list.
	nodes []kv.NodeID
	// isOut: this replica was told that it is no member any more, since its node was removed.
	isOut bool
	// list is the newest list of members that this node has heard of, as a roster.
	list kv.Roster
	// changedAt is the last change of the membership that is applied and not yet durable; 0: there is none.
	changedAt consensus.Index

	// gaveUp: this replica does nothing any more, and the others were told so last at that time.
	gaveUp   bool
	gaveUpAt time.Duration
	// untold, of a replica that was removed, are those who have not said that they know.
	untold []kv.NodeID

	identity identity
	roster   roster
	loss     lossClaim
	repair   repair

	standing Standing // as told last
	ready    Ready
}

// Ready is work for the driver.
type Ready struct {
	// Messages are for the same group on other nodes.
	Messages []MessageTo
	// Save is a row to be made durable; Saved follows.
	Save *Save
	// Confirm: questions of which this replica must be confirmed as the leader, and must have applied what is committed by now; Confirmed follows, or not.
	Confirm []Question
	// Assign is to be proposed; Assigned follows.
	Assign *kv.AssignReplicaRequest
	// Seat is to be proposed; Assigned follows. Never beside Assign.
	Seat *kv.Roster
	// HandOver: this replica leads, and its node is leaving: that node is to lead.
	HandOver kv.NodeID
	// Nodes: Group.Nodes returns others than before.
	Nodes bool
	// Change: the consensus core must propose this membership. If it does not, nothing follows.
	Change *consensus.Config
	// Gone are nodes that have lost their newest replica: whoever followed it is free.
	Gone []kv.NodeID
	// GaveUp are nodes whose replica does nothing any more although their process may live: whoever follows it must look for somebody else.
	GaveUp []kv.NodeID
	// Lost: the others know this replica, and nothing of it is here.
	Lost bool
	// Joined: this replica knows who it is, and takes part from now on.
	Joined bool
	// Standing is set when it is another one than before.
	Standing *Standing
	// Failed: the replica must stop. It wraps ErrLost or ErrNoCopy; messages leave first.
	Failed error
}

// MessageTo is a message and the node that it is for.
type MessageTo struct {
	To kv.NodeID
	Message
}

// OpenGroup returns the core of the node's replica of a group. row, if it is not nil, is to be made durable before the replica does anything. An error that
// wraps ErrLost or ErrNoCopy says that this node can not go on with what is on its disk.
func (n *Node) OpenGroup(state GroupState) (g *Group, row []byte, err error) {
	if err := state.validate(n.options.Self); err != nil {
		return nil, nil, err
	}
	g = &Group{node: n, id: state.Group, first: state.First, founders: state.Founders, config: state.Config, table: state.Table, identity: newIdentity(), roster: newRoster(),
		seats: state.Roster, known: state.Known}
	g.repair.claims = make(map[kv.NodeID]claim)
	g.nodes = g.reckonNodes()
	g.self, g.site.Disk = g.firstOn(n.options.Self), n.options.Disk
	if row, err = g.open(&state); err != nil {
		return nil, nil, err
	}
	n.groups = append(n.groups, g)
	g.judgeStanding()
	return g, row, nil
}

// Close forgets the group: it was not begun after all.
func (g *Group) Close() {
	n := g.node
	n.groups = slices.DeleteFunc(n.groups, func(o *Group) bool { return o == g })
}

// Applied is the membership, the table and the roster that the group goes by.
func (g *Group) Applied() (consensus.Config, []shard.Placement, kv.Roster) {
	return g.config, g.table, g.seats
}

// Nodes are those that this replica has to do with, itself included unless it was removed. Nobody changes the slice.
func (g *Group) Nodes() []kv.NodeID { return g.nodes }

// Self is which replica this is; it may change until Joined.
func (g *Group) Self() consensus.ReplicaID { return g.self }

// Life is which of the replicas of the group this is that were on the disk, one after the other; 0 is the first.
func (g *Group) Life() uint64 { return g.site.Life }

// Ready moves the pending work out.
func (g *Group) Ready() Ready {
	ready := g.ready
	g.ready = Ready{}
	return ready
}

// HasReady tells whether there is any.
func (g *Group) HasReady() bool {
	r := &g.ready
	return len(r.Messages)+len(r.Confirm)+len(r.Gone)+len(r.GaveUp) > 0 || r.Save != nil || r.Assign != nil || r.Seat != nil || r.HandOver != 0 || r.Nodes || r.Change != nil || r.Lost || r.Joined || r.Standing != nil || r.Failed != nil
}

// WantsTicks tells whether Tick has something to do.
func (g *Group) WantsTicks() bool {
	if g.identity.standing == standingRemoved {
		return len(g.untold) > 0
	}
	return g.Held() || g.repair.wanted || g.gaveUp || g.awaitsOut()
}

// Tick lets the time pass: a replica that does not know who it is asks again, and may decide by itself. A leader is asked for its next step by Repair.
func (g *Group) Tick(now time.Duration) {
	if g.identity.standing == standingRemoved || g.gaveUp {
		switch again := now-g.gaveUpAt >= g.node.options.ElectionTimeout; {
		case again && g.gaveUp:
			g.tellGivenUp(now)
		case again:
			g.tellRemoved(now)
		}
		return
	}
	if g.Held() {
		g.judgeFounding(now)
		g.askAll()
	}
	if g.awaitsOut() && !g.repair.leading {
		g.askOut()
	}
	g.repair.wanted = g.repair.wanted && g.repair.leading
}

// GiveUp tells that this replica can not go on, although its node does. The others are told, again and again: what they promised to the node holds.
func (g *Group) GiveUp(now time.Duration) {
	g.StepDown()
	g.repair.wanted, g.gaveUp = false, true
	g.tellGivenUp(now)
}

// tellGivenUp says that the replica is lost, on the disk that it is on: that of a node which comes back with nothing is another one.
func (g *Group) tellGivenUp(now time.Duration) {
	g.gaveUpAt = now
	if g.site.Disk == 0 {
		return
	}
	for _, node := range g.nodes {
		if node != g.node.options.Self {
			g.send(node, Message{Kind: KindQuestion, Standing: standingLost, Site: g.site, Replica: g.self})
		}
	}
}

// ConfigApplied tells that the entry at the index, which changes the membership, is applied.
func (g *Group) ConfigApplied(at consensus.Index, config consensus.Config) {
	g.config, g.changedAt = config, at
	g.repair.catchUpTo = at
	g.judgeNodes()
	g.judgeStanding()
	g.wantRepair()
}

// Unflushed tells whether a change of membership is applied and not yet durable.
func (g *Group) Unflushed() bool { return g.changedAt != 0 }

// Flushed tells that the state is durable up to the index.
func (g *Group) Flushed(upTo consensus.Index) {
	if g.changedAt != 0 && g.changedAt <= upTo {
		g.changedAt = 0
		g.judgeStanding()
	}
}

// Placed tells that the entry at the index, which changes the table of placements or the roster, is applied. What was learned meanwhile is in it. An error that
// wraps ErrLost says that this node's own replica was replaced.
func (g *Group) Placed(at consensus.Index, table []shard.Placement, seats kv.Roster) error {
	if seats.Version != g.seats.Version {
		// Whoever is lost by now and does not come back, since its node leaves, has acknowledged nothing above.
		g.repair.catchUpTo = max(g.repair.catchUpTo, at)
	}
	g.table, g.seats = table, seats
	for _, p := range table {
		if g.roster.learned[p.Node] <= p.Replica {
			delete(g.roster.learned, p.Node)
		}
		delete(g.roster.seen, p.Node)
		if own := &g.node.options; p.Node == own.Self && own.Disk != 0 && p.Replica >= g.self && p.Site != g.site {
			return g.replacedBy(p.Replica)
		}
	}
	g.judgeNodes()
	g.judgeStanding()
	g.wantRepair()
	return nil
}

// Installed tells that a snapshot took the place of the state, and is durable. The error is that of Placed.
func (g *Group) Installed(config consensus.Config, table []shard.Placement, seats kv.Roster) error {
	g.config, g.changedAt = config, 0
	return g.Placed(0, table, seats)
}

func (g *Group) replacedBy(id consensus.ReplicaID) error {
	return fmt.Errorf("%w: group %d: replica %d of this node is on another disk", ErrLost, g.id, id)
}

// fail stops the replica; the first reason counts.
func (g *Group) fail(err error) {
	if g.ready.Failed == nil {
		g.ready.Failed = err
	}
}
