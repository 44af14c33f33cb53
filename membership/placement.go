package membership

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// roster is what is known of replicas beside the table, which may lag behind here.
type roster struct {
	learned map[kv.NodeID]consensus.ReplicaID // replicas that are newer than the table, from their own messages
	seen    map[kv.NodeID]shard.Site          // of first replicas that are not in the table
	later   map[kv.NodeID]shard.Site          // whatever was on this disk in an earlier life was removed
	gone    map[kv.NodeID]consensus.ReplicaID // replicas that their nodes have declared lost
}

func newRoster() roster {
	return roster{learned: make(map[kv.NodeID]consensus.ReplicaID), seen: make(map[kv.NodeID]shard.Site), later: make(map[kv.NodeID]shard.Site), gone: make(map[kv.NodeID]consensus.ReplicaID)}
}

// firstOn is the replica that the group began with on the node; 0: none.
func (g *Group) firstOn(node kv.NodeID) consensus.ReplicaID {
	if seat, ok := g.seats.Seat(node); ok {
		return consensus.ReplicaID(seat.First)
	}
	for _, h := range g.first {
		if h.Node == node {
			return h.Replica
		}
	}
	return 0
}

// placement returns what the table says about the node.
func (g *Group) placement(node kv.NodeID) (shard.Placement, bool) {
	for _, p := range g.table {
		if p.Node == node {
			return p, true
		}
	}
	return shard.Placement{}, false
}

// siteOn is where the newest replica of the node is that is in the table, or the first one if it has been heard; zero: nobody knows.
func (g *Group) siteOn(node kv.NodeID) shard.Site {
	if p, ok := g.placement(node); ok {
		return p.Site
	}
	return g.roster.seen[node]
}

// placed is the newest replica of the node as the table says; 0: it has none.
func (g *Group) placed(node kv.NodeID) consensus.ReplicaID {
	if p, ok := g.placement(node); ok {
		return p.Replica
	}
	return g.firstOn(node)
}

// Newest is the newest replica that is known to live on the node; 0: none, or the group has nothing to do with the node.
func (g *Group) Newest(node kv.NodeID) consensus.ReplicaID {
	if !g.hasNode(node) {
		return 0
	}
	return max(g.placed(node), g.roster.learned[node])
}

// NodeOf finds the node that a replica lives on. A replica that was replaced lives nowhere.
func (g *Group) NodeOf(id consensus.ReplicaID) (kv.NodeID, bool) {
	if id == 0 {
		return 0, false
	}
	for _, node := range g.nodes {
		if g.Newest(node) == id {
			return node, true
		}
	}
	return 0, false
}

// lastFirst is the greatest ID that the group began with: whatever is greater was given out later.
func (g *Group) lastFirst() (last consensus.ReplicaID) {
	for _, h := range g.first {
		last = max(last, h.Replica)
	}
	for _, seat := range g.seats.Seats {
		last = max(last, consensus.ReplicaID(seat.First))
	}
	return last
}
