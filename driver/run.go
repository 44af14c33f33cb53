package driver

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// runLoop is what the run loop goes by.
type runLoop struct {
	started atomic.Bool
	beat    atomic.Int64 // when the last round ended
	driving sync.Mutex   // whoever holds it does rounds
	timer   *time.Timer  // guarded by driving
}

// clocks are when things are due.
type clocks struct {
	opened   time.Duration // when Open was called
	nextTick time.Duration
	// nextDue is not later than anything that a core of leadership has due; 0 if there is nothing.
	nextDue time.Duration
}

// Start runs rounds, in a goroutine or where their input arrives, until Close or a failure.
func (d *Driver) Start() {
	d.timer = time.NewTimer(0)
	d.beat.Store(int64(d.clock()))
	d.started.Store(true)
	d.workers.Go(d.run)
}

// Standstill is how long ago the last round ended. A driver that works does some in every heartbeat interval; one that waits for a disk,
// or for a listener, does none.
func (d *Driver) Standstill() time.Duration {
	if !d.started.Load() {
		return 0
	}
	return d.clock() - time.Duration(d.beat.Load())
}

// run calls Round whenever something arrived or a tick is due.
func (d *Driver) run() {
	defer d.timer.Stop()
	for {
		select {
		case <-d.context.Done():
			return
		case <-d.wake:
		case <-d.timer.C:
		}
		// The goroutines that were woken together with this one bring their requests first: one
		// larger round instead of two.
		runtime.Gosched()
		d.driving.Lock()
		for d.drive() {
		}
		d.driving.Unlock()
		if d.Err() != nil {
			return
		}
	}
}

// maxRounds bounds how long somebody who brings input is kept from what it did before: a client waits for its answer, a
// connection to be read. What is left to do then is for the run loop.
const maxRounds = 4

// drive does rounds, and tells whether there is more to do at once. The caller holds driving.
func (d *Driver) drive() (again bool) {
	again = d.rounds()
	if !again && d.holding.Load() {
		// Those who were just answered go first, and may bring what takes the notices along. But no longer: clients
		// of followers see by their watches how late a follower is.
		runtime.Gosched()
		d.hurry.Store(true)
		again = d.rounds()
	}
	d.timer.Reset(max(0, d.NextRound()-d.clock()))
	return again
}

func (d *Driver) rounds() (again bool) {
	again = true
	for i := 0; again && i < maxRounds; i++ {
		again = d.context.Err() == nil && d.Round()
		if again && d.putOff() {
			runtime.Gosched()
		}
	}
	return again
}

// doRoundHere does the round in the goroutine that brought the input, if nobody else is at it and nobody else waits: to wake the run loop
// takes longer than the round. Otherwise the run loop gathers what comes from many.
func (d *Driver) doRoundHere() {
	if !d.started.Load() || d.queued.Load() > 1 || !d.driving.TryLock() {
		d.kick()
		return
	}
	again := d.drive()
	d.driving.Unlock()
	if again {
		d.kick()
	}
}

// NextRound is when Round is due even if nothing arrives.
func (d *Driver) NextRound() time.Duration {
	next := min(d.nextTick, d.live.Next())
	if d.nextDue != 0 {
		next = min(next, d.nextDue)
	}
	for i := range d.out {
		if until := d.out[i].until; until != 0 {
			next = min(next, until)
		}
	}
	return next
}
