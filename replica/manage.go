package replica

import (
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
		disk, lost := r.assignable(node)
		if disk != 0 {
			r.assign(node, disk, lost)
			return true
		}
		if _, placed := r.placement(node); !placed {
			unknown = true
		}
	}
	return r.changeMembership() || unknown
}

// assignable returns the disk that the table should have for the node and has not; 0 if there is none.
func (r *Replica) assignable(node kv.NodeID) (disk uint64, lost bool) {
	p, placed := r.placement(node)
	if claim := r.claims[node]; claim != 0 {
		if !placed || p.Disk != claim {
			return claim, true
		}
		delete(r.claims, node)
	}
	switch {
	case placed:
		return 0, false
	case node == r.store.opts.Self:
		return r.store.opts.Disk, false
	}
	return r.seen[node], false
}

// assign has the table say which disk a node's replica is on.
func (r *Replica) assign(node kv.NodeID, disk uint64, lost bool) {
	r.assigning = true
	req := &kv.Request{Kind: kv.KindAssignReplica, AssignReplica: &kv.AssignReplicaRequest{Node: node, Disk: disk, First: uint64(r.store.first(node)), Lost: lost}}
	r.Propose(req, func(*kv.Response, uint64, error) {
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
		r.publishLease() // a core may not allow leases during a change
		r.store.markDirty(r)
		r.store.setTicking(r, true)
	}
	return true
}
