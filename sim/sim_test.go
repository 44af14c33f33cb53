package sim

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	firstSeed  = flag.Uint64("first-seed", 1, "first seed of the random runs")
	seedCount  = flag.Uint64("seeds", 120, "number of random runs")
	onlyFaults = flag.String("faults", "", "kinds of faults to use, separated by commas; all others are left out")
	showTrace  = flag.Bool("trace", false, "print the trace of a run that fails")
)

// TestSeeds runs plans of all kinds. Reproduce one with -run TestSeeds -first-seed=N -seeds=1.
func TestSeeds(t *testing.T) {
	count := *seedCount
	if testing.Short() {
		count = min(count, 30)
	}
	marks, operations, faults := map[string]int{}, map[string]int{}, map[string]int{}
	var virtual time.Duration
	began := time.Now()
	for seed := *firstSeed; seed < *firstSeed+count; seed++ {
		r := Run(NewPlan(seed, planOptions()), RunOptions{})
		if r.Verdict != Passed {
			report(t, r)
		}
		add(marks, r.Marks)
		add(operations, r.Operations)
		add(faults, r.Faults)
		virtual += r.Time
	}
	t.Logf("%d runs, %s of virtual time, %.0f times as fast as real time\noperations %v\nfaults %v\nmarks %v",
		count, seconds(virtual), virtual.Seconds()/time.Since(began).Seconds(), operations, faults, marks)
}

func planOptions() (o PlanOptions) {
	if *onlyFaults != "" {
		for _, kind := range strings.Split(*onlyFaults, ",") {
			o.Faults = append(o.Faults, FaultKind(kind))
		}
	}
	return o
}

func report(t *testing.T, r Result) {
	t.Helper()
	t.Errorf("seed %d (%s, %d nodes): %s: %s", r.Plan.Seed, r.Plan.Protocol, r.Plan.Nodes, r.Verdict, r.Problem)
	if *showTrace {
		var trace bytes.Buffer
		Run(r.Plan, RunOptions{Trace: &trace})
		t.Log("\n" + trace.String())
	}
}

func add(sum, more map[string]int) {
	for name, count := range more {
		sum[name] += count
	}
}

// TestSameSeedSameTrace runs plans twice, once with somebody reading along.
func TestSameSeedSameTrace(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for _, protocol := range []Protocol{Raft, Paxos} {
		for seed := uint64(1); seed <= seeds; seed++ {
			p := NewPlan(seed, PlanOptions{Protocol: protocol})
			var trace bytes.Buffer
			first, second := Run(p, RunOptions{}), Run(p, RunOptions{Trace: &trace})
			if first.Hash != second.Hash || first.Events != second.Events || first.Time != second.Time {
				t.Errorf("%s, seed %d: %d events and hash %x, the second time %d and %x", protocol, seed, first.Events, first.Hash, second.Events, second.Hash)
			}
			if trace.Len() == 0 {
				t.Error("the trace is empty")
			}
		}
	}
}

func names(m map[string]int) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

func BenchmarkRun(b *testing.B) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		b.Run(fmt.Sprint(protocol), func(b *testing.B) {
			var virtual time.Duration
			var operations int
			var events, rounds int64
			for i := range b.N {
				r := Run(NewPlan(uint64(i), PlanOptions{Protocol: protocol, Nodes: 3, Faults: []FaultKind{}, Duration: 5 * time.Second}), RunOptions{})
				virtual += r.Time
				operations += r.Operations["acknowledged"]
				events += r.Events
				rounds += int64(r.Marks["rounds"])
			}
			b.ReportMetric(virtual.Seconds()/b.Elapsed().Seconds(), "virtual-s/s")
			b.ReportMetric(float64(operations)/float64(b.N), "operations/run")
			b.ReportMetric(float64(events)/float64(b.N), "events/run")
			b.ReportMetric(float64(rounds)/float64(b.N), "rounds/run")
		})
	}
}
