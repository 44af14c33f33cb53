package shard

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Site is where a replica is. Of one shard there may be several on a disk, one after the other, if the one before was removed: each has a life of its own.
type Site struct {
	Disk uint64
	Life uint64 // 0 is the first
}

// Follows tells whether the site is of a later life on the same disk: whatever was at the other one is gone.
func (s Site) Follows(o Site) bool { return s.Disk == o.Disk && s.Life > o.Life }

// Placement says which replica of the shard lives on a node, and on which disk. A replica is what is on
// one disk: what comes back on another one, or after it was removed, has forgotten what it voted for, and is another replica.
type Placement struct {
	Node kv.NodeID
	Site
	Replica consensus.ReplicaID
}

// MaxReplicaID is the greatest replica ID that is assigned: ballots of Multi-Paxos keep it in 16 bits.
const MaxReplicaID = 1<<replicaBits - 1

// MaxLife is the last life that a disk can have of a shard.
const MaxLife = 1<<(64-replicaBits) - 1

const replicaBits = 16

// Placements returns the newest replica of every node whose disk is known, by node. A node that is not among them
// has its first replica, on whichever disk. The slice is not to be changed. Shared.
func (m *Machine) Placements() []Placement { return m.applied.Placements }

// place notes the newest replica of a node. What it had before is no replica of the shard any more.
func (s *State) place(p Placement) {
	placements := slices.DeleteFunc(slices.Clone(s.Placements), func(o Placement) bool { return o.Node == p.Node })
	placements = append(placements, p)
	slices.SortFunc(placements, func(a, b Placement) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	s.Placements = placements
	s.NextReplica = max(s.nextReplica(), p.Replica+1)
}

// nextReplica is an ID that no replica of the shard ever had.
func (s *State) nextReplica() consensus.ReplicaID {
	next := max(s.NextReplica, 1)
	if s.Config != nil {
		for _, id := range s.Config.Members() {
			next = max(next, id+1)
		}
	}
	return next
}

// assignRequest decides which replica the disk holds.
func (m *Machine) assignRequest(r *kv.AssignReplicaRequest) (*kv.Response, error) {
	state := m.applied
	m.lead.overlay.eachOp(func(p *op) {
		if p.kind == opReplica {
			state.place(p.replica)
		}
	})
	answer := &kv.Response{Kind: kv.KindAssignReplica}
	at := slices.IndexFunc(state.Placements, func(p Placement) bool { return p.Node == r.Node })
	placement := Placement{Node: r.Node, Site: Site{r.Disk, r.Life}, Replica: consensus.ReplicaID(r.First)}
	newest, known := placement.Replica, at >= 0
	if known {
		newest = state.Placements[at].Replica
	}
	switch {
	case known && state.Placements[at].Site == placement.Site:
		return answer, nil
	case r.Replaces != 0 && consensus.ReplicaID(r.Replaces) == newest:
		placement.Replica = state.nextReplica()
	case known || r.Replaces != 0:
		return answer, nil // somebody was quicker, or the request comes late
	case r.First == 0: // the shard began without the node
		placement.Replica = state.nextReplica()
	}
	if placement.Replica > MaxReplicaID {
		return nil, fmt.Errorf("the shard has used up all %d replica IDs: %w", MaxReplicaID, kv.ErrInvalidRequest)
	}
	m.lead.overlay.addOp(op{kind: opReplica, replica: placement})
	return answer, nil
}

// appendPlacement keeps replica and life in one number. Versions that knew nothing of lives refuse one that is not the first.
func appendPlacement(buf []byte, p *Placement) []byte {
	buf = binary.AppendUvarint(buf, uint64(p.Node))
	buf = binary.AppendUvarint(buf, p.Disk)
	return binary.AppendUvarint(buf, p.Life<<replicaBits|uint64(p.Replica))
}

func (d *decoder) placement() Placement {
	p := Placement{Node: kv.NodeID(d.uvarint()), Site: Site{Disk: d.uvarint()}}
	life := d.uvarint()
	p.Replica, p.Life = consensus.ReplicaID(life&MaxReplicaID), life>>replicaBits
	if d.err == nil && (p.Node == 0 || p.Replica == 0) {
		d.fail("a replica of nobody")
	}
	return p
}

func (d *decoder) placements(s *State) {
	s.NextReplica = consensus.ReplicaID(d.uvarint())
	for range d.count(3) {
		s.Placements = append(s.Placements, d.placement())
	}
}
