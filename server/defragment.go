package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
)

// reclamations gives space back for whoever asks: one runs at a time, and all who ask meanwhile share the next, for what they had
// deleted before may have come too late for the one that runs.
type reclamations struct {
	mu            sync.Mutex
	running, next *reclamation
}

type reclamation struct {
	done chan struct{}
	err  error
}

// join returns the reclamation to wait for; start is to be called if it is not nil.
func (r *reclamations) join(run func() error) (wait *reclamation, start func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running = &reclamation{done: make(chan struct{})}
		return r.running, func() { r.work(run) }
	}
	if r.next == nil {
		r.next = &reclamation{done: make(chan struct{})}
	}
	return r.next, nil
}

func (r *reclamations) work(run func() error) {
	for {
		err := run()
		r.mu.Lock()
		ended := r.running
		r.running, r.next = r.next, nil
		more := r.running != nil
		r.mu.Unlock()
		ended.err = err
		close(ended.done)
		if !more {
			return
		}
	}
}

// Defragment answers when the size that this node reports is what is left without deleted data: whoever clears the alarm
// next must not find it raised again. It goes on when the client has gone.
func (n localNode) Defragment(ctx context.Context) error {
	wait, start := n.s.reclamations.join(n.s.reclaim)
	if start != nil {
		n.s.workers.Go(start)
	}
	select {
	case <-wait.done:
		return wait.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reclaim gives the space of what compactions made superfluous back, once all of it is deleted.
func (s *Server) reclaim() error {
	err := s.reclaimNow()
	if err != nil && s.context.Err() == nil {
		s.logger.Warn("the space of deleted data was not reclaimed", "error", err)
	}
	return err
}

func (s *Server) reclaimNow() error {
	// A compaction that was answered at another node counts here, too. Without a leader there is none to wait for.
	_ = s.submit(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte{0}}}})
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for s.compacting() {
		select {
		case <-s.context.Done():
			return kv.ErrStopped
		case <-ticker.C:
		}
		if s.driver.Err() != nil {
			return kv.ErrUnhealthy
		}
	}
	for _, step := range []func(func(error)){s.engine.Flush, s.engine.Reclaim} {
		err := waitFor(s.context, step)
		switch {
		case errors.Is(err, context.Canceled): // the engine is closed later, and ends the work
			return kv.ErrStopped
		case err != nil:
			return errors.Join(kv.ErrUnhealthy, fmt.Errorf("give space back: %w", err))
		}
	}
	s.lookAtSize()
	return nil
}

// compacting tells whether rows that compactions made superfluous are still to be deleted, of any shard.
func (s *Server) compacting() bool {
	return slices.ContainsFunc(s.replicas(), (*driver.Replica).Compacting)
}
