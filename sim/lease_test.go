package sim

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// TestLeasesInPartitions divides clusters again and again for longer than it takes to elect somebody else, with quorums of all kinds. Nobody may hold a lease
// beside a new leader, and the leader must have one while enough others hear it.
func TestLeasesInPartitions(t *testing.T) {
	for _, c := range []struct {
		protocol       Protocol
		nodes          int
		phase1, phase2 int
	}{
		{Raft, 3, 0, 0}, {Raft, 5, 0, 0}, {Paxos, 3, 0, 0}, {Paxos, 4, 0, 0}, {Paxos, 5, 4, 2}, {Paxos, 5, 2, 4}, {Paxos, 3, 3, 1},
	} {
		moved, held := 0, 0
		for seed := range uint64(3) {
			p := scenarioPlan()
			p.Seed, p.Protocol, p.Nodes, p.Phase1Quorum, p.Phase2Quorum = seed, c.protocol, c.nodes, c.phase1, c.phase2
			p.Limits.ClockDrift, p.Limits.MaxInflight = 0.02, 2
			p.Faults = []Fault{{Kind: FaultPartition}} // by the test itself: requests may fail
			m, h := partitions(t, quietWorld(t, p))
			moved, held = moved+m, held+h
		}
		t.Logf("%+v: leadership moved in %d divided clusters, and was held in %d", c, moved, held)
		// With a first quorum of all, the divided cluster never elects.
		if c.phase1 != c.nodes && moved < 2 || held < 2 {
			t.Errorf("%+v: the runs do not cover enough: leadership moved %d times, and was held %d times", c, moved, held)
		}
	}
}

// partitions counts the leaders that took over in a divided cluster, and those that went on there with a lease.
func partitions(t *testing.T, w *world) (moved, held int) {
	random := rand.New(rand.NewPCG(w.plan.Seed, 1))
	w.startAll()
	for number := range 3 {
		hop, _, _ := workload.Find("hop")
		w.groups[0].newClient(number+1, hop.Name, hop.Client)
	}
	for i := range 4 {
		w.await(t, 10*time.Second, "a lease", func() bool { return w.groups[0].leader() != nil && w.groups[0].leader().replica.LeaseValid() })
		before := w.groups[0].leader()
		inside := map[*node]bool{before.node: true}
		for _, at := range random.Perm(len(w.nodes)) {
			if len(inside) < 1+i%(len(w.nodes)-1) {
				inside[w.nodes[at]] = true
			}
		}
		w.eachPair(func(a, b *node) bool { return inside[a] != inside[b] }, w.net.block)
		w.runUntil(w.now+1500*time.Millisecond+time.Duration(random.Int64N(int64(2500*time.Millisecond))), time.Second, nil)
		if after := w.groups[0].leader(); after != nil && after != before {
			moved++
		}
		if before.replica.LeaseValid() {
			held++
		}
		w.net.heal()
		w.runUntil(w.now+500*time.Millisecond, time.Second, nil)
	}
	w.ended, w.healed = true, w.now
	w.compare()
	if w.verdict == "" {
		w.groups[0].complete()
		if problems := oracle.Check(w.groups[0].history); len(problems) > 0 {
			w.fail(Correctness, "%s", strings.Join(problems, "\n"))
		}
	}
	if w.verdict != "" {
		t.Errorf("seed %d, %s: %s", w.plan.Seed, w.verdict, w.problem)
	}
	return moved, held
}
