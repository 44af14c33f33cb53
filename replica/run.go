package replica

import (
	"runtime"
	"time"
)

// Start runs rounds, in a goroutine or where their input arrives, until Close or a failure.
func (s *Store) Start() {
	s.timer = time.NewTimer(0)
	s.beat.Store(int64(s.clock()))
	s.started.Store(true)
	s.workers.Go(s.run)
}

// Standstill is how long ago the last round ended. A driver that works does some in every heartbeat interval; one that waits for a disk,
// or for a listener, does none.
func (s *Store) Standstill() time.Duration {
	if !s.started.Load() {
		return 0
	}
	return s.clock() - time.Duration(s.beat.Load())
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
		for s.drive() {
		}
		s.driving.Unlock()
		if s.Err() != nil {
			return
		}
	}
}

// maxRounds bounds how long somebody who brings input is kept from what it did before: a client waits for its answer, a
// connection to be read. What is left to do then is for the run loop.
const maxRounds = 4

// drive does rounds, and tells whether there is more to do at once. The caller holds driving.
func (s *Store) drive() (again bool) {
	again = s.rounds()
	if !again && s.holding.Load() {
		// Those who were just answered go first, and may bring what takes the notices along. But no longer: clients
		// of followers see by their watches how late a follower is.
		runtime.Gosched()
		s.hurry.Store(true)
		again = s.rounds()
	}
	s.timer.Reset(max(0, s.NextRound()-s.clock()))
	return again
}

func (s *Store) rounds() (again bool) {
	again = true
	for i := 0; again && i < maxRounds; i++ {
		again = s.context.Err() == nil && s.Round()
	}
	return again
}

// roundHere does the round in the goroutine that brought the input, if nobody else is at it and nobody else waits: to wake the run loop
// takes longer than the round. Otherwise the run loop gathers what comes from many.
func (s *Store) roundHere() {
	if !s.started.Load() || s.queued.Load() > 1 || !s.driving.TryLock() {
		s.kick()
		return
	}
	again := s.drive()
	s.driving.Unlock()
	if again {
		s.kick()
	}
}

// NextRound is when Round is due even if nothing arrives.
func (s *Store) NextRound() time.Duration {
	next := min(s.nextTick, s.live.Next())
	if s.nextDue != 0 {
		next = min(next, s.nextDue)
	}
	for i := range s.out {
		if until := s.out[i].until; until != 0 {
			next = min(next, until)
		}
	}
	return next
}
