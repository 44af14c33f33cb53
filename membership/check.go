package membership

import (
	"fmt"
	"slices"
)

// Check verifies the invariants of the node, not those of its groups.
func (n *Node) Check() error {
	k, r := &n.marks, &n.record
	switch {
	case n.marking() && k.own.Position > max(r.syncing, k.own.present().Began):
		return fmt.Errorf("membership: %d writes of this disk count as durable, and %d are", k.own.Position, r.syncing)
	case r.syncing > r.position || r.pendingAt > r.position:
		return fmt.Errorf("membership: writes %d and %d are on their way to the disk, and there are %d", r.syncing, r.pendingAt, r.position)
	case len(k.seen[n.options.Self]) > 0:
		return fmt.Errorf("membership: this node takes its own disk for one of the others'")
	}
	for node, known := range k.seen {
		for i := range known {
			if known.mark(known[i].Disk) != &known[i] {
				return fmt.Errorf("membership: disk %x of node %v has two marks", known[i].Disk, node)
			}
		}
	}
	return checkProcesses(k.own)
}

func checkProcesses(m Mark) error {
	ascend := slices.IsSortedFunc(m.Processes, func(a, b Process) int {
		if a.Began < b.Began {
			return -1
		}
		return 1
	})
	if len(m.Processes) < 1 || len(m.Processes) > maxProcesses || !ascend {
		return fmt.Errorf("membership: this disk remembers the processes %v", m.Processes)
	}
	return nil
}

// Check verifies the invariants of the group.
func (g *Group) Check() error {
	switch {
	case g.self == 0 && !g.Held() && g.identity.standing != standingRemoved:
		return fmt.Errorf("membership: group %d: nobody is no replica", g.id)
	case g.Held() && g.repair.leading:
		return fmt.Errorf("membership: group %d: replica %d leads, and does not know who it is", g.id, g.self)
	case g.identity.saving != 0 && !g.Held():
		return fmt.Errorf("membership: group %d: replica %d takes part, and is to become replica %d", g.id, g.self, g.identity.saving)
	case g.repair.wanted && g.node.options.Disk == 0:
		return fmt.Errorf("membership: group %d: disks are not told apart, and something is to be repaired", g.id)
	case !g.repair.leading && g.ready.Change != nil:
		return fmt.Errorf("membership: group %d: replica %d does not lead, and changes the membership", g.id, g.self)
	}
	for node, id := range g.roster.learned {
		if id <= g.placed(node) {
			return fmt.Errorf("membership: group %d: replica %d was learned of node %v, and the table has replica %d", g.id, id, node, g.placed(node))
		}
	}
	if nodes := g.reckonNodes(); !slices.Equal(nodes, g.nodes) {
		return fmt.Errorf("membership: group %d: the replica has to do with %v, and goes by %v", g.id, nodes, g.nodes)
	}
	for node := range g.roster.seen {
		if _, ok := g.placement(node); ok {
			return fmt.Errorf("membership: group %d: the disk of node %v is remembered beside the table", g.id, node)
		}
	}
	return nil
}
