package sim

import (
	"slices"
	"time"
)

// resume lets a coroutine of the process go on, within enter. done: its code has returned.
func (n *node) resume(c *coroutine) (value time.Duration, done bool) {
	outer := n.current
	n.current = c
	value, ok := c.next()
	n.current = outer
	if c.panicked != nil {
		if died, own := c.panicked.(crashed); own {
			panic(died)
		}
		panic(productPanic{c.panicked, c.stack})
	}
	return value, !ok
}

// sleep lets time pass for the code that calls it, while the rest of the node goes on. Code that does not run in a coroutine
// cannot wait.
func (n *node) sleep(d time.Duration) {
	if n.current != nil && d > 0 {
		n.current.wait(d)
	}
}

// spawn runs work beside the rounds.
func (n *node) spawn(work func()) {
	c := newCoroutine(func(*coroutine) { work() })
	n.jobs = append(n.jobs, c)
	n.w.mark("work beside the rounds")
	n.push(n.w.now+time.Duration(n.random.Int64N(int64(2*time.Millisecond))), func() { n.work(c) })
}

func (n *node) work(c *coroutine) {
	n.w.happened(traceJob, n.number(), 0, 0)
	d, done := n.resume(c)
	if !done {
		n.push(n.w.now+d, func() { n.work(c) })
		return
	}
	n.jobs = slices.DeleteFunc(n.jobs, func(other *coroutine) bool { return other == c })
}

// push plans an event of the process.
func (n *node) push(at time.Duration, run func()) {
	n.w.push(event{at: at, node: n, life: n.life, run: run})
}

// wake is driver.Options.Wake.
func (n *node) wake() {
	if !n.woken {
		n.woken = true
		if !n.driving {
			n.planRound(n.w.now + n.roundLatency())
		}
	}
}

// roundLatency is how long it takes until a goroutine that was woken runs.
func (n *node) roundLatency() time.Duration {
	return 10*time.Microsecond + time.Duration(n.random.Int64N(int64(n.w.plan.wakeLatency())))
}

// inRound tells whether the driver's goroutine is what runs.
func (n *node) inRound() bool { return n.current != nil && n.current == n.driver }

func (n *node) planRound(at time.Duration) {
	if n.roundAt == 0 || at < n.roundAt {
		n.roundAt = at
		n.setAlarm()
	}
}

// setAlarm makes sure that there is an event not later than the planned round. Most rounds are planned for the next heartbeat and
// happen much earlier, so an event that is there already is left to do for the next plan.
func (n *node) setAlarm() {
	if last := len(n.alarms) - 1; last < 0 || n.alarms[last] > n.roundAt {
		n.alarms = append(n.alarms, n.roundAt)
		n.push(n.roundAt, n.roundDue)
	}
}

func (n *node) lookAtRound() {
	n.alarms = n.alarms[:len(n.alarms)-1]
	switch {
	case n.roundAt == 0:
	case n.roundAt > n.w.now:
		n.setAlarm()
	default:
		if n.roundAt = 0; !n.driving { // otherwise the end of the round that waits plans the next
			n.round()
		}
	}
}

// round lets the driver do a round, or go on with the one it waits in.
func (n *node) round() {
	if !n.driving {
		n.woken = false
		n.w.happened(traceRound, n.number(), 0, 0)
	}
	value, done := n.resume(n.driver)
	switch {
	case done: // it failed
		return
	case value >= 0:
		n.driving = true
		n.push(n.w.now+value, n.round)
		return
	}
	n.driving = false
	n.w.afterRound(n)
	if n.woken || value == roundAgain {
		n.planRound(n.w.now + n.roundLatency())
		return
	}
	n.planRound(n.clock.when(n.store.NextRound(), n.w.now))
}

// What the driver's coroutine gives way with, beside times to wait.
const (
	roundDone  time.Duration = -1
	roundAgain time.Duration = -2
)

// drive is the driver's code: what driver.Driver.Start does.
func (n *node) drive(c *coroutine) {
	for n.store.Err() == nil {
		value := roundDone
		if n.store.Round() {
			value = roundAgain
		}
		c.wait(value)
	}
}
