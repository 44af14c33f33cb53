package campaign

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// judged is a runner of plans that gives the verdict of a function.
type judged struct {
	verdict func(Spec) sim.Verdict
	runs    int
}

func (j *judged) Run(ctx context.Context, spec Spec, _ io.Writer) (Report, error) {
	j.runs++
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
	}
	verdict := j.verdict(spec)
	return Report{Spec: spec, Verdict: verdict, Problem: string(verdict) + " here", Result: sim.Result{Verdict: verdict, Time: spec.Duration + time.Second, Events: int64(len(spec.Faults))}}, nil
}

func has(numbers []int, wanted ...int) bool {
	return !slices.ContainsFunc(wanted, func(n int) bool { return !slices.Contains(numbers, n) })
}

func TestMinimiseFindsPlantedFailure(t *testing.T) {
	plan := fakePlan(Spec{Seed: seedWrong})
	found, err := Minimise(t.Context(), Here{fakeSimulator{}}, Spec{Seed: seedWrong}, sim.Correctness, plan, Budget{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "quorate sim --seed 1000 --clients 2 --faults 3,7 --duration 1.2s"; found.Command != want {
		t.Errorf("got  %s\nwant %s", found.Command, want)
	}
	before, after := Size{Clients: 3, Faults: 10, Duration: 4 * time.Second, Events: 4000}, Size{Clients: 1, Faults: 2, Duration: 1200 * time.Millisecond, Events: 1200}
	if found.Before != before || found.After != after || found.Exhausted || found.Verdict != sim.Correctness || found.Problem != "an answer was wrong" {
		t.Errorf("%+v", found)
	}
	if found.Runs > 80 {
		t.Errorf("it took %d runs", found.Runs)
	}
}

// TestMinimiseLeavesOutNothingThatIsOut: what the spec has left out stays out, and what it kept of the command line stays.
func TestMinimiseOfRestrictedSpec(t *testing.T) {
	spec := Spec{Seed: seedWrong, Protocol: sim.Paxos, Faults: []int{1, 3, 7}, Clients: []int{2, 3}, Duration: 2 * time.Second}
	found, err := Minimise(t.Context(), Here{fakeSimulator{}}, spec, sim.Correctness, fakePlan(Spec{Seed: seedWrong}), Budget{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "quorate sim --seed 1000 --consensus paxos --clients 2 --faults 3,7 --duration 1.2s"; found.Command != want {
		t.Errorf("got  %s\nwant %s", found.Command, want)
	}
}

// TestMinimiseRandomSets plants random monotone failures; the smallest set is unique then.
func TestMinimiseRandomSets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	plan := fakePlan(Spec{Seed: 1})
	for range 300 {
		faults, clients := random.Perm(10)[:random.IntN(6)], random.Perm(3)[:random.IntN(4)]
		slices.Sort(faults)
		slices.Sort(clients)
		for i := range clients {
			clients[i]++
		}
		from := time.Duration(random.IntN(4000)+1) * time.Millisecond
		runner := &judged{verdict: func(s Spec) sim.Verdict {
			if has(s.Faults, faults...) && has(s.Clients, clients...) && s.Duration >= from {
				return sim.Liveness
			}
			return sim.Passed
		}}
		found, err := Minimise(t.Context(), runner, Spec{Seed: 1}, sim.Liveness, plan, Budget{})
		if err != nil {
			t.Fatal(err)
		}
		got := complete(found.Spec, plan)
		if !slices.Equal(got.Faults, faults) || !slices.Equal(got.Clients, clients) || got.Duration != from {
			t.Errorf("planted %v %v %v, found %v", faults, clients, from, found.Command)
		}
		if found.Runs != runner.runs {
			t.Errorf("%d runs were counted of %d", found.Runs, runner.runs)
		}
	}
}

// TestMinimiseNonMonotone: leaving something out may make the failure vanish, or come back. What is found must fail, and must not be
// reducible by one fault or client.
func TestMinimiseNonMonotone(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	plan := fakePlan(Spec{Seed: 1})
	for range 300 {
		salt := random.Uint64()
		verdict := func(s Spec) sim.Verdict {
			if len(s.Faults) == 10 && len(s.Clients) == 3 && s.Duration == plan.Duration {
				return sim.Correctness
			}
			chance := rand.New(rand.NewPCG(salt, hashOf(s)))
			return []sim.Verdict{sim.Passed, sim.Correctness, sim.Crash}[chance.IntN(3)]
		}
		found, err := Minimise(t.Context(), &judged{verdict: verdict}, Spec{Seed: 1}, sim.Correctness, plan, Budget{})
		if err != nil {
			t.Fatal(err)
		}
		got := complete(found.Spec, plan)
		if verdict(got) != sim.Correctness {
			t.Fatalf("%s does not fail", found.Command)
		}
		for i := range got.Faults {
			smaller := got
			smaller.Faults = slices.Delete(slices.Clone(got.Faults), i, i+1)
			if verdict(smaller) == sim.Correctness {
				t.Errorf("%s also fails without fault %d", found.Command, got.Faults[i])
			}
		}
		for i := range got.Clients {
			smaller := got
			smaller.Clients = slices.Delete(slices.Clone(got.Clients), i, i+1)
			if verdict(smaller) == sim.Correctness {
				t.Errorf("%s also fails without client %d", found.Command, got.Clients[i])
			}
		}
		if other := found.OtherVerdicts[sim.Crash]; found.Runs > 20 && other == "" {
			t.Errorf("no crash was seen in %d runs", found.Runs)
		}
	}
}

func hashOf(s Spec) uint64 {
	sum := uint64(14695981039346656037)
	for _, b := range []byte(s.Command()) {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return sum
}

func TestMinimiseRespectsBudgetOfRuns(t *testing.T) {
	plan := fakePlan(Spec{Seed: seedWrong})
	const smallest = "quorate sim --seed 1 --clients 2 --faults 3,7 --duration 1.2s"
	for _, budget := range []int{1, 2, 3, 5, 10, 20, 30, 1000} {
		runner := &judged{verdict: func(s Spec) sim.Verdict {
			if has(s.Faults, 3, 7) && has(s.Clients, 2) && s.Duration >= 1200*time.Millisecond {
				return sim.Correctness
			}
			return sim.Passed
		}}
		found, err := Minimise(t.Context(), runner, Spec{Seed: 1}, sim.Correctness, plan, Budget{Runs: budget})
		if err != nil {
			t.Fatal(err)
		}
		if runner.runs > budget || found.Runs != runner.runs || found.Exhausted != (runner.runs == budget) || !found.Exhausted && found.Command != smallest {
			t.Errorf("budget %d: %d runs, %+v", budget, runner.runs, found)
		}
		if runner.verdict(complete(found.Spec, plan)) != sim.Correctness {
			t.Errorf("budget %d: %s does not fail", budget, found.Command)
		}
	}
}

// TestMinimiseRespectsBudgetOfTime: the run that goes on when the time is up is ended, and what was found so far is given.
func TestMinimiseRespectsBudgetOfTime(t *testing.T) {
	runner := runnerFunc(func(ctx context.Context, spec Spec) (Report, error) {
		if len(spec.Faults) < 10 {
			<-ctx.Done()
			return Report{}, ctx.Err()
		}
		return Report{Spec: spec, Verdict: Hang}, nil
	})
	found, err := Minimise(t.Context(), runner, Spec{Seed: 1}, Hang, fakePlan(Spec{Seed: 1}), Budget{Time: 300 * time.Millisecond})
	if err != nil || !found.Exhausted || found.After.Faults < 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

type runnerFunc func(context.Context, Spec) (Report, error)

func (f runnerFunc) Run(ctx context.Context, spec Spec, _ io.Writer) (Report, error) {
	return f(ctx, spec)
}

func TestMinimiseWhatDoesNotFailAgain(t *testing.T) {
	_, err := Minimise(t.Context(), Here{fakeSimulator{}}, Spec{Seed: 1}, sim.Correctness, fakePlan(Spec{Seed: 1}), Budget{})
	if !errors.Is(err, ErrNotReproduced) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Minimise(ended, Here{fakeSimulator{}}, Spec{Seed: seedWrong}, sim.Correctness, fakePlan(Spec{Seed: 1}), Budget{Time: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err = Minimise(t.Context(), Here{fakeSimulator{}}, Spec{Seed: 1}, sim.Passed, fakePlan(Spec{Seed: 1}), Budget{}); err == nil {
		t.Error("a run that passed was minimised")
	}
}

func TestMinimiseDiverged(t *testing.T) {
	found, err := Minimise(t.Context(), Here{fakeSimulator{}}, Spec{Seed: seedUnstable}, Diverged, fakePlan(Spec{Seed: seedUnstable}), Budget{})
	if err != nil || found.After.Faults != 0 || found.After.Clients != 0 || found.After.Duration != time.Millisecond {
		t.Errorf("%+v, %v", found, err)
	}
}
