package driver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
)

// leaseGroups are the groups in which TestLeasesInPartitions looks at leases.
var leaseGroups = []struct {
	name  string
	nodes int
	paxos *paxosQuorums
}{
	{"raft, 3", 3, nil},
	{"raft, 5", 5, nil},
	{"paxos, 3", 3, &paxosQuorums{}},
	{"paxos, 4", 4, &paxosQuorums{}},
	{"paxos, 4 and 2 of 5", 5, &paxosQuorums{4, 2}},
	{"paxos, 2 and 4 of 5", 5, &paxosQuorums{2, 4}},
	{"paxos, 3 and 1 of 3", 3, &paxosQuorums{3, 1}},
}

// TestLeasesInPartitions divides clusters again and again for longer than it takes to elect somebody else. Nobody may
// hold a lease beside a new leader (world.observe), and the leader must have one while enough others hear it.
func TestLeasesInPartitions(t *testing.T) {
	for i, group := range leaseGroups {
		var total partitionFigures
		for seed := range uint64(3) {
			o := worldOptions{seed: 100*uint64(i) + seed, nodes: group.nodes, paxos: group.paxos, drift: 0.02, inflight: 2}
			f, err := partitions(t, o)
			if err != nil {
				t.Fatalf("%s, seed %d: %v", group.name, seed, err)
			}
			total.moved += f.moved
			total.held += f.held
		}
		t.Logf("%s: %+v", group.name, total)
		// With a phase-1 quorum of all, the divided cluster never elects.
		if all := group.paxos != nil && group.paxos.phase1 == group.nodes; !all && total.moved < 2 || total.held < 2 {
			t.Errorf("%s: the runs do not cover enough: %+v", group.name, total)
		}
	}
}

// TestLeasesNeedTheirVoters shows that a lease by one voter less is not one, and that this test would notice.
func TestLeasesNeedTheirVoters(t *testing.T) {
	for _, group := range leaseGroups {
		if need := leaseNeed(group.nodes, group.paxos); need == 1 || group.paxos != nil && group.paxos.phase1 == 2 {
			// No lease is smaller than the leader alone; and where elections need less than a majority a
			// candidate still wants to reach a phase-2 quorum, which hides the difference.
			continue
		}
		found := false
		for seed := uint64(0); seed < 12 && !found; seed++ {
			_, err := partitions(t, worldOptions{seed: seed, nodes: group.nodes, paxos: group.paxos, drift: 0.02, inflight: 2,
				wrap: func(core consensus.Core) consensus.Core { return greedy{core, leaseNeed(group.nodes, group.paxos) - 1} }})
			found = err != nil
		}
		if !found {
			t.Errorf("%s: a lease by one voter less was not noticed", group.name)
		}
	}
}

func leaseNeed(voters int, paxos *paxosQuorums) int {
	switch {
	case paxos == nil:
		return voters/2 + 1
	case paxos.phase1 == 0:
		return voters - voters/2
	}
	return voters - paxos.phase1 + 1
}

// greedy is a core that wants fewer voters for a lease than it needs.
type greedy struct {
	consensus.Core
	voters int
}

func (g greedy) Status() consensus.Status {
	s := g.Core.Status()
	s.LeaseVoters = g.voters
	return s
}

// partitionFigures count what partitions covered: leaders that took over in one, and leaders that went on with a lease.
type partitionFigures struct{ moved, held int }

func partitions(t *testing.T, o worldOptions) (f partitionFigures, err error) {
	w := newWorld(t, o)
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			return f, err
		}
	}
	number := 0
	work := func(d time.Duration) {
		for end := w.now + d; w.now < end && w.err == nil; {
			if w.random.IntN(8) == 0 {
				number++
				w.request(number)
			}
			w.step(time.Duration(1+w.random.Int64N(8)) * time.Millisecond)
		}
	}
	for i := range 4 {
		if !w.run(10*time.Second, func() bool { return w.leader() != nil && w.leader().replica.LeaseValid() }) {
			return f, errors.Join(w.err, fmt.Errorf("at %v: nobody has a lease: %s", w.now, w.describe()))
		}
		before := w.leader()
		w.divide(before, 1+i%(len(w.nodes)-1))
		work(1500*time.Millisecond + time.Duration(w.random.Int64N(int64(2500*time.Millisecond))))
		if after := w.leader(); after != nil && after != before {
			f.moved++
		}
		if before.replica.leaseHolds() {
			f.held++
		}
		w.net.heal()
		work(500 * time.Millisecond)
		if w.err != nil {
			return f, w.err
		}
	}
	return f, nil
}

// divide leaves so many nodes with the given one, and cuts the links to all others.
func (w *world) divide(with *simNode, count int) {
	inside := map[int]bool{with.index: true}
	for _, i := range w.random.Perm(len(w.nodes)) {
		if len(inside) < count {
			inside[i] = true
		}
	}
	for i := range w.nodes {
		for j := range w.nodes {
			if inside[i] != inside[j] {
				w.net.block(i, j, true)
			}
		}
	}
}
