package membership

import (
	"maps"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Of a node several disks may matter at once. When a disk took the place of another one, each group finds that out for itself, and puts it into its own table;
// one that has no quorum may take as long as it likes. Until then its replica of that node is the one on the disk before, and the others' are on the
// new one. So each disk has a mark of its own, and a message is judged by that of the disk which its sender is on: Group.fence has compared this disk
// with the group's table before.
//
// A mark is kept as long as a group has a replica of the node on the disk: an older image of it must not be taken for a disk that nobody has seen before.
// Of disks that no group has a replica on the last few are kept, because the tables may lag behind here.

// spareDisks is how many disks of a node are remembered although no group has a replica on them.
const spareDisks = 4

// disks are the marks of one node's disks, in the order in which they were first heard of. Invariant: each is of another disk.
type disks []Mark

// mark is that of the disk; nil: nothing is known of it. It is valid until another disk is added.
func (d disks) mark(disk uint64) *Mark {
	for i := range d {
		if d[i].Disk == disk {
			return &d[i]
		}
	}
	return nil
}

// cloneDisks copies what is known of all nodes. Processes are never changed in place.
func cloneDisks(seen map[kv.NodeID]disks) map[kv.NodeID]disks {
	clone := maps.Clone(seen)
	for node, known := range clone {
		clone[node] = slices.Clone(known)
	}
	return clone
}

// saw remembers how far a disk is.
func (n *Node) saw(node kv.NodeID, m Mark) {
	if known := n.marks.seen[node].mark(m.Disk); known != nil {
		*known = m
	} else {
		n.marks.seen[node] = append(n.forgetDisks(node), m)
	}
	n.marks.changed, n.record.unwritten = true, true
}

// forgetDisks returns what is known of the node's disks, without the oldest of those that no group has a replica on, if they are too many with another one.
func (n *Node) forgetDisks(node kv.NodeID) disks {
	spare := 1
	for _, m := range n.marks.seen[node] {
		if !n.has(node, m.Disk) {
			spare++
		}
	}
	return slices.DeleteFunc(n.marks.seen[node], func(m Mark) bool {
		drop := spare > spareDisks && !n.has(node, m.Disk)
		if drop {
			spare--
		}
		return drop
	})
}

// has tells whether a group has the node's replica on that disk, as far as is known here.
func (n *Node) has(node kv.NodeID, disk uint64) bool {
	return slices.ContainsFunc(n.groups, func(g *Group) bool { return g.siteOn(node).Disk == disk })
}

// livesOn is the disk that the process of the node is on whose heartbeats come; 0: there are none, or it has not been heard of.
func (n *Node) livesOn(node kv.NodeID) (disk uint64) {
	instance := n.liveness.Instance(node)
	for _, m := range n.marks.seen[node] {
		if m.present().Instance == instance && n.liveness.Alive(node) {
			return m.Disk
		}
	}
	return 0
}
