package explore

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus/consensustest"
)

// Flags are the bounds of explorations that a test may raise.
type Flags struct{ states *int }

// DefaultStates is how many states of a setting are visited unless told otherwise, ShortStates with -short.
const (
	DefaultStates = 20_000
	ShortStates   = 7_000
)

// RegisterFlags lets the test binary take -explore-states.
func RegisterFlags() Flags {
	return Flags{flag.Int("explore-states", 0, "states that the explorer visits at most in each setting")}
}

// Limits returns what the flags ask for.
func (f Flags) Limits() Limits {
	states := *f.states
	switch {
	case states == 0 && testing.Short():
		states = ShortStates
	case states == 0:
		states = DefaultStates
	}
	return Limits{States: states, Seed: uint64(states)}
}

// Run explores each setting in a subtest, which fails with a scenario that breaks an invariant.
func Run(t *testing.T, p Protocol, settings []Setting, limits Limits) {
	for _, s := range settings {
		t.Run(s.Name, func(t *testing.T) {
			begin := time.Now()
			r := Explore(p, s, Fault{}, nil, limits)
			t.Logf("%d states, all of them: %v, depth %d; %d states of single replicas, %d steps of them; %d random walks; %v",
				r.States, r.Complete, r.Depth, r.Local, r.Transitions, r.Walks, time.Since(begin).Round(time.Millisecond))
			if r.Violation != nil {
				t.Errorf("%v\n%s", r.Violation, strings.Join(r.Trace, "\n"))
			}
		})
	}
}

// RunSamples requires that random ways through the settings go the same way when they are replayed, as texts, in the fixture
// of package consensustest. So what the explorer says about a broken invariant can be taken into the corpus.
func RunSamples(t *testing.T, p Protocol, opts consensustest.Options) {
	applied := 0
	for _, s := range Settings() {
		for seed := range uint64(20) {
			commands, values := Sample(p, s, seed, 60)
			out, err := consensustest.Replay(opts, commands)
			if err != nil {
				t.Fatalf("%s, seed %d: %v\n%s", s.Name, seed, err, strings.Join(commands, "\n"))
			}
			if !strings.HasSuffix(out, values) {
				t.Fatalf("%s, seed %d: the replay ends with %q instead of %q\n%s", s.Name, seed, out[max(0, len(out)-len(values)):], values, strings.Join(commands, "\n"))
			}
			applied += strings.Count(values, "v")
		}
	}
	if applied == 0 {
		t.Error("no way ever led to an applied value")
	}
}
