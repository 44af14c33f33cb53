package replica

import (
	"runtime"
	"time"
)

// Start runs rounds, in a goroutine or where their input arrives, until Close or a failure.
func (s *Store) Start() {
	s.timer = time.NewTimer(0)
	s.started.Store(true)
	s.workers.Go(s.run)
}

// run calls Round whenever something arrived or a tick is due.
func (s *Store) run() {
	defer s.timer.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-s.wake:
		case <-s.timer.C:
		}
		// The goroutines that were woken together with this one bring their requests first: one
		// larger round instead of two.
		runtime.Gosched()
		s.driving.Lock()
		s.drive()
		s.driving.Unlock()
		if s.Err() != nil {
			return
		}
	}
}

// drive does rounds until nothing is left to do. The caller holds driving.
func (s *Store) drive() {
	s.rounds()
	if s.holding.Load() {
		// Those who were just answered go first, and may bring what takes the notices along. But no longer: clients
		// of followers see by their watches how late a follower is.
		runtime.Gosched()
		s.hurry.Store(true)
		s.rounds()
	}
	s.timer.Reset(max(0, s.NextRound()-s.clock()))
}

func (s *Store) rounds() {
	for s.context.Err() == nil && s.Round() {
	}
}

// roundHere does the round in the goroutine that brought the input, if nobody else is at it and nobody else waits: to wake the run loop
// takes longer than the round. Otherwise the run loop gathers what comes from many.
func (s *Store) roundHere() {
	if !s.started.Load() || s.queued.Load() > 1 || !s.driving.TryLock() {
		s.kick()
		return
	}
	s.drive()
	s.driving.Unlock()
}

// NextRound is when Round is due even if nothing arrives.
func (s *Store) NextRound() time.Duration {
	next := min(s.nextTick, s.live.Next())
	if s.nextCampaign != 0 {
		next = min(next, s.nextCampaign)
	}
	for i := range s.out {
		if until := s.out[i].until; until != 0 {
			next = min(next, until)
		}
	}
	return next
}
