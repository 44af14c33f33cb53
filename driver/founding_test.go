package driver

import (
	"testing"
	"time"
)

// TestInterruptedFounding cuts the power of all nodes of a new cluster as soon as some of them know that it is new, and the others do not. Those
// that do not are no majority any more, and must be told by those that do, though these have forgotten everything but what is on their disks.
func TestInterruptedFounding(t *testing.T) {
	interrupted := 0
	for seed := range uint64(20) {
		o := worldOptions{seed: seed, nodes: []int{2, 4}[seed%2]}
		if seed%4 > 1 {
			o.paxos = &paxosQuorums{}
		}
		w := newWorld(t, o)
		startAll(t, w)
		w.run(time.Second, func() bool { return w.heldNodes() < len(w.nodes) })
		if held := w.heldNodes(); held > 0 && held < len(w.nodes) {
			interrupted++
		}
		for _, n := range w.nodes {
			n.crash()
		}
		startAll(t, w)
		if !w.run(10*time.Second, w.whole) {
			t.Fatalf("seed %d: the cluster does not begin: %v %s", seed, w.err, w.describe())
		}
	}
	if interrupted < 3 {
		t.Errorf("only %d runs were interrupted when some nodes knew that the cluster was new, and others did not", interrupted)
	}
}

// TestLateFounders starts the nodes of a new cluster with quorums above a majority one after the other: a majority must not begin without those
// it needs, for they would wait for a leader, and the majority for them.
func TestLateFounders(t *testing.T) {
	for _, quorums := range []paxosQuorums{{phase1: 4, phase2: 2}, {phase1: 2, phase2: 4}, {phase1: 5, phase2: 1}, {phase1: 1, phase2: 5}, {}} {
		for early := range 5 {
			w := newWorld(t, worldOptions{seed: uint64(early), nodes: 5, paxos: &quorums})
			for i, n := range w.nodes {
				if i == early || i == 4 {
					w.run(5*time.Second, func() bool { return false })
				}
				if err := n.start(); err != nil {
					t.Fatal(err)
				}
			}
			if !w.run(20*time.Second, w.whole) {
				t.Fatalf("quorums %+v, %d nodes early: the cluster does not begin: %v %s", quorums, early, w.err, w.describe())
			}
		}
	}
}

func startAll(t *testing.T, w *world) {
	t.Helper()
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) heldNodes() (held int) {
	for _, n := range w.nodes {
		if n.replica.held() {
			held++
		}
	}
	return held
}
