package sequencer

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// count is the count itself: what is next, how far it may go, and what is being done about that.
type count struct {
	// next is the revision that is issued next. It only grows.
	next kv.Revision
	// limit is committed in the system shard's log; 0: there is one shard, and none was ever needed. Invariant: unless 0, next <= limit+1.
	limit kv.Revision
	// pending was given out to be proposed, and its fate is open; 0: none.
	pending kv.Revision
	// applied is the highest revision applied in the system shard. Kept up while limit is 0.
	applied kv.Revision
	phase   phase
	// resume: the hand-over has failed, but whether its limit is committed is open.
	resume bool
}

// phase is how far a planned hand-over has come.
type phase uint8

const (
	issuing  phase = iota
	stopping       // nothing is issued, limit := now is still to be proposed
	stopped        // limit := now is proposed
	ready          // it is committed: leadership may be transferred
)

// newCount begins after the barrier of a new leader (rule 3): every entry of earlier leaders is applied or will never be.
func newCount(applied, limit kv.Revision) count {
	return count{next: max(applied, limit) + 1, limit: limit, applied: applied}
}

// now is the revision that a reader or a watcher may take for the present (rules 7 and 17).
func (c *count) now() kv.Revision {
	if c.limit == 0 {
		return c.applied
	}
	return c.next - 1
}

// room is how many numbers may be issued at this moment.
func (c *count) room() uint64 {
	bound := c.limit
	switch {
	case c.phase != issuing:
		return 0 // rule 6
	case c.limit == 0 && c.pending != 0:
		bound = c.pending // rule 8
	case c.limit == 0:
		bound = maxRevision // rule 7
	}
	return uint64(bound + 1 - c.next)
}

// shared tells whether numbers may go to other shards (rule 8).
func (c *count) shared() bool { return c.limit != 0 }

// wanted is the limit to be proposed, 0 if none. demand is how many numbers are being waited for.
func (c *count) wanted(window, demand uint64) kv.Revision {
	last := c.next - 1
	switch {
	case c.pending != 0 || c.phase == ready || c.phase == stopped:
		return 0
	case c.phase == stopping:
		return last
	case !c.shared() && demand == 0:
		return 0
	case last+kv.Revision(demand+window/2) > c.limit:
		return last + kv.Revision(demand+window)
	}
	return 0
}

// propose takes note that the limit was given out.
func (c *count) propose(limit kv.Revision) {
	c.pending = limit
	if c.phase == stopping {
		c.phase = stopped
	}
}

// committed: the limit that was given out is in force.
func (c *count) committed(limit kv.Revision) error {
	if limit != c.pending || limit == 0 {
		return fmt.Errorf("sequencer: limit %d is committed, but %d was to be proposed", limit, c.pending)
	}
	c.limit, c.pending = limit, 0
	if c.phase == stopped {
		c.phase = ready
	}
	c.settle()
	return nil
}

// refused: what was given out is in no log, and never will be.
func (c *count) refused() {
	c.pending = 0
	if c.phase == stopped {
		c.phase = stopping
	}
	c.settle()
}

// stop begins a hand-over. With one shard there is nothing to be written down first.
func (c *count) stop() {
	if c.phase != issuing {
		return
	}
	c.phase, c.resume = stopping, false
	c.settle()
}

// goOn ends a hand-over that failed: below the limit then in force, so not while that is open (rule 6).
func (c *count) goOn() {
	c.resume = c.phase != issuing
	c.settle()
}

func (c *count) settle() {
	if c.phase == stopping && !c.shared() && c.pending == 0 {
		c.phase = ready
	}
	if c.resume && (c.phase != stopped || c.pending == 0) {
		c.phase, c.resume = issuing, false
	}
}
