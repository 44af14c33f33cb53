package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/quoratedb/quorate/sim/campaign"
)

// one runs one spec and shows it. hash, if not nil, is what its trace must have.
func (s *simulation) one(ctx context.Context, spec campaign.Spec, hash *uint64) error {
	runner, release, err := s.runner(1)
	if err != nil {
		return err
	}
	defer release()
	report, err := s.traced(ctx, runner, spec)
	if err != nil {
		return interrupted(ctx, err)
	}
	if s.flags.twice {
		if report, err = campaign.Again(ctx, runner, report); err != nil {
			return interrupted(ctx, err)
		}
	}
	if hash != nil && report.Result.Hash != *hash && !report.Failed() {
		report.Verdict = campaign.Diverged
		report.Problem = fmt.Sprintf("the trace has the hash %s, and --check-hash wants %s", campaign.FormatHash(report.Result.Hash), campaign.FormatHash(*hash))
	}
	var smaller *campaign.Minimised
	if report.Failed() && s.flags.minimise {
		if smaller, err = s.minimise(ctx, runner, spec, report.Verdict, s.budget()); err != nil {
			fmt.Fprintf(s.app.stderr, "quorate: sim: %v\n", interrupted(ctx, err))
		}
	}
	if err := s.printRun(report, smaller); err != nil {
		return err
	}
	return verdictOf(report)
}

// verdictOf is nil for a run that passed.
func verdictOf(report campaign.Report) error {
	if !report.Failed() {
		return nil
	}
	return &verdictError{report.Verdict, fmt.Sprintf("sim: seed %d: %s: %s", report.Spec.Seed, report.Verdict, firstLine(report.Problem))}
}

// interrupted says so instead of what the end of the context led to.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("sim: interrupted")
	}
	return err
}

// traced runs a spec and writes its trace to where the flags say.
func (s *simulation) traced(ctx context.Context, runner campaign.Runner, spec campaign.Spec) (report campaign.Report, err error) {
	switch {
	case s.flags.trace == "off" || s.flags.trace == "" && s.json():
		return runner.Run(ctx, spec, nil)
	case s.flags.trace == "" || s.flags.trace == "-":
		return s.tracedTo(ctx, runner, spec, s.app.stdout)
	}
	file, err := os.Create(s.flags.trace)
	if err != nil {
		return report, fmt.Errorf("sim: create the trace file: %w", err)
	}
	report, err = s.tracedTo(ctx, runner, spec, file)
	if closed := file.Close(); err == nil && closed != nil {
		err = fmt.Errorf("sim: write the trace file: %w", closed)
	}
	return report, err
}

func (s *simulation) tracedTo(ctx context.Context, runner campaign.Runner, spec campaign.Spec, output io.Writer) (report campaign.Report, err error) {
	buffered := bufio.NewWriterSize(output, 1<<16)
	writer, err := campaign.NewTraceWriter(buffered, traceVersion(), spec, s.app.simulator.Plan(spec))
	if err != nil {
		return report, fmt.Errorf("sim: write the trace: %w", err)
	}
	if report, err = runner.Run(ctx, spec, writer); err != nil {
		_ = buffered.Flush() // what there is of the trace may tell why
		return report, err
	}
	if err = writer.End(report); err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return report, fmt.Errorf("sim: write the trace: %w", err)
	}
	return report, nil
}

// replay runs a trace file's run again.
func (s *simulation) replay(ctx context.Context) error {
	file, err := os.Open(s.flags.replay)
	if err != nil {
		return fmt.Errorf("sim: open the trace: %w", err)
	}
	defer file.Close()
	runner, release, err := s.runner(1)
	if err != nil {
		return err
	}
	defer release()
	replayed, err := campaign.Replay(ctx, file, traceVersion(), s.app.simulator, runner)
	if err != nil {
		return fmt.Errorf("sim: %s: %w", s.flags.replay, interrupted(ctx, err))
	}
	if err := s.printReplayed(replayed); err != nil {
		return err
	}
	if replayed.Same {
		return nil
	}
	message := fmt.Sprintf("sim: seed %d gave another trace than the saved one", replayed.Saved.Spec.Seed)
	return &verdictError{campaign.Diverged, message}
}
