package autocompact

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Mode says what a retention counts.
type Mode string

// The modes, named as the values of etcd's flag.
const (
	Periodic Mode = "periodic" // time
	Revision Mode = "revision" // revisions
)

// Policy says how much history is kept. The zero value keeps all.
type Policy struct {
	Mode      Mode
	Period    time.Duration // of Periodic; 0: nothing is compacted
	Revisions int64         // of Revision; 0: nothing is compacted
}

// MinPeriod is the shortest retention: samples are taken ten times in it.
const MinPeriod = 10 * time.Millisecond

// Validate tells what no cluster can follow.
func (p Policy) Validate() error {
	switch {
	case p.Revisions < 0 || p.Period < 0 || p.Period > 0 && p.Period < MinPeriod:
		return fmt.Errorf("--auto-compaction-retention must be at least %v, or 0 to compact nothing", MinPeriod)
	case p.Mode != Periodic && p.Mode != Revision && p != Policy{}:
		return fmt.Errorf("unknown --auto-compaction-mode %q: give periodic or revision", p.Mode)
	}
	return nil
}

// Off tells whether all history is kept.
func (p Policy) Off() bool { return p.Period == 0 && p.Revisions == 0 }

const (
	longestInterval  = time.Hour       // between two compactions of mode Periodic
	samplesInterval  = 10              // samples in such an interval, and tries if compacting fails
	revisionInterval = 5 * time.Minute // of mode Revision
)

// Core decides for one node. Invariant: between a compaction that Wake asks for and its end, Wake does nothing.
type Core struct {
	policy Policy
	next   time.Duration // when it is to be woken

	// Periodic. samples are what the revision was each time, the oldest first. With all of them the first is of a retention ago.
	samples  []kv.Revision
	keep     int           // of samples, at most
	interval time.Duration // since the last compaction; before the first one a whole retention
	since    time.Duration // when the last compaction ended, or the core began

	last       kv.Revision // compacted at
	compacting kv.Revision // 0: nothing is under way
}

// New returns a core for a policy that is valid and not off. revision is the newest that is known.
func New(policy Policy, now time.Duration, revision kv.Revision) (*Core, error) {
	if err := policy.Validate(); err != nil {
		return nil, fmt.Errorf("autocompact: %w", err)
	}
	if policy.Off() {
		return nil, errors.New("autocompact: the policy compacts nothing")
	}
	c := &Core{policy: policy, since: now, interval: policy.Period}
	if policy.Mode == Periodic {
		c.keep = int(policy.Period/c.pace()) + 1
	}
	c.rest(now, revision)
	return c, nil
}

// pace is the time between two looks.
func (c *Core) pace() time.Duration {
	if c.policy.Mode == Revision {
		return revisionInterval
	}
	return min(c.policy.Period, longestInterval) / samplesInterval
}

// Next is when Wake does something. It does nothing before, nor while a compaction is under way.
func (c *Core) Next() time.Duration { return c.next }

// Wake tells the time, the newest revision that is known, and whether this node may compact. It returns the revision to compact at, if it is time;
// Ended follows.
func (c *Core) Wake(now time.Duration, revision kv.Revision, may bool) (at kv.Revision, compact bool) {
	if c.compacting != 0 || now < c.next {
		return 0, false
	}
	if at = c.due(now, revision); at == 0 || !may {
		c.rest(now, revision)
		return 0, false
	}
	c.interval = min(c.policy.Period, longestInterval)
	c.compacting = at
	return at, true
}

// due is the revision to compact at; 0: none.
func (c *Core) due(now time.Duration, revision kv.Revision) kv.Revision {
	at := max(0, revision-kv.Revision(c.policy.Revisions))
	if c.policy.Mode == Periodic {
		at = c.samples[0]
		if now-c.since < c.interval {
			return 0
		}
	}
	if at == c.last {
		return 0
	}
	return at
}

// Ended tells what came of a compaction. done: history is compacted there, whoever did it.
func (c *Core) Ended(now time.Duration, revision kv.Revision, done bool) {
	if done {
		c.last, c.since = c.compacting, now
	}
	c.compacting = 0
	c.rest(now, revision)
}

// rest takes a sample, and waits for the next look.
func (c *Core) rest(now time.Duration, revision kv.Revision) {
	c.next = now + c.pace()
	if c.policy.Mode != Periodic {
		return
	}
	if len(c.samples) == c.keep {
		c.samples = append(c.samples[:0], c.samples[1:]...)
	}
	c.samples = append(c.samples, revision)
}
