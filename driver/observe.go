package driver

import "github.com/quoratedb/quorate/kv"

// Backers are the other nodes whose promises the lease for reads rests on at this moment; none if there is no lease. For the simulator, between
// rounds.
func (r *Replica) Backers() (nodes []kv.NodeID) {
	d, l := r.driven.driver, r.lease.Load()
	if l == nil || !l.Valid(d.support, d.clock()) {
		return nil
	}
	for i := range l.Sets {
		for _, v := range l.Sets[i].Voters {
			if v.Node != l.Self && d.support.Holds(v.Node, v.Generation, d.clock()) {
				nodes = append(nodes, d.places[v.Node])
			}
		}
	}
	return nodes
}

// HoldsStill tells whether this replica neither votes against a leader on the node nor campaigns: a promise to it binds, or to anybody whom a process before
// this one may have promised something, or it does not take part yet. For the simulator, between rounds.
func (r *Replica) HoldsStill(leader kv.NodeID) bool {
	now, of := r.front.clock(), r.driven
	return of.held() || !of.driver.live.MayVote(now) || of.leadership.Followed().Node == leader && of.leadership.Holding(now)
}
