package campaign

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// TestLeavingOutKeepsTheRest: a fault that has no effect can be left out, and everything else happens as before. The
// search for smaller runs lives on that.
func TestLeavingOutKeepsTheRest(t *testing.T) {
	traceOf := func(plan sim.Plan) string {
		var trace bytes.Buffer
		report := RunHere(planned{plan}, Spec{}, sim.RunOptions{Trace: &trace})
		if report.Failed() {
			t.Fatalf("%s: %s", report.Verdict, report.Problem)
		}
		lines := slices.DeleteFunc(strings.Split(trace.String(), "\n"), func(line string) bool { return strings.Contains(line, "client-break") })
		return strings.Join(lines, "\n")
	}
	for seed := uint64(1); seed <= 4; seed++ {
		plan := sim.NewPlan(seed, sim.PlanOptions{Nodes: 5, Duration: 2 * time.Second})
		plan.Clients = nil // so that there is no connection to break
		plan.Faults = []sim.Fault{
			{At: time.Millisecond, Kind: sim.FaultClientBreak, Node: 1, Seed: seed},
			{At: 500 * time.Millisecond, Kind: sim.FaultPartial, Duration: time.Second, Seed: seed + 1},
			{At: 700 * time.Millisecond, Kind: sim.FaultPartition, Duration: time.Second, Seed: seed + 2},
		}
		all, fewer := traceOf(plan), traceOf(plan.Restrict(sim.Restrict{Faults: []int{1, 2}}))
		if all != fewer {
			t.Errorf("seed %d: without a fault that has no effect the trace is another", seed)
		}
		if !strings.Contains(all, "fault: partial") {
			t.Errorf("seed %d: the faults did not happen", seed)
		}
	}
}

// planned runs one plan, whatever the spec.
type planned struct{ plan sim.Plan }

func (p planned) Plan(Spec) sim.Plan                                 { return p.plan }
func (planned) Validate(plan sim.Plan) error                         { return plan.Validate() }
func (planned) Run(plan sim.Plan, options sim.RunOptions) sim.Result { return sim.Run(plan, options) }
func (planned) KnownMarks() []string                                 { return nil }
