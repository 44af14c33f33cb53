package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/sim"
	"github.com/quoratedb/quorate/sim/campaign"
)

// maxFailures ends a campaign, unless it keeps going.
const maxFailures = 10

// campaign runs many seeds and sums up.
func (s *simulation) campaign(ctx context.Context, seeds campaign.Seeds) error {
	runner, release, err := s.runner(s.flags.jobs)
	if err != nil {
		return err
	}
	defer release()
	bounded := ctx
	if s.flags.limit > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, s.flags.limit)
		defer cancel()
	}
	progress := newProgress(s.app.stderr)
	options := campaign.Options{Seeds: seeds, Base: s.flags.base(), Jobs: s.flags.jobs, MaxFailures: maxFailures, Twice: s.flags.twice, Progress: progress.show}
	if s.flags.keepGoing {
		options.MaxFailures = 0
	}
	summary, err := campaign.Run(bounded, runner, options)
	progress.end()
	if err == nil && s.flags.minimise {
		s.minimiseAll(ctx, runner, summary)
	}
	if printed := s.printSummary(summary); err == nil {
		err = printed
	}
	if err != nil {
		return fmt.Errorf("sim: %w", err)
	}
	return campaignVerdict(ctx, summary)
}

// campaignVerdict is nil if all seeds passed that were asked for, or that --for left time for.
func campaignVerdict(ctx context.Context, summary *campaign.Summary) error {
	if failed := summary.Failed(); failed > 0 {
		worst := summary.Worst()
		return &verdictError{worst, fmt.Sprintf("sim: %d of %d seeds failed, the worst with %s", failed, summary.Done, worst)}
	}
	switch {
	case summary.Interrupted && ctx.Err() != nil:
		return fmt.Errorf("sim: interrupted after %d of %d seeds", summary.Done, summary.Seeds.Count())
	case summary.Done == 0:
		return errors.New("sim: not one seed was done within --for")
	}
	return nil
}

// minimiseAll looks for smaller runs of the failures, as long as the time lasts: first one of each verdict, because others
// may well have the same reason.
func (s *simulation) minimiseAll(ctx context.Context, runner campaign.Runner, summary *campaign.Summary) {
	budget := s.budget()
	start := time.Now()
	next := make(chan *campaign.Failure)
	var workers sync.WaitGroup
	var mu sync.Mutex // of standard error
	for range s.flags.jobs {
		workers.Go(func() {
			for failure := range next {
				left := budget
				if budget.Time > 0 {
					left.Time = budget.Time - time.Since(start)
				}
				if budget.Time > 0 && left.Time <= 0 || ctx.Err() != nil {
					continue
				}
				mu.Lock()
				fmt.Fprintf(s.app.stderr, "looking for a smaller run than: %s\n", failure.Command)
				mu.Unlock()
				smaller, err := s.minimise(ctx, runner, failure.Spec, failure.Verdict, left)
				if err != nil {
					failure.NotMinimised = interrupted(ctx, err).Error()
					continue
				}
				failure.Minimised = smaller
			}
		})
	}
	for _, failure := range oneOfEachFirst(summary.Failures) {
		next <- failure
	}
	close(next)
	workers.Wait()
}

func oneOfEachFirst(failures []campaign.Failure) []*campaign.Failure {
	var first, others []*campaign.Failure
	seen := map[sim.Verdict]bool{}
	for i := range failures {
		if verdict := failures[i].Verdict; seen[verdict] {
			others = append(others, &failures[i])
		} else {
			seen[verdict] = true
			first = append(first, &failures[i])
		}
	}
	return slices.Concat(first, others)
}

// progress shows a campaign's state: in one line that is written again and again on a terminal, in a line now and
// then elsewhere.
type progress struct {
	output   io.Writer
	terminal bool
	last     time.Duration // of the summary that was shown last
	shown    bool
	named    map[string]bool // commands of failures that were shown
}

// logEvery is how often a state is shown where lines stay.
const logEvery = 10 * time.Second

func newProgress(output io.Writer) *progress {
	file, ok := output.(*os.File)
	if !ok {
		return &progress{output: output}
	}
	info, err := file.Stat()
	return &progress{output: output, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) show(summary *campaign.Summary) {
	p.nameFailures(summary.Failures)
	if p.terminal {
		p.shown = true
		fmt.Fprintf(p.output, "\r%s\x1b[K", progressLine(summary))
		return
	}
	if summary.Wall-p.last >= logEvery {
		p.last = summary.Wall
		fmt.Fprintln(p.output, progressLine(summary))
	}
}

// nameFailures shows each failure once, as soon as there is one: a campaign may take hours, and what failed can be looked at meanwhile.
func (p *progress) nameFailures(failures []campaign.Failure) {
	for i := range failures {
		f := &failures[i]
		if p.named[f.Command] {
			continue
		}
		if p.named == nil {
			p.named = map[string]bool{}
		}
		p.named[f.Command] = true
		line := fmt.Sprintf("%s: %s", f.Verdict, f.Command)
		if p.terminal {
			line = "\r" + line + "\x1b[K"
		}
		fmt.Fprintln(p.output, line)
	}
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.output)
	}
}

func progressLine(summary *campaign.Summary) string {
	parts := []string{
		fmt.Sprintf("%d/%d seeds", summary.Done, summary.Seeds.Count()),
		fmt.Sprintf("%d failed", summary.Failed()),
		fmt.Sprintf("%s simulated", hours(summary.Simulated)),
		fmt.Sprintf("%.1f h/min", summary.HoursPerMinute()),
	}
	if remaining := summary.Remaining(); remaining > 0 {
		parts = append(parts, fmt.Sprintf("%v left", remaining.Round(time.Second)))
	}
	return strings.Join(parts, "  ")
}

// hours writes a simulated time.
func hours(d time.Duration) string {
	if d < time.Hour {
		return d.Round(time.Second / 10).String()
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
