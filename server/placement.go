package server

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/placement"
)

// Of the leaders of shards, which are moved to where they should be.
const (
	placementInterval = 100 * time.Millisecond
	// placementRest is how long a shard that could not be moved to a node stays where it is.
	placementRest = 5 * time.Second
	// maxMoves is how many shards a node gives away at a time. Each answers no writes for a few round trips.
	maxMoves = 16
	// maxBehind is how many entries the replica that is to lead may lack: those on the way while clients write.
	maxBehind = 256
)

// moveEnded is a move that is over.
type moveEnded struct {
	move placement.Move
	err  error
}

// placeLeaders gives shards that this node leads to other nodes, as the policy wants.
func (s *Server) placeLeaders() {
	cluster := s.options.Cluster
	policy := placement.Gathered
	if cluster.Leaders == LeadersSpread {
		policy = placement.Spread
	}
	var core *placement.Core
	version, begun := uint64(0), false      // of the list of members that the core goes by
	ended := make(chan moveEnded, maxMoves) // has room for all that are under way: whoever ends one does not wait
	ticker := time.NewTicker(placementInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case e := <-ended: // one has begun, so there is a core
			core.Ended(s.clock(), e.move, e.err == nil)
			s.logger.Debug("moved the leader of a shard", "shard", uint64(e.move.Shard), "to", e.move.To, "error", e.err)
		case <-ticker.C:
			list := s.roster.newest()
			if !begun || list.Version != version {
				// What the core knows of nodes and moves it learns again. What is under way counts for it as nothing that it wanted.
				var err error
				if core, err = placement.New(placement.Options{
					Self: s.options.NodeID(), Nodes: s.mayLead(list), Shards: cluster.Partition.ShardIDs(), Policy: policy,
					Settle: 2 * cluster.ElectionTimeout, Rest: placementRest, MaxMoves: maxMoves,
				}, s.clock()); err != nil {
					s.fail(err)
					return
				}
				version, begun = list.Version, true
			}
			s.placeOnce(core, ended)
		}
	}
}

// mayLead are the nodes with a vote, and this one, which the core has to know.
func (s *Server) mayLead(list *members.List) (nodes []kv.NodeID) {
	nodes = append(nodes, s.options.NodeID())
	for i := range list.Members {
		if m := &list.Members[i]; !m.Learner {
			nodes = append(nodes, m.ID)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// placeOnce tells the core what is known now, and begins what it decides. A node that is about to stop hands everything over anyway.
func (s *Server) placeOnce(core *placement.Core, ended chan<- moveEnded) {
	if s.leaving.Load() {
		return
	}
	now := s.clock()
	for _, d := range s.descriptors {
		core.Leader(now, d.Shard, s.leaderOf(d.Shard))
	}
	for _, peer := range s.transport.Metrics().Peers {
		core.Reachable(now, peer.Node, peer.Connected)
	}
	for _, m := range core.Moves(now) {
		s.replica(m.Shard).TransferUnlessBehind(m.To, maxBehind, func(err error) { ended <- moveEnded{m, err} })
	}
}

// leads counts the shards that this node leads, and those of which it knows no leader.
func (s *Server) leads() (led, leaderless int) {
	for _, d := range s.descriptors {
		switch s.leaderOf(d.Shard) {
		case 0:
			leaderless++
		case s.options.NodeID():
			led++
		}
	}
	return led, leaderless
}
