package campaign

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/sim"
)

func TestCampaignSummary(t *testing.T) {
	s, err := Run(t.Context(), Here{fakeSimulator{}}, Options{Seeds: Seeds{998, 1001}, Jobs: 3})
	if err != nil {
		t.Fatal(err)
	}
	if s.Done != 4 || s.Failed() != 2 || s.Verdicts[sim.Passed] != 2 || s.Verdicts[sim.Correctness] != 1 || s.Verdicts[sim.Crash] != 1 || s.Worst() != sim.Correctness {
		t.Errorf("verdicts: %+v", s.Verdicts)
	}
	// The seed that panicked has no result.
	if s.Simulated != 15*time.Second || s.Operations["ok"] != 6 || s.Faults["kind4"] != 3 || s.Marks["seen"] != 3 || s.MarkSeeds["seen"] != 3 ||
		s.Protocols["raft"] != 2 || s.Protocols["paxos"] != 1 || s.Engines["memory"] != 3 {
		t.Errorf("sums: %+v", s)
	}
	if got := s.Unreached(fakeSimulator{}.KnownMarks()); !slices.Equal(got, []string{"never-seen"}) {
		t.Errorf("unreached: %v", got)
	}
	if len(s.Failures) != 2 || s.Failures[0].Command != "quorate sim --seed 1000" || s.Failures[1].Problem != "panic: planted" || !strings.Contains(s.Failures[1].Detail, "main_test.go") {
		t.Errorf("failures: %+v", s.Failures)
	}
	if s.Interrupted || s.StoppedAtFailures {
		t.Errorf("%+v", s)
	}
}

func TestCampaignRunsEverySeedOnce(t *testing.T) {
	for _, seeds := range []Seeds{{1, 100}, {math.MaxUint64 - 9, math.MaxUint64}, {0, 0}} {
		var mu sync.Mutex
		seen := map[uint64]int{}
		s, err := Run(t.Context(), runnerFunc(func(_ context.Context, spec Spec) (Report, error) {
			mu.Lock()
			defer mu.Unlock()
			seen[spec.Seed]++
			if spec.Protocol != sim.Paxos {
				t.Errorf("%+v", spec)
			}
			return Report{Spec: spec, Verdict: sim.Passed}, nil
		}), Options{Seeds: seeds, Base: Spec{Protocol: sim.Paxos}, Jobs: 4})
		if err != nil || s.Done != seeds.Count() || uint64(len(seen)) != seeds.Count() || seen[seeds.First] != 1 || seen[seeds.Last] != 1 {
			t.Errorf("%v: %d done, %d seen, %v", seeds, s.Done, len(seen), err)
		}
	}
}

func failing(_ context.Context, spec Spec) (Report, error) {
	return Report{Spec: spec, Verdict: sim.Liveness, Problem: "planted"}, nil
}

func TestCampaignStopsAfterFailures(t *testing.T) {
	s, err := Run(t.Context(), runnerFunc(failing), Options{Seeds: Seeds{1, 1_000_000}, Jobs: 2, MaxFailures: 10})
	if err != nil || !s.StoppedAtFailures || s.Interrupted || s.Failed() < 10 || s.Failed() > 12 {
		t.Errorf("%d failures, %+v, %v", s.Failed(), s.StoppedAtFailures, err)
	}
	// The last seeds are reason to stop no more.
	s, err = Run(t.Context(), runnerFunc(failing), Options{Seeds: Seeds{1, 10}, Jobs: 1, MaxFailures: 10})
	if err != nil || s.StoppedAtFailures || s.Done != 10 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCampaignKeepsLittle(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	s, err := Run(t.Context(), runnerFunc(func(_ context.Context, spec Spec) (Report, error) {
		return Report{Spec: spec, Verdict: sim.Crash, Problem: long, Detail: long}, nil
	}), Options{Seeds: Seeds{1, 3000}, Jobs: 2})
	if err != nil || len(s.Failures) != keptFailures || s.FailuresOmitted != 2000 || s.Verdicts[sim.Crash] != 3000 {
		t.Fatalf("%d kept, %d omitted, %v", len(s.Failures), s.FailuresOmitted, err)
	}
	total := 0
	for _, f := range s.Failures {
		total += len(f.Problem) + len(f.Detail)
	}
	if total > keptDetailBytes+keptFailures*2*shortTextBytes {
		t.Errorf("%d bytes of text", total)
	}
	if !slices.IsSortedFunc(s.Failures, func(a, b Failure) int { return int(a.Spec.Seed) - int(b.Spec.Seed) }) {
		t.Error("the failures are not in the order of their seeds")
	}
}

func TestCampaignInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Run(ctx, runnerFunc(func(ctx context.Context, spec Spec) (Report, error) {
		if spec.Seed == 5 {
			cancel()
			return Report{}, ctx.Err()
		}
		return Report{Spec: spec, Verdict: sim.Passed}, nil
	}), Options{Seeds: Seeds{1, 1000}, Jobs: 1})
	if err != nil || !s.Interrupted || s.Done != 4 {
		t.Errorf("%d done, interrupted %v, %v", s.Done, s.Interrupted, err)
	}
}

func TestCampaignWithoutWorkers(t *testing.T) {
	broken := errors.New("no such program")
	s, err := Run(t.Context(), runnerFunc(func(context.Context, Spec) (Report, error) { return Report{}, broken }), Options{Seeds: Seeds{1, 1000}, Jobs: 2})
	if !errors.Is(err, broken) || s.Done != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCampaignTwice(t *testing.T) {
	s, err := Run(t.Context(), Here{fakeSimulator{}}, Options{Seeds: Seeds{1005, 1007}, Jobs: 1, Twice: true})
	if err != nil || s.Verdicts[Diverged] != 1 || s.Verdicts[sim.Liveness] != 1 || s.Verdicts[sim.Passed] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCampaignProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s, err := Run(t.Context(), runnerFunc(func(_ context.Context, spec Spec) (Report, error) {
			time.Sleep(2 * time.Second)
			return Report{Spec: spec, Verdict: sim.Passed, Result: sim.Result{Time: time.Hour}}, nil
		}), Options{Seeds: Seeds{1, 30}, Jobs: 1, Progress: func(s *Summary) {
			calls++
			if s.Wall == 31*time.Second && (s.Done != 15 || s.Remaining() != 31*time.Second) {
				t.Errorf("after %v: %d done, %v remain", s.Wall, s.Done, s.Remaining())
			}
		}})
		if err != nil || calls < 59 || calls > 61 || s.Wall != time.Minute || s.HoursPerMinute() != 30 {
			t.Errorf("%d calls, %v, %v hours a minute, %v", calls, s.Wall, s.HoursPerMinute(), err)
		}
	})
}
