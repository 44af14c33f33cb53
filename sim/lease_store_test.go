package sim

import (
	"testing"
)

// TestLeasesOfStore: leases whose keys are in other shards than their records. Reproduce one with -run TestLeasesOfStore -first-seed=N -seeds=1.
func TestLeasesOfStore(t *testing.T) {
	count := min(*seedCount, 40)
	if testing.Short() {
		count = min(count, 8)
	}
	marks := map[string]int{}
	for _, kind := range []string{ByHash, ByRange} {
		for seed := *firstSeed; seed < *firstSeed+count; seed++ {
			workloads := [][]string{{"lease"}, {"due"}, {"lock"}, {"election"}, {"lease", "due"}}[seed%5]
			r := Run(NewPlan(seed, PlanOptions{Partition: kind, Workloads: workloads}), RunOptions{})
			if r.Verdict != Passed {
				report(t, r)
			}
			add(marks, r.Marks)
		}
	}
	t.Log(marks)
	for _, name := range []string{"lease renewed", "lease renewed late", "lock held", "proclaimed"} {
		if marks[name] == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
}
