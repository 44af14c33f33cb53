package sim

import "testing"

// TestTimes: under faults, with clocks of nodes that are seconds apart, all nodes have one series of times, in which nothing goes down; of one shard and of many.
func TestTimes(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 6
	}
	marks := map[string]int{}
	for seed := uint64(1); seed <= seeds; seed++ {
		p := NewPlan(seed, PlanOptions{Partition: []string{"", ByHash, ByRange}[seed%3]})
		p.Times = true
		r := Run(p, RunOptions{})
		if r.Verdict != Passed {
			t.Fatalf("seed %d: %s: %s", seed, r.Verdict, r.Problem)
		}
		for name, times := range r.Marks {
			marks[name] += times
		}
	}
	for _, name := range []string{"times recorded", "time stands still"} {
		if marks[name] == 0 {
			t.Errorf("never: %s", name)
		}
	}
}
