package membership

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// marks is what a node knows of its own disk and of those of the others.
type marks struct {
	own   Mark // Invariant: its position is durable
	seen  map[kv.NodeID]disks
	heard map[kv.NodeID]uint64        // the process whose messages are acted upon in this round; 0: it does not say, or there are two
	told  map[kv.NodeID]time.Duration // when a node that was refused was last told what is known here

	changed bool // something is not yet sent to the others
}

// Sender says who sent a consensus frame, and how far its disk was written. What it does not say is 0.
type Sender struct{ Instance, Disk, Position uint64 }

// Sender is what this node says of itself in consensus frames.
func (n *Node) Sender() Sender {
	return Sender{Instance: n.options.Instance, Disk: n.options.Disk, Position: n.marks.own.Position}
}

// BeginRound tells that another batch of consensus messages is about to be admitted.
func (n *Node) BeginRound() { clear(n.marks.heard) }

// witness looks whether a message is of the process that is known, and on the disk that is known. An error means that nothing of it is to be
// acted upon: its sender has forgotten something, or is gone, or has still to say which process it is.
func (n *Node) witness(now time.Duration, node kv.NodeID, sender Sender) error {
	k := &n.marks
	if sender.Disk == 0 || !n.marking() || sender.Instance == 0 && n.formats[node] < FormatMarks {
		k.hears(node, 0) // such a message does not say: it is a snapshot, or of an older version; see judgeSender
		return nil
	}
	if known := k.seen[node].mark(sender.Disk); known != nil && known.present().Instance == sender.Instance {
		if sender.Position > known.Position {
			known.Position = sender.Position
			k.changed, n.record.unwritten = true, true
		}
		k.hears(node, sender.Instance)
		return nil
	}
	n.tellMarks(now, node)
	return fmt.Errorf("membership: a message came from a process of node %v on disk %x, and another one is known here to be on it, or none: "+
		"either it is late, or the node has yet to say that it has started again, or its disk is not as others have seen it", node, sender.Disk)
}

// hears notes whose message is acted upon next.
func (k *marks) hears(node kv.NodeID, instance uint64) {
	if before, heard := k.heard[node]; heard && before != instance {
		instance = 0
	}
	k.heard[node] = instance
}

// HeardInstance is the process of the node whose messages are acted upon in this round; 0 if that is not known for sure. Whoever
// takes it for the process of a leader must not guess: it would break a promise to another one.
func (n *Node) HeardInstance(node kv.NodeID) uint64 { return n.marks.heard[node] }

// beats tells whether the sender's process is the one whose heartbeats come.
func (n *Node) beats(node kv.NodeID, sender Sender) bool {
	return sender.Instance != 0 && n.liveness.Instance(node) == sender.Instance
}

// livesOnKnownDisk tells whether the process of the node that is known to be on the disk is alive: then nobody else speaks for the node, and
// what is said to be lost is not. A node that has lost something runs another process, which heartbeats show at once.
func (n *Node) livesOnKnownDisk(node kv.NodeID, disk uint64) bool {
	return disk != 0 && n.livesOn(node) == disk
}

// tellMarks lets a node know, now and then, what is known here, so that it says who it is, or finds out that it must stop.
func (n *Node) tellMarks(now time.Duration, node kv.NodeID) {
	if last, told := n.marks.told[node]; told && now-last < n.options.HeartbeatInterval/4 {
		return
	}
	n.marks.told[node] = now
	n.sendMarks(node)
}

// Receive takes what another node knows.
func (n *Node) Receive(now time.Duration, from kv.NodeID, all []NodeMark) {
	if !n.marking() {
		return
	}
	knowsThis, process := false, uint64(0)
	for i := range all {
		m := &all[i]
		if m.Node == from {
			process = m.present().Instance
		}
		if m.Node != n.options.Self {
			n.hear(now, from, m)
			continue
		}
		own := &n.marks.own
		if m.Disk == own.Disk && m.present() == own.present() && m.Position > own.Position {
			// What this process has written nobody knows better.
			n.refuse(from, "membership: node %v says that this process has made %d writes durable, and it has made %d", from, m.Position, own.Position)
			knowsThis = true
			continue
		}
		if m.Disk == own.Disk && !own.Continues(&m.Mark) {
			began := own.present().Began
			n.fail(fmt.Errorf("%w: this process began with write %d of disk %x, and node %v knows of %d writes by other processes: the data directory is an older image "+
				"of itself that was put back, or another process runs on a copy of it (stop that one), or the disk did not store what it said it had",
				ErrLost, began, own.Disk, from, m.Position))
			return
		}
		knowsThis = knowsThis || m.Disk == own.Disk && m.present() == own.present()
	}
	if process != 0 {
		n.witnesses.spoke(from, process)
	}
	if !knowsThis {
		n.tellMarks(now, from)
	}
}

// hear takes what a node says of a disk, its own or a third one's.
func (n *Node) hear(now time.Duration, from kv.NodeID, m *NodeMark) {
	if !slices.Contains(n.options.Nodes, m.Node) {
		return
	}
	all := n.marks.seen[m.Node]
	known := all.mark(m.Disk)
	switch {
	case known == nil:
		// On which disk it is the node says itself. Others are believed if a table says the same, or nothing is known of the node yet.
		if len(all) > 0 && m.Node != from && !n.has(m.Node, m.Disk) {
			return
		}
	case known.present() == m.present() && known.Position >= m.Position:
		return
	case !m.Continues(known):
		if m.Node == from && !known.Continues(&m.Mark) {
			n.refuse(from, "membership: node %v is on disk %x as it was before its write %d, which is known here: an older image of the disk was put back, "+
				"or another process runs on a copy of it, or it did not store what it said it had", from, m.Disk, known.Position)
			n.tellMarks(now, from)
		}
		return
	}
	n.saw(m.Node, m.Mark)
}

// spreadMarks tells the others what is new.
func (n *Node) spreadMarks() {
	if !n.marks.changed || !n.marking() {
		return
	}
	n.marks.changed = false
	for _, node := range n.others() {
		n.sendMarks(node)
	}
}

func (n *Node) sendMarks(to kv.NodeID) {
	if !n.marking() || n.formats[to] < FormatMarks {
		return
	}
	all := append([]NodeMark{{n.options.Self, n.marks.own}}, n.otherMarks()...)
	n.ready.Marks = append(n.ready.Marks, MarksTo{To: to, Marks: all})
}

// otherMarks are the marks of the disks of all other nodes that are known.
func (n *Node) otherMarks() (all []NodeMark) {
	for _, node := range n.options.Nodes {
		for _, m := range n.marks.seen[node] {
			all = append(all, NodeMark{node, m})
		}
	}
	return all
}
