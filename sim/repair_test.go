package sim

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestLostQuorum takes the data of more nodes than the cluster can lose, where each notices it. Nobody may answer anything that is not
// so; and where no copy is left, every node must stop and say it.
func TestLostQuorum(t *testing.T) {
	for _, c := range []struct {
		name   string
		nodes  int
		faults []Fault
		stops  int // at least so many times a node says that there is no copy
	}{
		{"the only node", 1, []Fault{{Kind: FaultWipeNoticed, Node: 1}}, 1},
		{"one of two", 2, []Fault{{Kind: FaultWipeNoticed, Node: 1}}, 0},
		{"both of two", 2, []Fault{{Kind: FaultWipeNoticed, Node: 1}, {Kind: FaultWipeNoticed, Node: 2}}, 2},
		{"two of three", 3, []Fault{{Kind: FaultWipeNoticed, Node: 2}, {Kind: FaultWipeNoticed, Node: 3}}, 0},
		{"three of three", 3, []Fault{{Kind: FaultWipeNoticed, Node: 3}, {Kind: FaultWipeNoticed, Node: 2}, {Kind: FaultWipeNoticed, Node: 1}}, 3},
	} {
		for _, protocol := range []Protocol{Raft, Paxos} {
			p := NewPlan(1, PlanOptions{Protocol: protocol, Nodes: c.nodes, Faults: []FaultKind{}, Duration: 2 * time.Second, Workloads: []string{"register"}})
			p.LoseQuorum, p.Faults = true, c.faults
			for i := range p.Faults {
				p.Faults[i].At, p.Faults[i].Duration = time.Second+time.Duration(i)*time.Millisecond, 50*time.Millisecond
			}
			r := Run(p, RunOptions{})
			if r.Verdict != Passed || r.Marks["no good copy"] < c.stops || r.Marks["replica rebuilt"] > 0 || r.Operations["acknowledged"] == 0 {
				t.Errorf("%s, %s: %s %s; marks %v", c.name, protocol, r.Verdict, r.Problem, r.Marks)
			}
			if c.stops == 0 && r.Marks["no good copy"] > 0 {
				t.Errorf("%s, %s: a node says that there is no copy, and there is one", c.name, protocol)
			}
		}
	}
}

// TestOldDisk brings a disk back after another has taken its place: it must be refused, whether or not its node was told.
func TestOldDisk(t *testing.T) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		p := NewPlan(1, PlanOptions{Protocol: protocol, Nodes: 3, Faults: []FaultKind{}, Duration: 8 * time.Second, Workloads: []string{"register"}})
		p.Faults = []Fault{
			{At: time.Second, Kind: FaultWipe, Node: 2, Duration: 50 * time.Millisecond},
			{At: 4 * time.Second, Kind: FaultOldDisk, Node: 2, Duration: 50 * time.Millisecond},
		}
		r := Run(p, RunOptions{})
		for mark, want := range map[string]int{"node lost its data": 2, "loss found out": 1, "old disk came back": 1, "replaced replica stopped": 1, "replica rebuilt": 2} {
			if r.Marks[mark] != want {
				t.Errorf("%s: %q happened %d times, not %d", protocol, mark, r.Marks[mark], want)
			}
		}
		if r.Verdict != Passed {
			t.Errorf("%s: %s %s", protocol, r.Verdict, r.Problem)
		}
	}
}

// TestSecondProcesses: no two second processes of a node have the same disk or the same instance, as none do that are random.
func TestSecondProcesses(t *testing.T) {
	w := newWorld(NewPlan(1, PlanOptions{Protocol: Raft, Nodes: 3, Faults: []FaultKind{}}), RunOptions{})
	defer w.finish()
	for _, n := range w.nodes {
		n.start()
	}
	w.runUntil(6*time.Second, 5*time.Millisecond, w.whole)
	disks, lives, random := map[uint64]bool{}, map[uint64]bool{}, rand.New(rand.NewPCG(1, 1))
	for range 3 {
		w.runSecond(&Fault{Kind: FaultDouble, Node: 3, Duration: 100 * time.Millisecond}, w.nodes[2], random, nil)
		if w.double == nil {
			t.Fatal("no second process runs")
		}
		second := w.double.second
		if disks[second.diskID] || lives[second.life] {
			t.Errorf("a second process is on disk %x as process %d, as an earlier one was", second.diskID, second.life)
		}
		disks[second.diskID], lives[second.life] = true, true
		w.endSecond()
	}
}
