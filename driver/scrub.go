package driver

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/storage"
)

// Damage that nobody reads is found by reading everything again: the state, and then the log. What is found ends the node as a
// failed read does.

// scrubPace decides when a pass begins, and how much of it may be read when. It knows neither clock nor disk.
type scrubPace struct {
	interval time.Duration // between the beginnings of two passes; 0: there are none
	least    int64         // bytes per second, while the disk is quick
	begins   time.Duration // of the pass, or of the next one
	passing  bool
	size     int64         // of the pass, about
	counted  time.Duration // what may be read is counted from here on
}

const (
	// mostScrubBytes bounds the rate, in bytes per second: a pass over more than fits takes longer than its interval.
	mostScrubBytes = 32 << 20
	// slowScrub is the part of the rate that is left while syncs are slow: little, but a disk that is always slow is read, too.
	slowScrub = 16
	// leastScrubStep is what reading is worth beginning for, in bytes.
	leastScrubStep = 2 << 10
)

// newScrubPace has the first pass begin soon, because a node may not run for long, and not on all nodes at once: phase differs.
func newScrubPace(interval time.Duration, least int64, now time.Duration, phase uint64) scrubPace {
	p := scrubPace{interval: interval, least: least, begins: now + interval/16}
	if quarter := uint64(interval / 4); quarter > 0 {
		p.begins += time.Duration(phase % quarter)
	}
	return p
}

// rate is in bytes per second. A pass over much data is to be over after half its interval.
func (p *scrubPace) rate() int64 {
	needed := float64(p.size) / (p.interval / 2).Seconds()
	return int64(min(max(needed, float64(p.least)), mostScrubBytes))
}

// allow tells how many bytes may be read now; 0: none yet.
func (p *scrubPace) allow(now time.Duration, slow bool) int {
	if p.interval <= 0 || now < p.begins {
		return 0
	}
	if !p.passing {
		p.passing, p.size, p.counted = true, 0, now
		return leastScrubStep
	}
	rate := p.rate()
	if slow {
		rate /= slowScrub
	}
	// What was not used while the process stood still is not made up for.
	bytes := int(float64(rate) * min(now-p.counted, time.Second).Seconds())
	if bytes < leastScrubStep {
		return 0
	}
	p.counted = now
	return bytes
}

// read notes that so much more was read than was allowed, as with a large record.
func (p *scrubPace) read(excess int64) {
	if excess > 0 {
		p.counted += time.Duration(float64(excess) / float64(p.rate()) * float64(time.Second))
	}
}

// ended notes that the pass is over, and leaves the disk alone for a while even if it took longer than the interval.
func (p *scrubPace) ended(now time.Duration) {
	p.passing = false
	p.begins = max(p.begins+p.interval, now+p.interval/16)
}

// ScrubPass is what one pass was.
type ScrubPass struct {
	Bytes int64
	Took  time.Duration
}

// scrubber is what the driver does about scrubbing. One job at a time, which alone has the pass meanwhile.
type scrubber struct {
	pace  scrubPace
	busy  bool
	pass  scrubPass
	began time.Duration
	read  int64
}

// scrubPass is the parts of a pass, one after the other.
type scrubPass struct {
	open bool
	size int64
	left []storage.Scrub
}

// scrubbed is what a job did.
type scrubbed struct {
	size, read int64
	done       bool
	err        error
}

// scrub lets a piece of the pass be read beside the rounds, if it is time.
func (d *Driver) scrub(now time.Duration) {
	c := &d.scrubber
	if c.busy || d.Err() != nil {
		return
	}
	began := !c.pace.passing
	allowed := c.pace.allow(now, now < d.slowUntil)
	if allowed == 0 {
		return
	}
	if began {
		c.began, c.read = now, 0
	}
	c.busy = true
	d.spawn(func() {
		result := c.pass.next(d.opts.Engine, d.opts.Log, allowed)
		d.call(func() { d.scrubbed(allowed, result) })
	})
}

// next reads a piece. The first call begins the pass.
func (p *scrubPass) next(engine storage.Engine, log storage.Log, maxBytes int) (result scrubbed) {
	if !p.open {
		p.left = []storage.Scrub{engine.NewScrub(), log.NewScrub()}
		p.size = p.left[0].SizeBytes() + p.left[1].SizeBytes()
		p.open = true
	}
	result.size = p.size
	for result.err == nil && len(p.left) > 0 && result.read < int64(maxBytes) {
		read, done, err := p.left[0].Next(maxBytes - int(result.read))
		result.read += read
		if result.err = err; done {
			result.err = errors.Join(err, p.left[0].Close())
			p.left = p.left[1:]
		}
	}
	if result.done = len(p.left) == 0; result.done || result.err != nil {
		result.err = errors.Join(result.err, p.close())
	}
	return result
}

// close gives up what is left of the pass.
func (p *scrubPass) close() (err error) {
	for _, part := range p.left {
		err = errors.Join(err, part.Close())
	}
	*p = scrubPass{}
	return err
}

// scrubbed deals with what a job found.
func (d *Driver) scrubbed(allowed int, result scrubbed) {
	c, now := &d.scrubber, d.clock()
	c.busy = false
	c.read += result.read
	c.pace.size = result.size
	c.pace.read(result.read - int64(allowed))
	d.metrics.scrubBytes.Add(uint64(result.read))
	switch {
	case result.err != nil:
		d.metrics.scrubFailures.Add(1)
		c.pace.ended(now)
		d.scrubFailed(result.err)
	case result.done:
		d.metrics.scrubPasses.Add(1)
		c.pace.ended(now)
		if d.opts.Listener.Scrubbed != nil {
			d.opts.Listener.Scrubbed(ScrubPass{Bytes: c.read, Took: now - c.began})
		}
	}
}

// scrubFailed: damage ends the node. What the disk only did not let be read may be readable the next time.
func (d *Driver) scrubFailed(err error) {
	if errors.Is(err, storage.ErrCorrupt) {
		d.fail(fmt.Errorf("a scrub found damaged data: %w", err))
		return
	}
	if d.opts.Listener.ScrubFailed != nil {
		d.opts.Listener.ScrubFailed(err)
	}
}
