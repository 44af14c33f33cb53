package sim

import "testing"

// TestPebble runs plans on the real log and the real state engine.
func TestPebble(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	marks := map[string]int{}
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		r := Run(NewPlan(seed, PlanOptions{Engine: Pebble}), RunOptions{})
		if r.Verdict != Passed {
			report(t, r)
		}
		add(marks, r.Marks)
	}
	t.Logf("%v", marks)
	if marks["crash"] == 0 || marks["leader elected"] == 0 {
		t.Errorf("the runs do not cover enough: %v", marks)
	}
}
