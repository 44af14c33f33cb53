package server

import (
	"context"
	"errors"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// handOverPatience bounds how long a stop waits for somebody to take over, and until it is known what became of the writes that were under way: a node that
// stops has to be gone within 5 s. A hand-over takes a few round trips, unless nobody can take over, or the driver's disk stands still.
const handOverPatience = 2 * time.Second

// handOver moves the leadership of all shards elsewhere while clients are still served, so that nobody has to find out that this node is gone.
func (s *Server) handOver(ctx context.Context) {
	s.leaving.Store(true)
	if s.driver == nil || s.shard == nil || s.driver.Err() != nil {
		return
	}
	led, _ := s.leads()
	if led == 0 {
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	if err := waitFor(ctx, s.driver.HandOver); err != nil {
		if still, _ := s.leads(); still > 0 {
			s.logger.Warn("leadership was not handed over before the stop; the others elect a leader when they miss this one", "reason", err)
		} else {
			s.logger.Warn("leadership was handed over before the stop, but it is not known what became of all writes that were under way; their clients are told so", "reason", err)
		}
		return
	}
	if still, _ := s.leads(); still == led {
		return // there is nobody else
	}
	leader, _ := s.shard.Leader()
	s.logger.Info("handed over leadership before the stop", "leader", leader, "took", time.Since(began))
	s.linger(ctx)
}

// linger keeps the node for two heartbeats. By then the others have heard from the new leader; what they still sent here is told that this node does not
// lead, and goes there. If the connections ended at once, nobody could tell what became of it.
func (s *Server) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.options.Cluster.HeartbeatInterval)
	defer cancel()
	<-ctx.Done()
}

// waitFor begins something and waits until it is done.
func waitFor(ctx context.Context, begin func(done func(error))) error {
	result := make(chan error, 1)
	begin(func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MoveLeader hands leadership over to another node. It answers when that one leads, or cannot be told to.
func (n localNode) MoveLeader(ctx context.Context, to kv.NodeID) error {
	err := waitFor(ctx, func(done func(error)) { n.s.shard.Transfer(to, done) })
	if errors.Is(err, context.DeadlineExceeded) {
		return kv.ErrTransferTimeout // as etcd
	}
	return err
}
