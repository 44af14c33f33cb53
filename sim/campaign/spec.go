package campaign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Spec names one run: everything that decides what happens in it. As JSON it is the job of a worker and the "run"
// line of a trace file.
type Spec struct {
	Seed     uint64         `json:"seed"`
	Protocol sim.Protocol   `json:"protocol,omitempty"` // "": drawn from the seed
	Engine   sim.EngineKind `json:"engine,omitempty"`   // "": the simulator's own choice
	Shards   int            `json:"shards,omitempty"`   // 0: drawn from the seed
	// Partition makes the shards those of one store: sim.ByRange or sim.ByHash; sim.NoPartition: each is one of its own; "": as the seed says.
	Partition string `json:"partition,omitempty"`
	// Commit is the commit protocol of one store: sim.TwoPhase or sim.ThreePhase; "": as the seed says.
	Commit sim.CommitProtocol `json:"commit,omitempty"`
	// What is left of the plan, as in sim.Restrict: nil is all, empty is none.
	Clients  []int         `json:"clients"`
	Faults   []int         `json:"faults"`
	Duration time.Duration `json:"duration,omitempty"` // 0: the plan's
}

// Restrict is the part of the spec that leaves things out.
func (s Spec) Restrict() sim.Restrict {
	return sim.Restrict{Clients: s.Clients, Faults: s.Faults, Duration: s.Duration}
}

// whole is the spec with nothing left out.
func (s Spec) whole() Spec {
	s.Clients, s.Faults, s.Duration = nil, nil, 0
	return s
}

// Command is the command line that runs the spec.
func (s Spec) Command() string {
	var b strings.Builder
	fmt.Fprintf(&b, "quorate sim --seed %d", s.Seed)
	if s.Protocol != "" {
		fmt.Fprintf(&b, " --consensus %s", s.Protocol)
	}
	if s.Engine != "" {
		fmt.Fprintf(&b, " --engine %s", s.Engine)
	}
	if s.Shards != 0 {
		fmt.Fprintf(&b, " --shards %d", s.Shards)
	}
	if s.Partition != "" {
		fmt.Fprintf(&b, " --partition %s", s.Partition)
	}
	if s.Commit != "" {
		fmt.Fprintf(&b, " --commit-protocol %s", s.Commit)
	}
	if s.Clients != nil {
		b.WriteString(" --clients " + FormatNumbers(s.Clients))
	}
	if s.Faults != nil {
		b.WriteString(" --faults " + FormatNumbers(s.Faults))
	}
	if s.Duration != 0 {
		fmt.Fprintf(&b, " --duration %v", s.Duration)
	}
	return b.String()
}

// CheckAgainst tells what the spec restricts to that the plan, with nothing left out, does not have.
func (s Spec) CheckAgainst(plan sim.Plan) error {
	clients := make([]int, len(plan.Clients))
	for i, c := range plan.Clients {
		clients[i] = c.Number
	}
	for _, number := range s.Clients {
		if !slices.Contains(clients, number) {
			return fmt.Errorf("--clients: the plan of seed %d has no client %d; its clients are %s", s.Seed, number, FormatNumbers(clients))
		}
	}
	for _, number := range s.Faults {
		switch {
		case len(plan.Faults) == 0:
			return fmt.Errorf("--faults: the plan of seed %d has no faults", s.Seed)
		case number < 0 || number >= len(plan.Faults):
			return fmt.Errorf("--faults: the plan of seed %d has no fault %d; its faults are 0 to %d", s.Seed, number, len(plan.Faults)-1)
		}
	}
	if s.Duration > plan.Duration {
		return fmt.Errorf("--duration=%v: the plan of seed %d lasts %v, and can only be made shorter", s.Duration, s.Seed, plan.Duration)
	}
	return nil
}

// none is how an empty list of numbers is written.
const none = "none"

// FormatNumbers writes a list as ParseNumbers reads it: 1,3 or none.
func FormatNumbers(numbers []int) string {
	if len(numbers) == 0 {
		return none
	}
	texts := make([]string, len(numbers))
	for i, number := range numbers {
		texts[i] = strconv.Itoa(number)
	}
	return strings.Join(texts, ",")
}

// maxNumbers bounds a list, far above what any plan has.
const maxNumbers = 10_000

// ParseNumbers reads "1,3" or "none"; "" and "all" are nil: all. The result is ascending.
func ParseNumbers(text string) ([]int, error) {
	switch text {
	case "", "all":
		return nil, nil
	case none:
		return []int{}, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > maxNumbers {
		return nil, fmt.Errorf("%d numbers are too many", len(parts))
	}
	numbers := make([]int, 0, len(parts))
	for _, part := range parts {
		number, err := strconv.ParseUint(strings.TrimSpace(part), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of numbers such as 2,5,9, nor %q, nor \"all\"", text, none)
		}
		if slices.Contains(numbers, int(number)) {
			return nil, fmt.Errorf("%q has %d twice", text, number)
		}
		numbers = append(numbers, int(number))
	}
	slices.Sort(numbers)
	return numbers, nil
}
