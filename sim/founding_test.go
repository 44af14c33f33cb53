package sim

import (
	cryptorand "crypto/rand"
	"slices"
	"testing"
	"time"
)

// quietWorld is a cluster whose nodes start, and crash, when the test says so. None may stop by itself.
func quietWorld(t *testing.T, p Plan) *world {
	t.Helper()
	before := cryptorand.Reader // see election
	t.Cleanup(func() { cryptorand.Reader = before })
	w := commanded(p, func(n *node, err error) { t.Errorf("seed %d: node %d stopped: %v", p.Seed, n.id, err) })
	t.Cleanup(w.finish)
	return w
}

func (w *world) startAll() {
	for _, n := range w.nodes {
		n.start()
	}
}

// await lets time pass until something is so.
func (w *world) await(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	if !w.runUntil(w.now+limit, time.Millisecond, is) {
		t.Fatalf("seed %d, quorums of %d and %d: in vain for %v: %s: %s%s", w.plan.Seed, w.plan.Phase1Quorum, w.plan.Phase2Quorum, limit, what, w.problem, w.describe())
	}
}

// TestServesSoon: a new cluster has a leader within a second, a node that is alone within 200 ms, and the leader of three that crashes has a successor within a
// second.
func TestServesSoon(t *testing.T) {
	for seed := range uint64(20) {
		for _, protocol := range []Protocol{Raft, Paxos} {
			p := scenarioPlan()
			p.Seed, p.Protocol = seed, protocol
			w := quietWorld(t, p)
			serves := func() bool { return w.groups[0].leader() != nil && w.groups[0].leader().replica.LeaseValid() }
			w.startAll()
			w.await(t, time.Second, "a leader", serves)
			w.runUntil(w.now+500*time.Millisecond, time.Second, nil)
			began := w.now
			w.takeDown(w.groups[0].leader().node)
			w.await(t, time.Second, "another leader", serves)
			t.Logf("seed %d, %s: fail-over after %v", seed, protocol, w.now-began)

			p.Nodes = 1
			w = quietWorld(t, p)
			for range 2 {
				w.startAll()
				w.await(t, 200*time.Millisecond, "that a node alone serves", serves)
				w.takeDown(w.nodes[0])
			}
		}
	}
}

// TestInterruptedFounding cuts the power of all nodes of a new cluster as soon as some of them know that it is new, and the others do not. Those
// that do not are no majority any more, and must be told by those that do, though these have forgotten everything but what is on their disks.
func TestInterruptedFounding(t *testing.T) {
	interrupted := 0
	for seed := range uint64(40) {
		p := scenarioPlan()
		p.Seed, p.Nodes, p.Protocol = seed, []int{2, 4}[seed%2], []Protocol{Raft, Paxos}[seed/2%2]
		w := quietWorld(t, p)
		newNodes := func() (count int) {
			for _, n := range w.nodes {
				if n.up && n.parts[0].replica.Outside() {
					count++
				}
			}
			return count
		}
		w.startAll()
		w.await(t, time.Second, "the founding", func() bool { return newNodes() < len(w.nodes) })
		if count := newNodes(); count > 0 && count < len(w.nodes) {
			interrupted++
		}
		for _, n := range w.nodes {
			w.takeDown(n)
		}
		w.startAll()
		w.await(t, 10*time.Second, "the beginning", w.groups[0].whole)
	}
	if interrupted < 6 {
		t.Errorf("only %d runs were interrupted when some nodes knew that the cluster was new, and others did not", interrupted)
	}
}

// TestLateFounders starts the nodes of a new cluster with quorums above a majority one after the other: a majority must not begin without those
// it needs, for they would wait for a leader, and the majority for them.
func TestLateFounders(t *testing.T) {
	for _, quorums := range [][2]int{{4, 2}, {2, 4}, {5, 1}, {1, 5}, {}} {
		for early := range 5 {
			p := scenarioPlan()
			p.Seed, p.Nodes, p.Protocol, p.Phase1Quorum, p.Phase2Quorum = uint64(early), 5, Paxos, quorums[0], quorums[1]
			w := quietWorld(t, p)
			for i, n := range w.nodes {
				if i == early || i == 4 {
					w.runUntil(w.now+5*time.Second, time.Second, nil)
				}
				n.start()
			}
			w.await(t, 20*time.Second, "the beginning", func() bool {
				return w.groups[0].leader() != nil && !slices.ContainsFunc(w.nodes, func(n *node) bool { return !n.up || n.parts[0].replica.Standing() != "member" })
			})
		}
	}
}
