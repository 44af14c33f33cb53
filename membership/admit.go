package membership

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// What a message may claim. Whoever reaches the port for nodes can say anything, so what one message says must not undo a replica: what it claims
// about its sender is judged before anything in it is acted upon, and what it claims about this node has to agree with what this node knows
// itself. Disk IDs are random and told to the other nodes only, on connections to the addresses that this node has for them; so who does not know
// the ID of a sender's disk is not that sender. Terms and indexes the consensus cores judge, see consensus.Known.Judge.

// Arrival is what a consensus message says of where it comes from.
type Arrival struct {
	Node     kv.NodeID // that the connection is to
	From, To consensus.ReplicaID
	Life     uint64 // of the sender, on its disk
	// Sender is zero if the message does not say.
	Sender Sender
	// Snapshot: it came with a snapshot, in a stream, and says nothing of its sender.
	Snapshot bool
}

// Admit tells why a message may not reach the consensus core; nil if it may. A replica that is held is not asked: nothing reaches its core.
func (g *Group) Admit(now time.Duration, m Arrival) error {
	n := g.node
	newest := g.Newest(m.Node)
	if newest == 0 && !g.hasNode(m.Node) {
		if g.out(m.Node) && m.Sender.Disk != 0 && g.mayTell(now, m.Node) {
			g.send(m.Node, Message{Kind: KindAnswer, Site: shard.Site{Disk: m.Sender.Disk, Life: m.Life}, Out: true})
		}
		return fmt.Errorf("membership: a message came from node %v, which is not of this group", m.Node)
	}
	if !m.Snapshot && n.marking() {
		if err := judgeSender(m.Sender, n.formats[m.Node]); err != nil {
			return err
		}
	}
	site := shard.Site{Disk: m.Sender.Disk, Life: m.Life}
	if g.roster.later[m.Node].Follows(site) {
		return fmt.Errorf("membership: a message of replica %d of node %v came late: the node has removed it", m.From, m.Node)
	}
	if m.From < newest && g.livesOn(m.Node, m.From, site, m.Sender) {
		delete(g.roster.learned, m.Node) // whoever spoke for a newer replica did not speak for the node
		newest = m.From
	}
	switch {
	case m.From < newest:
		g.tellPlacement(now, m.Node, site)
		return fmt.Errorf("membership: a message came from replica %d of node %v, which was replaced by replica %d", m.From, m.Node, newest)
	case m.From == g.roster.gone[m.Node] && !n.beats(m.Node, m.Sender):
		return fmt.Errorf("membership: a message of replica %d of node %v came late: the node has lost it", m.From, m.Node)
	case m.From > newest:
		placed, _ := g.placement(m.Node)
		if n.options.Disk == 0 || !g.mayBeNewer(m.From, placed, site) || !g.mayClaim(m.Node, site, placed.Site) {
			return fmt.Errorf("membership: a message from replica %d came from node %v, where replica %d lives", m.From, m.Node, newest)
		}
		g.roster.learned[m.Node] = m.From
	}
	if m.To != g.self {
		if m.To > g.self {
			g.askPlacement(now, m.Node)
		}
		return fmt.Errorf("membership: node %v sent a message to replica %d, but this is replica %d", m.Node, m.To, g.self)
	}
	if len(g.roster.gone) > 0 {
		delete(g.roster.gone, m.Node) // if it was there, a second process of the node had claimed that, and the first one is heard again
	}
	if err := g.fence(now, m.Node, m.From, site); err != nil {
		return err
	}
	if err := n.witness(now, m.Node, m.Sender); err != nil {
		return err
	}
	g.noteDisk(m.Node, m.From, site)
	return nil
}

// judgeSender tells why nothing of a message is acted upon, by the form in which it names its sender. version is the one of the frames that are
// spoken with the node; 0 if this node was never connected to it.
func judgeSender(s Sender, version uint16) error {
	switch {
	case s.Disk == 0:
		return fmt.Errorf("membership: a message does not say which disk its sender is on, as messages of all versions do")
	case s.Instance == 0 && version == 0:
		return fmt.Errorf("membership: a message came in the form of version %d before this node could find out whether its sender is that old: it comes again", FormatMarks-1)
	case s.Instance == 0 && version >= FormatMarks:
		return fmt.Errorf("membership: a message came in the form of version %d, and its sender speaks version %d: it is late, or not of that node", FormatMarks-1, version)
	}
	return nil
}

// mayBeNewer tells whether a replica that is newer than the newest one known may be on the node. The table may lag behind here, so it often is. But
// IDs are given out one by one, to disks that have none: what the table has on the sender's disk is not followed by another one there, but in a later life.
func (g *Group) mayBeNewer(id consensus.ReplicaID, placed shard.Placement, site shard.Site) bool {
	return id > g.lastFirst() && id <= shard.MaxReplicaID && (placed.Disk != site.Disk || placed.Disk == 0 || site.Follows(placed.Site))
}

// livesOn tells whether the table has the replica where the message came from, and the process there is the one whose heartbeats come.
func (g *Group) livesOn(node kv.NodeID, id consensus.ReplicaID, site shard.Site, s Sender) bool {
	p, ok := g.placement(node)
	return ok && p.Replica == id && p.Site == site && g.node.beats(node, s)
}

// fence refuses a node that took the place of a replica whose disk it does not have: it knows nothing of what the
// replica voted for and acknowledged.
func (g *Group) fence(now time.Duration, node kv.NodeID, id consensus.ReplicaID, site shard.Site) error {
	if site.Disk == 0 {
		return nil // a snapshot, or a driver that does without disk IDs
	}
	known := shard.Site{} // of a replica newer than the table here
	if p, ok := g.placement(node); ok && p.Replica == id {
		known = p.Site
	} else if id == g.firstOn(node) {
		known = g.roster.seen[node]
	}
	switch {
	case known == site:
		return nil
	case known == (shard.Site{}):
		if lives := g.node.livesOn(node); lives != 0 && lives != site.Disk {
			return fmt.Errorf("membership: a message of replica %d of node %v came from disk %x, and the node's process is on disk %x", id, node, site.Disk, lives)
		}
		return nil
	}
	g.tellPlacement(now, node, site)
	return fmt.Errorf("membership: node %v says that it is replica %d, but its disk %x is not the one that this replica was on, %x: "+
		"what the replica knew is lost, and the node has to join as a new one", node, id, site.Disk, known.Disk)
}

// noteDisk remembers the disk of a first replica, as long as the table does not: the first one that was heard counts.
func (g *Group) noteDisk(node kv.NodeID, id consensus.ReplicaID, site shard.Site) {
	if site.Disk == 0 || id != g.firstOn(node) || g.roster.seen[node] != (shard.Site{}) {
		return
	}
	if p, ok := g.placement(node); ok && p.Replica == id {
		return
	}
	g.roster.seen[node] = site
	g.wantRepair()
}
