package campaign

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Options of a campaign.
type Options struct {
	Seeds Seeds
	Base  Spec // protocol and engine of all runs; its seed does not matter
	Jobs  int  // runs at a time, at least 1
	// MaxFailures ends the campaign at so many failing seeds; 0: none ends it.
	MaxFailures int
	// Twice runs every seed twice and demands the same trace.
	Twice bool

	// Progress, if not nil, is called from one goroutine with the state so far, every ProgressEvery and at the end.
	// It must not keep the summary.
	Progress      func(*Summary)
	ProgressEvery time.Duration // 0: a second
}

// Run runs all seeds of the range and returns what they showed, also when the context ends it early (Summary.Interrupted) and beside
// an error: that of a runner that cannot run.
func Run(ctx context.Context, runner Runner, options Options) (*Summary, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c := &campaign{options: options, runner: runner, next: options.Seeds.First, reports: make(chan outcome)}
	var workers sync.WaitGroup
	for range options.Jobs {
		workers.Go(func() { c.work(ctx) })
	}
	go func() {
		workers.Wait()
		close(c.reports)
	}()
	return c.collect(stop)
}

type campaign struct {
	options Options
	runner  Runner
	reports chan outcome // closed when all workers have ended

	mu       sync.Mutex
	next     uint64
	allTaken bool // Invariant: next is a seed that nobody has taken, unless allTaken
}

type outcome struct {
	report Report
	err    error
}

func (c *campaign) take() (seed uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allTaken {
		return 0, false
	}
	seed = c.next
	c.allTaken = seed == c.options.Seeds.Last // the last seed of all has none after it
	c.next++
	return seed, true
}

func (c *campaign) work(ctx context.Context) {
	for ctx.Err() == nil {
		seed, ok := c.take()
		if !ok {
			return
		}
		spec := c.options.Base
		spec.Seed = seed
		report, err := c.runner.Run(ctx, spec, nil)
		if err == nil && c.options.Twice {
			report, err = Again(ctx, c.runner, report)
		}
		c.reports <- outcome{report, err}
	}
}

// collect adds up what the workers report, and stops them when it is enough.
func (c *campaign) collect(stop func()) (*Summary, error) {
	start := time.Now()
	summary := newSummary(c.options.Seeds)
	every := c.options.ProgressEvery
	if every <= 0 {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	progress := func() {
		summary.Wall = time.Since(start)
		if c.options.Progress != nil {
			c.options.Progress(summary)
		}
	}
	var failed error
	for {
		select {
		case <-ticker.C:
			progress()
		case o, ok := <-c.reports:
			switch {
			case !ok:
				summary.Interrupted = failed == nil && !summary.complete() && !summary.StoppedAtFailures
				progress()
				return summary, failed
			case errors.Is(o.err, context.Canceled) || errors.Is(o.err, context.DeadlineExceeded):
				// A run that was not finished showed nothing.
			case o.err != nil:
				failed = errors.Join(failed, o.err)
				stop()
			default:
				summary.add(o.report)
				if c.options.MaxFailures > 0 && summary.Failed() >= uint64(c.options.MaxFailures) && !summary.complete() {
					summary.StoppedAtFailures = true
					stop()
				}
			}
		}
	}
}
