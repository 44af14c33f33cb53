package campaign

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Verdicts that the simulation itself cannot give.
const (
	// Hang: the run went on for ever: it used up its limit of processor time, or waited for what never comes.
	Hang sim.Verdict = "hang"
	// Diverged: the same run gave another trace the second time.
	Diverged sim.Verdict = "diverged"
)

// severity orders the verdicts, the worst first.
var severity = []sim.Verdict{sim.Correctness, sim.Crash, Hang, sim.Liveness, Diverged, sim.Passed}

// Worst is the worse of two verdicts.
func Worst(a, b sim.Verdict) sim.Verdict {
	if rank(b) < rank(a) {
		return b
	}
	return a
}

// rank: a verdict that nobody knows ranks before all others.
func rank(v sim.Verdict) int { return slices.Index(severity, v) }

// Report is what one run showed, also when the process that ran it did not survive it.
type Report struct {
	Spec    Spec        `json:"spec"`
	Verdict sim.Verdict `json:"verdict"`
	Problem string      `json:"problem,omitempty"` // the first thing that was wrong, for people
	// Detail is what helps to find the reason: a panic's stack, the goroutines of a run that hung, or what the process wrote
	// on its standard error before it died.
	Detail string `json:"detail,omitempty"`
	// Result is as the simulation gave it; without content if it gave none.
	Result sim.Result    `json:"result"`
	Wall   time.Duration `json:"wall"` // real time
}

// Failed tells whether the verdict is any but passed.
func (r Report) Failed() bool { return r.Verdict != sim.Passed }

// Again runs a report's spec once more, unless it failed, and gives the verdict Diverged if the trace is another one.
func Again(ctx context.Context, runner Runner, first Report) (Report, error) {
	if first.Failed() {
		return first, nil
	}
	second, err := runner.Run(ctx, first.Spec, nil)
	if err != nil {
		return Report{}, err
	}
	return compareTraces(first, second), nil
}

// compareTraces gives the second report the verdict Diverged if the two runs of one spec passed with different traces.
func compareTraces(first, second Report) Report {
	if first.Failed() || second.Failed() {
		return second
	}
	if first.Result.Hash != second.Result.Hash {
		second.Verdict = Diverged
		second.Problem = fmt.Sprintf("the same run gave the trace hash %s, and then %s", FormatHash(first.Result.Hash), FormatHash(second.Result.Hash))
	}
	return second
}

// FormatHash writes a trace hash as ParseHash reads it.
func FormatHash(hash uint64) string { return fmt.Sprintf("%016x", hash) }
