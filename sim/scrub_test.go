package sim

import (
	"testing"
	"time"
)

// TestScrub lets a node's disk rot where nobody reads, just before everything else is healed: the node finds it and gets its data from the others.
func TestScrub(t *testing.T) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		for _, kind := range []FaultKind{FaultRotState, FaultRotLog, FaultMisdirected} {
			left := 0
			for seed := range uint64(4) {
				p := NewPlan(seed, PlanOptions{Protocol: protocol, Nodes: 3, Shards: 1, Faults: []FaultKind{}, Duration: 3 * time.Second, Workloads: []string{"register"}})
				p.Faults = []Fault{{At: p.Duration - time.Millisecond, Kind: kind, Node: 2, Amount: 4, Seed: seed}}
				r := Run(p, RunOptions{})
				if r.Verdict != Passed {
					t.Errorf("%s, %s, seed %d: %s %s", protocol, kind, seed, r.Verdict, r.Problem)
				}
				// What is rotten may be overwritten or no longer needed before it is found.
				if r.Marks["rot left to be found"] == 1 && r.Marks["damage noticed"] == 1 && r.Marks["replica rebuilt"] == 1 {
					left++
				}
			}
			if left < 3 {
				t.Errorf("%s, %s: found by the scrub in %d of 4 runs", protocol, kind, left)
			}
		}
	}
}
