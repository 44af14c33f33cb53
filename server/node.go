package server

import (
	"context"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// localNode is what the API may ask without a quorum.
type localNode struct{ s *Server }

func (n localNode) Leader() (kv.NodeID, uint64) { return n.s.shard.Leader() }
func (n localNode) Revision() kv.Revision       { return n.s.shard.Revision() }

// Defragment has nothing to wait for: space is given back in the background.
func (n localNode) Defragment(context.Context) error {
	if n.s.reclaiming.CompareAndSwap(false, true) {
		n.s.workers.Go(n.s.reclaim)
	}
	return nil
}

// reclaim gives the space of what compactions made superfluous back, once all of it is deleted.
func (s *Server) reclaim() {
	defer s.reclaiming.Store(false)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for s.shard.Compacting() {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
	}
	flushed := make(chan error, 1)
	s.engine.Flush(func(err error) { flushed <- err })
	if err := <-flushed; err != nil {
		s.logger.Warn("the space of deleted data was not reclaimed", "error", err)
		return
	}
	s.engine.Reclaim()
}

func (n localNode) Status() etcd.Status {
	leader, term := n.s.shard.Leader()
	size := n.s.engine.Metrics()
	status := etcd.Status{
		Leader: leader, Term: term, CommittedIndex: n.s.shard.Committed(), AppliedIndex: n.s.shard.Applied(),
		Revision: n.s.shard.Revision(), SizeBytes: stateBytes(size), SizeInUseBytes: min(size.LiveBytes+size.UnflushedBytes, stateBytes(size)),
		QuotaBytes: n.s.quota(), Alarms: n.s.alarms(),
	}
	if standing := n.s.shard.Standing(); standing != "member" {
		status.Errors = append(status.Errors, "replica is "+standing)
	}
	if missing := n.s.store.Unwitnessed(); len(missing) > 0 {
		status.Errors = append(status.Errors, fmt.Sprintf("data could not be confirmed since the start: all nodes that are there have restarted as well, and %v might know better", missing))
	}
	if err := n.s.store.Err(); err != nil {
		status.Errors = append(status.Errors, err.Error())
	}
	return status
}

// alarms are the active alarms as far as this node knows.
func (s *Server) alarms() []kv.Alarm {
	resp, err := s.shard.Read(&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmGet}})
	if err != nil {
		return nil
	}
	return resp.Alarm.Alarms
}

func (s *Server) quota() int64 { return max(0, s.options.Cluster.QuotaBytes) }

// stateBytes is what counts against the quota: files, which are compressed, and what will be in
// files soon. Without the latter a quota below the size of a memtable would be overshot several times.
func stateBytes(m storage.Metrics) int64 { return m.DiskBytes + m.UnflushedBytes }

// quotaInterval is how often the size is looked at: what can be written meanwhile is the overshoot.
const quotaInterval = 100 * time.Millisecond

// watchQuota raises the NOSPACE alarm when the state has reached the quota.
func (s *Server) watchQuota() {
	if s.quota() == 0 {
		return
	}
	alarm := kv.Alarm{Node: s.options.NodeID(), Type: kv.AlarmNoSpace}
	ticker := time.NewTicker(quotaInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
		if stateBytes(s.engine.Metrics()) < s.quota() || s.raised(alarm) {
			continue
		}
		s.logger.Error("the quota is reached: writes are refused until there is space and the alarm is cleared", "quota_bytes", s.quota())
		if err := s.submit(&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate, Alarm: alarm}}); err != nil {
			s.logger.Warn("raising the NOSPACE alarm failed", "error", err)
		}
	}
}

func (s *Server) raised(alarm kv.Alarm) bool {
	for _, a := range s.alarms() {
		if a == alarm {
			return true
		}
	}
	return false
}
