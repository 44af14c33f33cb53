package server

import (
	"time"

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
	nodes, _ := s.nodes()
	policy := placement.Gathered
	if cluster.Leaders == LeadersSpread {
		policy = placement.Spread
	}
	core, err := placement.New(placement.Options{
		Self: s.options.NodeID(), Nodes: nodes, Shards: cluster.Partition.ShardIDs(), Policy: policy,
		Settle: 2 * cluster.ElectionTimeout, Rest: placementRest, MaxMoves: maxMoves,
	}, s.clock())
	if err != nil {
		s.fail(err)
		return
	}
	ended := make(chan moveEnded, maxMoves) // has room for all that are under way: whoever ends one does not wait
	ticker := time.NewTicker(placementInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case e := <-ended:
			core.Ended(s.clock(), e.move, e.err == nil)
			s.logger.Debug("moved the leader of a shard", "shard", uint64(e.move.Shard), "to", e.move.To, "error", e.err)
		case <-ticker.C:
			s.placeOnce(core, ended)
		}
	}
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
