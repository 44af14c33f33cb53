package membership

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// A replica that is removed leaves a row which says so: the same disk is never taken for it again. If the group comes back to the disk, that is
// another life, and another replica; see shard.Site. The others do not see from outside that it is gone, since its node goes on sending heartbeats, to
// which they are bound. So they are told, each until it says that it knows. Whoever restarts meanwhile was bound by nothing.

// RemovedRow is the row that says that this replica was removed; nil if it never took part in anything, so that none is needed. It is to be durable before
// the log of the replica goes.
func (g *Group) RemovedRow() []byte {
	switch {
	case g.site.Disk == 0:
		return nil
	case g.identity.saving != 0: // it may be durable already
		return g.row(g.identity.saving, true)
	case g.Held():
		return nil
	}
	return g.row(g.self, true)
}

// Remove tells that this replica is no more. Its node's others may go on.
func (g *Group) Remove(now time.Duration) {
	n := g.node
	n.groups = slices.DeleteFunc(n.groups, func(o *Group) bool { return o == g })
	g.StepDown()
	held := g.Held()
	g.identity.standing, g.identity.saving, g.gaveUp, g.repair.wanted = standingRemoved, 0, false, false
	if held || g.site.Disk == 0 {
		return
	}
	g.site.Life++
	for _, node := range g.nodes {
		if node != n.options.Self {
			g.untold = append(g.untold, node)
		}
	}
	g.tellRemoved(now)
}

// tellRemoved says it to those who have not said that they know.
func (g *Group) tellRemoved(now time.Duration) {
	g.gaveUpAt = now
	for _, node := range g.untold {
		g.send(node, Message{Kind: KindQuestion, Site: g.site, Replica: g.self})
	}
}

// toldRemoved takes note that a node knows.
func (g *Group) toldRemoved(node kv.NodeID) {
	g.untold = slices.DeleteFunc(g.untold, func(o kv.NodeID) bool { return o == node })
}
