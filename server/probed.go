package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
)

// Alarms implements probed.
func (n localNode) Alarms() []kv.Alarm { return n.s.shard.Alarms() }

// stuckElections is after how many election timeouts without a round of the driver a node counts as stuck. By then the others have
// elected another leader, if it was one.
const stuckElections = 2

// Stuck implements probed.
func (n localNode) Stuck() error {
	if err := n.s.driver.Err(); err != nil {
		return err
	}
	if since := n.s.driver.Standstill(); since > stuckElections*n.s.options.Cluster.ElectionTimeout {
		return fmt.Errorf("the driver has done nothing for %v; it waits for a disk, or for whoever reads the log lines on standard error",
			since.Round(100*time.Millisecond))
	}
	return nil
}

// Learner implements probed.
func (n localNode) Learner() error {
	if n.s.shard.Outside() {
		return errors.New("not supported for learner")
	}
	return nil
}

// Read implements probed. Before the node is ready, shards are waited for: then it does not serve, and says for which. It gives up when the node turns out to be stuck: reading may wait for the driver.
func (n localNode) Read(ctx context.Context, serializable bool) error {
	s := n.s
	if waiting := s.waitsFor.Load(); waiting != nil && !serializable {
		return fmt.Errorf("waiting for shards %v", *waiting)
	}
	answer := make(chan error, 1)
	call := &gateway.Call{
		Req:  &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte{0}}, KeysOnly: true, Serializable: serializable}},
		Done: func(_ *kv.Response, err error) { answer <- err }, Trusted: true,
	}
	if !s.beside(func() { s.gateway.Submit(call) }) {
		return kv.ErrStopped
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-answer:
			if err != nil {
				return errors.New(etcd.ErrorText(err))
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-s.context.Done():
			return kv.ErrStopped
		case <-ticker.C:
			if err := n.Stuck(); err != nil {
				return err
			}
		}
	}
}

// beside runs work that shutdown waits for. It does not once that has begun.
func (s *Server) beside(work func()) bool {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.context.Err() != nil {
		return false
	}
	s.workers.Go(work)
	return true
}
