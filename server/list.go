package server

import (
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/storage/keys"
)

// Shards says what this node knows of all shards.
func (n localNode) Shards() native.ShardList {
	s := n.s
	cluster := s.options.Cluster
	list := native.ShardList{Cluster: cluster.ID(), Member: s.options.NodeID(), Protocol: cluster.Protocol(), Partition: cluster.Partition.Flags()}
	for _, d := range s.descriptors {
		list.Shards = append(list.Shards, s.describe(d))
	}
	return list
}

// describe says what this node knows of a shard.
func (s *Server) describe(d partition.Descriptor) native.Shard {
	shard := native.Shard{ID: d.Shard, Lower: d.Lower, Upper: d.Upper, FirstSlot: uint32(d.FirstSlot), EndSlot: uint32(d.EndSlot), State: "member"}
	r := s.replica(d.Shard)
	if r == nil {
		shard.State = "could not be opened"
	} else {
		s.describeReplica(&shard, r)
	}
	if err := s.failedShards.of(d.Shard); err != nil {
		shard.State = "has stopped: " + err.Error()
	}
	return shard
}

func (s *Server) describeReplica(shard *native.Shard, r *driver.Replica) {
	shard.State = r.Standing()
	shard.Leader, shard.Term = r.Leader()
	shard.Applied, shard.Closed = r.Applied(), r.Revision()
	shard.Reads, shard.Writes = s.rates.of(shard.ID)
	var err error
	if shard.Keys, err = r.Keys(); err == nil {
		shard.Bytes, err = s.engine.SizeOf(keys.Spans(shard.ID))
	}
	if err != nil {
		shard.State = "cannot be read: " + err.Error()
	}
}

// leaderOf is who leads a shard as far as this node knows; 0: nobody.
func (s *Server) leaderOf(shard kv.ShardID) kv.NodeID {
	r := s.replica(shard)
	if r == nil {
		return 0
	}
	leader, _ := r.Leader()
	return leader
}
