package replica

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// What a leader does so that every node has a replica: it notes which disk each first replica is on, gives a node that
// lost its replica a new one, and changes the membership accordingly. Everything it goes by is in the log or comes
// again by itself, so that the next leader goes on.

// unsettle has the leader look, at the next tick, whether something is to be done.
func (r *Replica) unsettle() {
	if s := r.store; !r.unsettled && s.opts.Disk != 0 {
		r.unsettled = true
		s.unsettled = append(s.unsettled, r)
	}
}

// manage lets the leaders of groups that are not as they should be do the next step.
func (s *Store) manage() {
	kept := s.unsettled[:0]
	for _, r := range s.unsettled {
		if r.unsettled = r.leading && r.manage(); r.unsettled {
			kept = append(kept, r)
		}
	}
	clear(s.unsettled[len(kept):])
	s.unsettled = kept
}

// manage does one step, and tells whether there may be more.
func (r *Replica) manage() (more bool) {
	if r.assigning {
		return true
	}
	unknown := false
	for _, node := range r.store.opts.Nodes {
		if request := r.assignable(node); request.Disk != 0 {
			r.assign(request)
			return true
		}
		if _, placed := r.placement(node); !placed {
			unknown = true
		}
	}
	return r.changeMembership() || unknown
}

// claim is the request of a node that lost its replica.
type claim struct {
	disk     uint64
	replaces consensus.ReplicaID
}

// assignable returns what the table should say about the node and does not; Disk is 0 if there is nothing.
func (r *Replica) assignable(node kv.NodeID) kv.AssignReplicaRequest {
	request := kv.AssignReplicaRequest{Node: node, First: uint64(r.store.first(node))}
	p, placed := r.placement(node)
	newest := p.Replica
	if !placed {
		newest = r.store.first(node)
	}
	if claim, ok := r.claims[node]; ok {
		if claim.replaces == newest && p.Disk != claim.disk {
			request.Disk, request.Replaces = claim.disk, uint64(claim.replaces)
			return request
		}
		delete(r.claims, node)
	}
	switch {
	case placed:
	case node == r.store.opts.Self:
		request.Disk = r.store.opts.Disk
	default:
		request.Disk = r.seen[node]
	}
	return request
}

// assign has the table say which disk a node's replica is on.
func (r *Replica) assign(request kv.AssignReplicaRequest) {
	r.assigning = true
	r.Propose(&kv.Request{Kind: kv.KindAssignReplica, AssignReplica: &request}, nil, func(*kv.Response, uint64, error) {
		// Whatever became of it: the table shows it.
		r.assigning = false
	})
}

// changeMembership proposes the next step, and tells whether there is one to come.
func (r *Replica) changeMembership() (more bool) {
	status := r.core.Status()
	m := membership{self: r.self, config: status.Config, wanted: r.wanted(), replicas: status.Replicas, settledAt: r.settledAt}
	if m.settled() {
		return false
	}
	target, change := m.next()
	if change && r.core.ProposeConfig(target) == nil { // otherwise it is tried again: another change is not finished, or the core knows better
		r.reckonLease() // a core may not allow leases during a change
		r.store.markDirty(r)
		r.store.setTicking(r, true)
	}
	return true
}
