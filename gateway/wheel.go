package gateway

import "time"

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
	c.slot = slotOf(max(c.expires, w.now))
	head := w.slots[c.slot]
	c.previous, c.following = nil, head
	if head != nil {
		head.previous = c
	}
	w.slots[c.slot] = c
	c.slot++ // 0: not in the wheel
}

// remove takes the call out, if it is in.
func (w *wheel) remove(c *Call) {
	if c.slot == 0 {
		return
	}
	if c.previous != nil {
		c.previous.following = c.following
	} else {
		w.slots[c.slot-1] = c.following
	}
	if c.following != nil {
		c.following.previous = c.previous
	}
	c.previous, c.following, c.slot = nil, nil, 0
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
			following := c.following
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
		for ; c != nil; c = c.following {
			calls = append(calls, c)
		}
	}
	return calls
}
