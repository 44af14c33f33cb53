package sim

import "time"

// clock is a node's monotonic clock: it has an offset and a rate of its own.
type clock struct {
	base time.Duration // what it showed
	at   time.Duration // at this true time
	rate float64
}

func (c *clock) read(now time.Duration) time.Duration {
	return c.base + time.Duration(float64(now-c.at)*c.rate)
}

// when is the first true time from now on at which the clock shows at least the given time.
func (c *clock) when(shown, now time.Duration) time.Duration {
	at := c.at + time.Duration(float64(shown-c.base)/c.rate) - 1
	at = max(at, now+1)
	for c.read(at) < shown {
		at++
	}
	return at
}

// set changes the rate from now on, and lets the clock jump forward.
func (c *clock) set(now time.Duration, rate float64, jump time.Duration) {
	c.base, c.at, c.rate = c.read(now)+jump, now, rate
}
