package server

import (
	"fmt"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/kv"
)

// localNode is what the API and probes may ask without a quorum.
type localNode struct{ s *Server }

func (n localNode) Leader() (kv.NodeID, uint64) { return n.s.shard.Leader() }
func (n localNode) Revision() kv.Revision       { return n.s.revision() }

func (n localNode) Status() etcd.Status {
	leader, term := n.s.shard.Leader()
	size := *n.s.size.Load()
	led, _ := n.s.leads()
	status := etcd.Status{
		Shards: len(n.s.descriptors), ShardsLed: led,
		Leader: leader, Term: term, CommittedIndex: n.s.shard.Committed(), AppliedIndex: n.s.shard.Applied(),
		Revision: n.s.revision(), SizeBytes: stateBytes(size), SizeInUseBytes: min(size.LiveBytes+size.UnflushedBytes, stateBytes(size)),
		QuotaBytes: n.s.quota.limit, Learner: n.s.shard.Outside(), Alarms: n.s.shard.Alarms(),
	}
	if standing := n.s.shard.Standing(); standing != "member" {
		status.Errors = append(status.Errors, "replica is "+standing)
	}
	status.Errors = append(status.Errors, n.s.failedShards.texts()...)
	if missing := n.s.driver.Unwitnessed(); len(missing) > 0 {
		status.Errors = append(status.Errors, fmt.Sprintf("data could not be confirmed since the start: all nodes that are there have restarted as well, and %v might know better", missing))
	}
	if err := n.Stuck(); err != nil {
		status.Errors = append(status.Errors, err.Error())
	}
	return status
}
