package gateway

import "time"

// timer is the wheel's part of a call: the links of a list, and which one, from 1; 0: none.
type timer struct {
	previous, following *Call
	slot                int
}

// wheel finds the calls whose deadline has passed: a hashed timing wheel of intrusive lists, so that
// adding and removing cost a few writes. Not safe for concurrent use.
type wheel struct {
	slots [256]*Call
	now   time.Duration // of the last advance
}

// wheelGrain is the time a slot stands for. Calls expire up to a grain late.
const wheelGrain = 20 * time.Millisecond

func slotOf(at time.Duration) int { return int(at/wheelGrain) & 255 }

// add enters the call, to expire at c.expires.
func (w *wheel) add(c *Call) {
	c.timer.slot = slotOf(max(c.expires, w.now))
	head := w.slots[c.timer.slot]
	c.timer.previous, c.timer.following = nil, head
	if head != nil {
		head.timer.previous = c
	}
	w.slots[c.timer.slot] = c
	c.timer.slot++ // 0: not in the wheel
}

// remove takes the call out, if it is in.
func (w *wheel) remove(c *Call) {
	if c.timer.slot == 0 {
		return
	}
	if c.timer.previous != nil {
		c.timer.previous.timer.following = c.timer.following
	} else {
		w.slots[c.timer.slot-1] = c.timer.following
	}
	if c.timer.following != nil {
		c.timer.following.timer.previous = c.timer.previous
	}
	c.timer.previous, c.timer.following, c.timer.slot = nil, nil, 0
}

// advance takes out and returns the calls that have expired at now.
func (w *wheel) advance(now time.Duration) (expired []*Call) {
	if now < w.now {
		return nil
	}
	first, last := w.now/wheelGrain, now/wheelGrain
	if last-first > 255 {
		first = last - 255
	}
	w.now = now
	for at := first; at <= last; at++ {
		for c := w.slots[int(at)&255]; c != nil; {
			following := c.timer.following
			if c.expires <= now {
				w.remove(c)
				expired = append(expired, c)
			}
			c = following
		}
	}
	return expired
}

// all returns every call, in no particular order.
func (w *wheel) all() (calls []*Call) {
	for _, c := range w.slots {
		for ; c != nil; c = c.timer.following {
			calls = append(calls, c)
		}
	}
	return calls
}
