package sim

import "testing"

// TestQuorumsAreDrawn: some runs of Multi-Paxos have other quorums than majorities, of every pair there is; no run of Raft has.
func TestQuorumsAreDrawn(t *testing.T) {
	drawn := map[[3]int]int{}
	for seed := range uint64(2000) {
		p := NewPlan(seed, PlanOptions{})
		if p.Phase1Quorum == 0 && p.Phase2Quorum == 0 {
			continue
		}
		if p.Protocol != Paxos {
			t.Errorf("seed %d: quorums of %d and %d with %s", seed, p.Phase1Quorum, p.Phase2Quorum, p.Protocol)
		}
		drawn[[3]int{p.Nodes, p.Phase1Quorum, p.Phase2Quorum}]++
	}
	for nodes, pairs := range quorums {
		for _, pair := range pairs {
			if n := drawn[[3]int{nodes, pair[0], pair[1]}]; n < 3 {
				t.Errorf("%d of 2000 runs have quorums of %d and %d of %d nodes", n, pair[0], pair[1], nodes)
			}
		}
	}
	t.Log(drawn)
}
