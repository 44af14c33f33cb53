package server

import (
	"fmt"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
)

// The shards of a store have one count of revisions: an issuer at each node stands between its driver, its gateway and the sequencer.

// openIssuer makes the issuer, if there is to be one, and has the driver number writes by it. Attach follows.
func (s *Server) openIssuer(instance uint64, o *driver.Options) (err error) {
	if !s.many() {
		return nil
	}
	s.issuer, err = issuer.New(issuer.Options{
		Self: s.options.NodeID(), Instance: instance, Shards: s.options.Cluster.Partition.ShardIDs(), Sender: frames{s.transport},
		ElectionTimeout: s.options.Cluster.ElectionTimeout,
		Refused: func(from kv.NodeID, err error) {
			if s.quiet.allows("sequencer", from.String(), s.clock()) {
				s.logger.Warn("a frame for the sequencer, or from it, was refused", "from", from, "reason", err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("number the writes of several shards: %w", err)
	}
	o.Numbers, o.Sequencing = s.issuer, s.issuer
	return nil
}

// revision is the highest that this node knows of.
func (s *Server) revision() kv.Revision {
	if s.issuer != nil {
		return s.issuer.Known()
	}
	return s.shard.Revision()
}
