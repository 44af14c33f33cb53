package campaign

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Simulator makes plans and runs them. It is a seam: tests plant failures with one of their own.
type Simulator interface {
	// Plan is the plan of a spec, without what the spec leaves out.
	Plan(Spec) sim.Plan
	// Validate tells why a plan cannot be run.
	Validate(sim.Plan) error
	Run(sim.Plan, sim.RunOptions) sim.Result
	// KnownMarks are the names of all coverage marks there are; nil: not known.
	KnownMarks() []string
}

// RunHere runs a spec in this process. A panic is a verdict; nothing bounds time and memory.
func RunHere(simulator Simulator, spec Spec, options sim.RunOptions) (report Report) {
	report.Spec = spec
	start := time.Now()
	defer func() {
		report.Wall = time.Since(start)
		if reason := recover(); reason != nil {
			report.Verdict = sim.Crash
			report.Problem = fmt.Sprintf("panic: %v", reason)
			report.Detail = string(debug.Stack())
		}
	}()
	report.Result = simulator.Run(simulator.Plan(spec), options)
	report.Verdict, report.Problem = report.Result.Verdict, report.Result.Problem
	return report
}

// Here is a Runner in this process. It runs one spec at a time, and a context ends no run.
type Here struct{ Simulator Simulator }

// Run runs the spec.
func (h Here) Run(ctx context.Context, spec Spec, trace io.Writer) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	return RunHere(h.Simulator, spec, sim.RunOptions{Trace: trace}), nil
}
