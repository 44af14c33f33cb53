package sim

import (
	"strings"
	"testing"
)

// TestNoGapsWithoutFaults: where nothing fails, every revision that was issued takes effect, and nothing is found in the histories.
func TestNoGapsWithoutFaults(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 4
	}
	writes := 0
	for _, protocol := range []Protocol{Raft, Paxos} {
		for _, kind := range []string{ByRange, ByHash} {
			for seed := uint64(1); seed <= seeds; seed++ {
				r := Run(NewPlan(seed, PlanOptions{Protocol: protocol, Partition: kind, Faults: []FaultKind{}}), RunOptions{})
				if r.Verdict != Passed {
					report(t, r)
				}
				for mark, count := range r.Marks {
					if strings.HasPrefix(mark, "gap: ") {
						t.Errorf("seed %d (%s, %s): %d revisions never took effect: %s", seed, protocol, kind, count, mark)
					}
				}
				writes += r.Operations["acknowledged"]
			}
		}
	}
	if writes < int(seeds)*100 {
		t.Errorf("only %d requests were acknowledged", writes)
	}
}
