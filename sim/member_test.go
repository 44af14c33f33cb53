package sim

import (
	"fmt"
	"testing"
)

// Nodes are removed and added, while others crash and leaders change: nothing is lost, and the groups get there.
func TestMembersComeAndGo(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for _, protocol := range []Protocol{Raft, Paxos} {
		marks := map[string]int{}
		for seed := range seeds {
			r := Run(NewPlan(seed, PlanOptions{Protocol: protocol, Engine: Memory, Nodes: 3 + 2*int(seed%2), Faults: []FaultKind{FaultMember, FaultCrashEffect, FaultTransfer, FaultBreak}}), RunOptions{})
			if r.Verdict != Passed {
				t.Errorf("%s, seed %d: %s: %s", protocol, seed, r.Verdict, r.Problem)
			}
			for mark, n := range r.Marks {
				marks[mark] += n
			}
		}
		for _, mark := range []string{"member removed", "removed node stopped", "learner promoted", "member replaced", "one of two changes of the members", "wrong change of the members refused", "list of members read", "whole again", "leadership handed over by the driver"} {
			if marks[mark] == 0 {
				t.Errorf("%s: never: %s", protocol, mark)
			}
		}
		t.Log(fmt.Sprint(protocol, ": ", marks["member removed"], " removed, ", marks["member replaced"], " replaced"))
	}
}
