package sim

import (
	"slices"
	"testing"
)

// stagedPlans are the first plans of a scene.
func stagedPlans(t *testing.T, name string, count int) (plans []Plan) {
	t.Helper()
	for seed := uint64(1); len(plans) < count; seed++ {
		if seed > 10_000 {
			t.Fatalf("of 10,000 seeds only %d set up the scene %q", len(plans), name)
		}
		if p := NewPlan(seed, PlanOptions{Partition: NoPartition}); p.Scene == name {
			plans = append(plans, p)
		}
	}
	return plans
}

func TestScenesAreDrawn(t *testing.T) {
	const seeds = 2000
	drawn := map[string]int{}
	for seed := uint64(1); seed <= seeds; seed++ {
		p := NewPlan(seed, PlanOptions{Partition: NoPartition})
		if err := p.Validate(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		drawn[p.Scene]++
		for _, o := range []PlanOptions{{Protocol: Raft, Nodes: 3}, {Protocol: Paxos, Nodes: 7}} {
			if p := NewPlan(seed, o); p.Protocol != o.Protocol || p.Nodes != o.Nodes {
				t.Errorf("seed %d: %s on %d nodes were asked for, the scene %q has %s on %d", seed, o.Protocol, o.Nodes, p.Scene, p.Protocol, p.Nodes)
			}
		}
		if p := NewPlan(seed, PlanOptions{Workloads: []string{"register"}}); p.Scene != "" {
			t.Errorf("seed %d: the workload was given, and the scene %q was set up", seed, p.Scene)
		}
	}
	for _, s := range scenes {
		if least := seeds / sceneShare / len(scenes) / 2; drawn[s.name] < least {
			t.Errorf("scene %q was drawn %d times, at least %d are expected", s.name, drawn[s.name], least)
		}
		if slices.ContainsFunc(s.faults, FaultKind.staged) && len(s.nodes) == 0 {
			t.Errorf("scene %q does not say how many nodes its faults need", s.name)
		}
	}
	if got := drawn[""]; got < seeds*3/4 {
		t.Errorf("only %d of %d runs are drawn without a scene", got, seeds)
	}
}

// TestScenesSucceed: the faults that wait for a moment find it.
func TestScenesSucceed(t *testing.T) {
	for name, moments := range map[string][]string{
		"left behind":                         {"left behind", "snapshot installed", "watch gap", "writes of unknown outcome"},
		"outvoted":                            {"refused by a living node", "barrier asked"},
		"lost slot":                           {"hole in the log", "void entry"},
		"renewed promise":                     {"node lost", "leader elected"},
		"forgotten promise":                   {"refused by a living node", "crash"},
		"broken connections":                  {"connection broke", "call forwarded"},
		"refused late":                        {"request without memory"},
		"leases due":                          {"lease renewed late"},
		"reads while a snapshot is installed": {"snapshot installed", "time passed within a read", "range streamed", "events for several watches"},
		"answers to the process before":       {"restarted with calls at the leader", "call forwarded"},
		"old disks":                           {"old disk came back", "replaced replica stopped", "replica rebuilt", "loss found out"},
	} {
		t.Run(name, func(t *testing.T) {
			marks := map[string]int{}
			for _, p := range stagedPlans(t, name, 6) {
				r := Run(p, RunOptions{})
				if r.Verdict != Passed {
					report(t, r)
				}
				add(marks, r.Marks)
			}
			for _, moment := range moments {
				if marks[moment] == 0 {
					t.Errorf("in 6 runs there was no %q", moment)
				}
			}
		})
	}
}

// TestHarmless: only a run in which nothing but connections break promises that no request times out.
func TestHarmless(t *testing.T) {
	for kind, harmless := range map[FaultKind]bool{FaultBreak: true, FaultClientBreak: true, FaultIsolate: false, FaultPause: false, FaultLoss: false} {
		p := Plan{Faults: []Fault{{Kind: FaultBreak}, {Kind: kind}}}
		if p.harmless() != harmless {
			t.Errorf("with %s: %v", kind, !harmless)
		}
	}
	if p := (&Plan{}); !p.harmless() {
		t.Error("a run without faults is not harmless")
	}
}
