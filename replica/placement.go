package replica

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Which replica lives on which node is in the state machine (shard.Placement). A node that is not there has its first
// replica: that of its position in Options.Nodes. The table may lag behind here; a replica that is newer than it is
// learned from its own messages.

// first is the replica that the node started the cluster with.
func (s *Store) first(node kv.NodeID) consensus.ReplicaID {
	i, ok := s.support.index[node]
	if !ok {
		return 0
	}
	return consensus.ReplicaID(i + 1)
}

// placement returns what the table says about the node.
func (r *Replica) placement(node kv.NodeID) (shard.Placement, bool) {
	for _, p := range r.machine.Placements() {
		if p.Node == node {
			return p, true
		}
	}
	return shard.Placement{}, false
}

// newest is the newest replica that is known to live on the node.
func (r *Replica) newest(node kv.NodeID) consensus.ReplicaID {
	id := r.store.first(node)
	if p, ok := r.placement(node); ok {
		id = p.Replica
	}
	return max(id, r.learned[node])
}

// nodeOf finds the node that a replica lives on. A replica that was replaced lives nowhere.
func (r *Replica) nodeOf(id consensus.ReplicaID) (kv.NodeID, bool) {
	if id == 0 {
		return 0, false
	}
	for _, node := range r.store.opts.Nodes {
		if r.newest(node) == id {
			return node, true
		}
	}
	return 0, false
}

// admit tells why a message may not reach the core; nil if it may.
func (r *Replica) admit(m *groupMessage) error {
	from := m.message.From
	newest := r.newest(m.from)
	if newest == 0 {
		return fmt.Errorf("replica: a message came from node %v, which is not of this cluster", m.from)
	}
	if m.staged == nil && r.store.marking() {
		if err := judgeSender(m.sender, r.store.formats[m.from]); err != nil {
			return err
		}
	}
	if from < newest && r.livesOn(m.from, from, m.sender) {
		delete(r.learned, m.from) // whoever spoke for a newer replica did not speak for the node
		newest = from
	}
	switch {
	case from < newest:
		r.tellPlacement(m.from, m.sender.disk)
		return fmt.Errorf("replica: a message came from replica %d of node %v, which was replaced by replica %d", from, m.from, newest)
	case from == r.gone[m.from] && !r.store.beats(m.from, m.sender):
		return fmt.Errorf("replica: a message of replica %d of node %v came late: the node has lost it", from, m.from)
	case from > newest:
		placed, _ := r.placement(m.from)
		if r.store.opts.Disk == 0 || !mayBeNewer(from, len(r.store.opts.Nodes), placed, m.sender.disk) || r.store.livesOnKnownDisk(m.from, placed.Disk) {
			return fmt.Errorf("replica: a message from replica %d came from node %v, where replica %d lives", from, m.from, newest)
		}
		r.learned[m.from] = from
	}
	if m.message.To != r.self {
		if m.message.To > r.self {
			r.askPlacement(m.from)
		}
		return fmt.Errorf("replica: node %v sent a message to replica %d, but this is replica %d", m.from, m.message.To, r.self)
	}
	if len(r.gone) > 0 {
		delete(r.gone, m.from) // if it was there, a second process of the node had claimed that, and the first one is heard again
	}
	if err := r.fence(m.from, from, m.sender.disk); err != nil {
		return err
	}
	if err := r.store.witness(m.from, m.sender); err != nil {
		return err
	}
	r.noteDisk(m.from, from, m.sender.disk)
	return nil
}

// livesOn tells whether the table has the replica where the message came from, and the process there is the one whose heartbeats come.
func (r *Replica) livesOn(node kv.NodeID, id consensus.ReplicaID, s sender) bool {
	p, ok := r.placement(node)
	return ok && p.Replica == id && p.Disk == s.disk && r.store.beats(node, s)
}

// fence refuses a node that took the place of a replica whose disk it does not have: it knows nothing of what the
// replica voted for and acknowledged.
func (r *Replica) fence(node kv.NodeID, id consensus.ReplicaID, disk uint64) error {
	if disk == 0 {
		return nil // a snapshot, or a driver that does without disk IDs
	}
	known := uint64(0) // of a replica newer than the table here
	if p, ok := r.placement(node); ok && p.Replica == id {
		known = p.Disk
	} else if id == r.store.first(node) {
		known = r.seen[node]
	}
	if known == 0 || known == disk {
		return nil
	}
	r.tellPlacement(node, disk)
	return fmt.Errorf("replica: node %v says that it is replica %d, but its disk %x is not the one that this replica was on, %x: "+
		"what the replica knew is lost, and the node has to join as a new one", node, id, disk, known)
}

// noteDisk remembers the disk of a first replica, as long as the table does not: the first one that was heard counts.
func (r *Replica) noteDisk(node kv.NodeID, id consensus.ReplicaID, disk uint64) {
	if disk == 0 || id != r.store.first(node) || r.seen[node] != 0 {
		return
	}
	if p, ok := r.placement(node); ok && p.Replica == id {
		return
	}
	r.seen[node] = disk
	r.unsettle()
}

// wanted are the replicas that the group should consist of: the newest of every node as the table says, ascending.
func (r *Replica) wanted() (ids []consensus.ReplicaID) {
	for _, node := range r.store.opts.Nodes {
		id := r.store.first(node)
		if p, ok := r.placement(node); ok {
			id = p.Replica
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
