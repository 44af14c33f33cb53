package sim

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// TestPlots has each plot come off with both protocols: a plot that hardly ever gets to where it wants to be proves nothing.
func TestPlots(t *testing.T) {
	const seeds = 8
	for kind, least := range map[FaultKind]map[string]int{
		FaultAmnesia:     {"crash before a sync ended": seeds},
		FaultUnnoticed:   {"clients come back to a deposed leader": seeds / 2},
		FaultRival:       {"turn ended as planned": 5 * seeds / 2},
		FaultFigureEight: {"turn ended as planned": 5 * seeds / 2},
		FaultSuccession:  {"turn ended as planned": seeds},
		FaultLeftBehind:  {"turn ended as planned": seeds},
		FaultUsurper:     {"turn ended as planned": 3 * seeds / 2},
		FaultSecondVote:  {"turn ended as planned": 3 * seeds / 2},
	} {
		for _, protocol := range []Protocol{Raft, Paxos} {
			marks := map[string]int{}
			for seed := uint64(1); seed <= seeds; seed++ {
				p := NewPlan(seed, PlanOptions{Protocol: protocol, Nodes: 3, Duration: 6 * time.Second, Workloads: []string{"hop"}, Faults: []FaultKind{kind}})
				p.Limits.RetainLogEntries, p.Limits.FlushLogBytes = 4, 1<<10
				r := Run(p, RunOptions{})
				if r.Verdict != Passed {
					report(t, r)
				}
				add(marks, r.Marks)
			}
			for mark, least := range least {
				if marks[mark] < least {
					t.Errorf("%s with %s: %d runs covered %q %d times, at least %d are expected", kind, protocol, seeds, mark, marks[mark], least)
				}
			}
		}
	}
}

// TestPlotsOnPebble: what plots look at is there on the real log, too.
func TestPlotsOnPebble(t *testing.T) {
	for _, kind := range []FaultKind{FaultAmnesia, FaultLeftBehind, FaultUsurper} {
		r := Run(NewPlan(3, PlanOptions{Engine: Pebble, Nodes: 3, Duration: 4 * time.Second, Workloads: []string{"hop"}, Faults: []FaultKind{kind}}), RunOptions{})
		if r.Verdict != Passed {
			report(t, r)
		}
		if r.Faults[string(kind)] == 0 {
			t.Errorf("%s did not happen", kind)
		}
	}
}

// TestLacks: what was written and not synced would be lost.
func TestLacks(t *testing.T) {
	w := newWorld(NewPlan(1, PlanOptions{Protocol: Raft, Nodes: 1}), RunOptions{})
	defer w.finish()
	n := w.nodes[0]
	n.start()
	if err := n.log.Sync(); err != nil {
		t.Fatal(err)
	}
	p := n.parts[0]
	end := p.logEnd()
	entry := func(i consensus.Index) storage.GroupAppend {
		return storage.GroupAppend{Group: 1, Entries: []consensus.Entry{{Index: i, Term: 1}}}
	}
	if p.lacks(end) || !p.lacks(end+1) {
		t.Errorf("a log that ends with %d lacks it (%v), or does not lack the next one (%v)", end, p.lacks(end), p.lacks(end+1))
	}
	if err := n.log.Write([]storage.GroupAppend{entry(end + 1), entry(end + 3)}, nil); err != nil {
		t.Fatal(err)
	}
	if p.lacks(end) || !p.lacks(end+1) {
		t.Error("a write that is not synced counts, or makes the log lose others")
	}
	if err := n.log.Sync(); err != nil {
		t.Fatal(err)
	}
	if p.lacks(end+1) || !p.lacks(end+2) || p.lacks(end+3) {
		t.Error("a synced entry is lacking, or a hole is not")
	}
}

func TestTwoLeaders(t *testing.T) {
	w := newWorld(NewPlan(1, PlanOptions{Protocol: Raft, Nodes: 3}), RunOptions{})
	defer w.finish()
	g := w.groups[0]
	g.elected(g.of(w.nodes[0]), 5)
	g.elected(g.of(w.nodes[0]), 5) // it says so twice
	g.elected(g.of(w.nodes[1]), 6)
	if w.verdict != "" {
		t.Fatalf("%s: %s", w.verdict, w.problem)
	}
	if g.elected(g.of(w.nodes[1]), 5); w.verdict != Correctness {
		t.Errorf("two nodes lead in one term: %q", w.verdict)
	}
}
