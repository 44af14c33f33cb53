package driver

import (
	"fmt"
	"time"
)

// A group that has the node to itself has several rounds in flight: while one is on its way the next is evaluated. Where several groups write at once
// there is always something on its way, and what counts is the number of entries: one of each group in each round costs far more than the requests in it. So
// while groups crowd each other, each has one round in flight, and what has become free is evaluated once a round, when those who were just
// answered have brought what they want next: entries are fewer and larger, and so are syncs and frames.

// evaluating is how much may be evaluated.
type evaluating struct {
	// evaluateUntil is when the round should stop evaluating, and evaluated whether it has begun to.
	evaluateUntil time.Duration
	evaluated     bool
	asked         bool // for revisions, and the questions have not left
	proposing     int  // groups with own rounds in flight
	freed         bool // some of them were applied since the last evaluation
}

// crowded tells whether several groups have rounds in flight.
func (e *evaluating) crowded() bool { return e.proposing > 1 }

// setInflight counts the own rounds that are proposed and not applied.
func (r *driven) setInflight(n int) {
	switch {
	case r.inflight == 0 && n > 0:
		r.driver.proposing++
	case r.inflight > 0 && n == 0:
		r.driver.proposing--
	}
	r.inflight = n
}

// mayPropose tells whether there is room for one more round in flight.
func (r *driven) mayPropose() bool {
	return r.inflight == 0 || r.inflight < r.driver.opts.MaxInflight && !r.driver.crowded()
}

// putOff tells whether an evaluation was left to the next round.
func (d *Driver) putOff() bool { return d.freed && len(d.working) > 0 }

func (d *Driver) checkCrowd() error {
	proposing := 0
	for _, r := range d.order {
		if r.inflight > 0 {
			proposing++
		}
	}
	if proposing != d.proposing {
		return fmt.Errorf("%d groups have rounds in flight, counted %d", proposing, d.proposing)
	}
	return nil
}
