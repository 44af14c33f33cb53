package campaign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Budget bounds a search for a smaller run. 0: no bound.
type Budget struct {
	Runs int
	Time time.Duration
}

// Size is how big a run is.
type Size struct {
	Clients  int           `json:"clients"`
	Faults   int           `json:"faults"` // that begin before its end
	Duration time.Duration `json:"duration"`
	Events   int64         `json:"events"` // 0: the run did not live to tell
}

// Minimised is the smallest run that was found to fail in the same way.
type Minimised struct {
	Spec    Spec        `json:"spec"`
	Verdict sim.Verdict `json:"verdict"`
	Problem string      `json:"problem"`
	Command string      `json:"command"`
	Before  Size        `json:"before"`
	After   Size        `json:"after"`
	Runs    int         `json:"runs"` // that the search took
	// Exhausted: the budget was used up before the search was done.
	Exhausted bool `json:"exhausted"`
	// OtherVerdicts are commands of runs that failed in another way, the first for each verdict: worth a look of their own.
	OtherVerdicts map[sim.Verdict]string `json:"other_verdicts,omitempty"`
}

// ErrNotReproduced: the run did not fail again.
var ErrNotReproduced = errors.New("the run did not fail again: something in it does not follow from the seed")

var errBudget = errors.New("budget used up")

// Minimise looks for a run with fewer faults, fewer clients and less time that ends with the same verdict. It tries
// nothing that the spec has left out already. The plan is that of the seed, with nothing left out.
func Minimise(ctx context.Context, runner Runner, spec Spec, verdict sim.Verdict, plan sim.Plan, budget Budget) (*Minimised, error) {
	if verdict == sim.Passed {
		return nil, errors.New("minimise: the run passed")
	}
	m := &minimiser{
		ctx: ctx, runner: runner, verdict: verdict, plan: plan, budget: budget, start: time.Now(),
		tried: make(map[string]bool), others: make(map[sim.Verdict]string),
	}
	best := complete(spec, plan)
	fails, err := m.fails(best)
	switch {
	case errors.Is(err, errBudget):
		return nil, fmt.Errorf("minimise seed %d: the budget does not allow a single run", spec.Seed)
	case err != nil:
		return nil, fmt.Errorf("minimise seed %d: %w", spec.Seed, err)
	case !fails:
		return nil, fmt.Errorf("minimise seed %d: %w", spec.Seed, ErrNotReproduced)
	}
	before := m.size(best, m.last)
	if err = m.search(); err != nil && !errors.Is(err, errBudget) {
		return nil, fmt.Errorf("minimise seed %d: %w", spec.Seed, err)
	}
	result := abbreviate(m.best, plan)
	return &Minimised{
		Spec: result, Verdict: verdict, Problem: m.last.Problem, Command: result.Command(),
		Before: before, After: m.size(m.best, m.last),
		Runs: m.runs, Exhausted: err != nil, OtherVerdicts: m.others,
	}, nil
}

type minimiser struct {
	ctx     context.Context
	runner  Runner
	verdict sim.Verdict
	plan    sim.Plan
	budget  Budget
	start   time.Time

	runs   int
	tried  map[string]bool // command: it failed in the same way
	best   Spec            // Invariant: the last spec that was seen to fail in the same way
	last   Report          // of best
	others map[sim.Verdict]string
}

// fails runs a spec, unless it did before.
func (m *minimiser) fails(spec Spec) (bool, error) {
	key := spec.Command()
	if failed, ok := m.tried[key]; ok {
		return failed, nil
	}
	if m.budget.Runs > 0 && m.runs >= m.budget.Runs || m.budget.Time > 0 && time.Since(m.start) >= m.budget.Time {
		return false, errBudget
	}
	report, err := m.run(spec)
	if err != nil {
		return false, err
	}
	failed := report.Verdict == m.verdict
	m.tried[key] = failed
	switch {
	case failed:
		m.best, m.last = spec, report
	case report.Failed() && m.others[report.Verdict] == "":
		m.others[report.Verdict] = abbreviate(spec, m.plan).Command()
	}
	return failed, nil
}

// run spends what is left of the time at most.
func (m *minimiser) run(spec Spec) (Report, error) {
	ctx := m.ctx
	if m.budget.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, m.start.Add(m.budget.Time))
		defer cancel()
	}
	m.runs++
	report, err := m.runner.Run(ctx, spec, nil)
	if err == nil && m.verdict == Diverged && !report.Failed() {
		m.runs++
		report, err = Again(ctx, m.runner, report)
	}
	if err != nil && ctx.Err() != nil && m.ctx.Err() == nil {
		return Report{}, errBudget
	}
	return report, err
}

// search makes the best spec smaller until nothing helps any more: a failure need not be monotone, so that what one step
// leaves out may allow another one more.
func (m *minimiser) search() error {
	for {
		before := m.best.Command()
		for _, step := range []func() error{m.endEarlier, m.shorten, m.fewerFaults, m.fewerClients} {
			if err := step(); err != nil {
				return err
			}
		}
		if m.best.Command() == before {
			return nil
		}
	}
}

// endEarlier tries to end where the failing run had ended, and to leave out faults after that.
func (m *minimiser) endEarlier() error {
	end := m.last.Result.Time.Truncate(durationStep) + durationStep
	if m.last.Result.Time > 0 && end < m.best.Duration {
		shorter := m.best
		shorter.Duration = end
		if _, err := m.fails(shorter); err != nil {
			return err
		}
	}
	return m.dropLateFaults()
}

// dropLateFaults tries without the faults that begin only after the end.
func (m *minimiser) dropLateFaults() error {
	fewer := m.best
	fewer.Faults = slices.DeleteFunc(slices.Clone(fewer.Faults), func(position int) bool {
		return m.plan.Faults[position].At >= fewer.Duration
	})
	_, err := m.fails(fewer)
	return err
}

// durationStep is how exactly the shortest time is looked for.
const durationStep = time.Millisecond

// shorten looks for a shorter time by bisection.
func (m *minimiser) shorten() error {
	passes := time.Duration(0)
	for m.best.Duration-passes > durationStep {
		shorter := m.best
		shorter.Duration = (passes + (m.best.Duration-passes)/2).Round(durationStep)
		if shorter.Duration <= passes || shorter.Duration >= m.best.Duration {
			break
		}
		failed, err := m.fails(shorter)
		switch {
		case err != nil:
			return err
		case !failed:
			passes = shorter.Duration
		}
	}
	return m.dropLateFaults()
}

func (m *minimiser) fewerFaults() error {
	_, err := ddmin(m.best.Faults, func(faults []int) (bool, error) {
		fewer := m.best
		fewer.Faults = faults
		return m.fails(fewer)
	})
	return err
}

func (m *minimiser) fewerClients() error {
	_, err := ddmin(m.best.Clients, func(clients []int) (bool, error) {
		fewer := m.best
		fewer.Clients = clients
		return m.fails(fewer)
	})
	return err
}

func (m *minimiser) size(spec Spec, report Report) Size {
	size := Size{Clients: len(spec.Clients), Duration: spec.Duration, Events: report.Result.Events}
	for _, position := range spec.Faults {
		if m.plan.Faults[position].At < spec.Duration {
			size.Faults++
		}
	}
	return size
}

// complete writes out what a spec leaves to the plan.
func complete(spec Spec, plan sim.Plan) Spec {
	if spec.Clients == nil {
		spec.Clients = make([]int, len(plan.Clients))
		for i, client := range plan.Clients {
			spec.Clients[i] = client.Number
		}
	}
	if spec.Faults == nil {
		spec.Faults = make([]int, len(plan.Faults))
		for i := range spec.Faults {
			spec.Faults[i] = i
		}
	}
	if spec.Duration == 0 {
		spec.Duration = plan.Duration
	}
	return spec
}

// abbreviate is the inverse: it leaves to the plan what is all of it.
func abbreviate(spec Spec, plan sim.Plan) Spec {
	if len(spec.Clients) == len(plan.Clients) {
		spec.Clients = nil
	}
	if len(spec.Faults) == len(plan.Faults) {
		spec.Faults = nil
	}
	if spec.Duration == plan.Duration {
		spec.Duration = 0
	}
	return spec
}
