package campaign

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Summary is what a campaign has shown so far. It does not grow with the number of seeds that passed.
type Summary struct {
	Seeds Seeds  `json:"seeds"`
	Done  uint64 `json:"done"`
	// Interrupted: the campaign was ended from outside before all seeds were done. StoppedAtFailures: it had found enough.
	Interrupted       bool `json:"interrupted"`
	StoppedAtFailures bool `json:"stopped_at_failures"`

	Verdicts  map[sim.Verdict]uint64 `json:"verdicts"`
	Protocols map[string]uint64      `json:"protocols"` // runs by consensus protocol
	Engines   map[string]uint64      `json:"engines"`   // runs by engine
	Simulated time.Duration          `json:"simulated"` // virtual time, nanoseconds in JSON
	Wall      time.Duration          `json:"wall"`      // real time, nanoseconds in JSON
	Events    uint64                 `json:"events"`

	Operations map[string]uint64 `json:"operations"` // by outcome
	Faults     map[string]uint64 `json:"faults"`     // by kind
	Marks      map[string]uint64 `json:"marks"`
	// MarkSeeds counts the seeds that reached a mark.
	MarkSeeds map[string]uint64 `json:"mark_seeds"`

	// Failures are the failing seeds in the order of their seeds, at most keptFailures; FailuresOmitted counts the rest.
	Failures        []Failure `json:"failures"`
	FailuresOmitted uint64    `json:"failures_omitted"`

	sizes int // total length of the failures' texts
}

// Failure is a seed that failed.
type Failure struct {
	Spec      Spec        `json:"spec"`
	Verdict   sim.Verdict `json:"verdict"`
	Problem   string      `json:"problem"`
	Detail    string      `json:"detail,omitempty"`
	Command   string      `json:"command"`
	Minimised *Minimised  `json:"minimised,omitempty"`
	// NotMinimised is why a search for a smaller run found none.
	NotMinimised string `json:"not_minimised,omitempty"`
}

// Bounds on what a summary keeps.
const (
	keptFailures = 1000
	// keptDetailBytes is for details and problems of all failures together; beyond it only their beginnings are kept.
	keptDetailBytes = 4 << 20
	shortTextBytes  = 500
)

func newSummary(seeds Seeds) *Summary {
	return &Summary{
		Seeds:    seeds,
		Verdicts: map[sim.Verdict]uint64{}, Protocols: map[string]uint64{}, Engines: map[string]uint64{},
		Operations: map[string]uint64{}, Faults: map[string]uint64{}, Marks: map[string]uint64{}, MarkSeeds: map[string]uint64{},
		Failures: []Failure{},
	}
}

func (s *Summary) complete() bool { return s.Done == s.Seeds.Count() }

// Failed counts the seeds that did not pass.
func (s *Summary) Failed() uint64 { return s.Done - s.Verdicts[sim.Passed] }

// Worst is the worst verdict of all; passed if there is none.
func (s *Summary) Worst() sim.Verdict {
	worst := sim.Passed
	for verdict := range s.Verdicts {
		worst = Worst(worst, verdict)
	}
	return worst
}

// HoursPerMinute is how many simulated hours pass in a real minute.
func (s *Summary) HoursPerMinute() float64 {
	if s.Wall <= 0 {
		return 0
	}
	return s.Simulated.Hours() / s.Wall.Minutes()
}

// Remaining is how long the rest takes at the rate so far; 0 if that cannot be said.
func (s *Summary) Remaining() time.Duration {
	if s.Done == 0 {
		return 0
	}
	return time.Duration(float64(s.Wall) / float64(s.Done) * float64(s.Seeds.Count()-s.Done))
}

// Unreached are the known marks that no run reached, ascending.
func (s *Summary) Unreached(known []string) []string {
	var unreached []string
	for _, mark := range known {
		if s.Marks[mark] == 0 {
			unreached = append(unreached, mark)
		}
	}
	slices.Sort(unreached)
	return slices.Compact(unreached)
}

func (s *Summary) add(r Report) {
	s.Done++
	s.Verdicts[r.Verdict]++
	if plan := r.Result.Plan; plan.Protocol != "" { // a run that did not survive has none
		s.Protocols[string(plan.Protocol)]++
		s.Engines[string(plan.Engine)]++
	}
	s.Simulated += r.Result.Time
	s.Events += uint64(max(r.Result.Events, 0))
	addAll(s.Operations, r.Result.Operations)
	addAll(s.Faults, r.Result.Faults)
	addAll(s.Marks, r.Result.Marks)
	for mark, times := range r.Result.Marks {
		if times > 0 {
			s.MarkSeeds[mark]++
		}
	}
	if r.Failed() {
		s.addFailure(r)
	}
}

func addAll(sums map[string]uint64, counts map[string]int) {
	for name, count := range counts {
		sums[name] += uint64(max(count, 0))
	}
}

func (s *Summary) addFailure(r Report) {
	if len(s.Failures) == keptFailures {
		s.FailuresOmitted++
		return
	}
	f := Failure{Spec: r.Spec, Verdict: r.Verdict, Problem: r.Problem, Detail: r.Detail, Command: r.Spec.Command()}
	if s.sizes+len(f.Problem)+len(f.Detail) > keptDetailBytes {
		f.Problem, f.Detail = beginning(f.Problem, shortTextBytes), ""
	}
	s.sizes += len(f.Problem) + len(f.Detail)
	// Workers report out of order.
	place, _ := slices.BinarySearchFunc(s.Failures, f.Spec.Seed, func(f Failure, seed uint64) int {
		if f.Spec.Seed < seed {
			return -1
		}
		return 1
	})
	s.Failures = slices.Insert(s.Failures, place, f)
}

// beginning cuts a text to about so many bytes.
func beginning(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return text[:bytes] + "…"
}
