package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// With a phase-2 quorum of two of five the leader and one other go on, in writing and in reading; nobody else is elected meanwhile, and
// nothing is lost.
func TestFlexibleQuorums(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has majorities only")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Nodes: 5, Flags: []string{"--consensus=paxos", "--paxos-phase1-quorum=4", "--paxos-phase2-quorum=2"}})
	if output := statusTable(t, cl); strings.Count(output, "phase-1 quorum 4, phase-2 quorum 2") != 5 {
		t.Errorf("the status does not show the quorums:\n%s", output)
	}
	leader := try(cl.Leader())(t)
	others := try(cl.Followers())(t)
	for _, n := range others[:3] {
		must(t, n.Kill())
	}
	c := leader.Client(t)
	try(c.Put(within(t), "k", "by two"))(t)
	for _, n := range []*cluster.Node{leader, others[3]} {
		got := try(n.Client(t).Get(within(t), "k"))(t)
		equal(t, "value read at "+n.Name, string(got.Kvs[0].Value), "by two")
	}
	// Without the leader two of four that must promise are missing: what is left must not elect.
	must(t, others[0].Start())
	must(t, leader.Kill())
	if _, err := others[3].Client(t).Put(short(t), "k", "by none"); err == nil {
		t.Error("two nodes elected a leader, where four must promise")
	}
	must(t, others[1].Start())
	must(t, others[2].Start())
	eventually(t, "a write after the election by four", func(ctx context.Context) error {
		_, err := others[3].Client(t).Put(ctx, "other", "v")
		return err
	})
	for _, n := range others {
		must(t, n.WaitReady())
		got := try(n.Client(t).Get(within(t), "k"))(t)
		if value := string(got.Kvs[0].Value); value != "by two" && value != "by none" {
			t.Errorf("%s has lost what two acknowledged: %q", n.Name, value)
		}
	}

	// A cluster keeps its quorums.
	n := leader
	n.SetFlag("--paxos-phase1-quorum=3")
	n.SetFlag("--paxos-phase2-quorum=3")
	wantFailure(t, "other quorums than before", n, n.DataDir, "a cluster keeps its quorums", "--paxos-phase1-quorum")
	n.SetFlag("--paxos-phase2-quorum=2")
	wantFailure(t, "quorums that need not meet", n, "need not have a node in common", "--paxos-phase1-quorum=4")
	n.SetFlag("--consensus=raft")
	wantFailure(t, "quorums for Raft", n, "with raft every quorum is a majority")
}

// Nodes that count different quorums never work together.
func TestOtherQuorums(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has majorities only")
	}
	t.Parallel()
	cl, err := cluster.New(cluster.Options{Flags: []string{"--consensus=paxos"}})
	must(t, err)
	t.Cleanup(func() { must(t, cl.Close()) })
	odd := cl.Nodes[2]
	odd.SetFlag("--paxos-phase1-quorum=3")
	odd.SetFlag("--paxos-phase2-quorum=1")
	for _, n := range cl.Nodes {
		must(t, n.Start())
	}
	for _, n := range cl.Nodes[:2] {
		must(t, n.WaitReady())
		cluster.Eventually(t, "a reason in the log of "+n.Name, func() error {
			return mentions(n, "refuse", "phase-1 quorum 3", "--paxos-phase2-quorum")
		})
	}
	cluster.Eventually(t, "a reason in the log of the odd one", func() error { return mentions(odd, "refuse", "phase-1 quorum 3") })
	try(cl.Nodes[0].Client(t).Put(within(t), "k", "v"))(t)
	if _, err := odd.Client(t).Put(short(t), "k", "alone"); err == nil {
		t.Error("a node that the others refuse took a write")
	}
}

// statusTable is what `quorate status` prints.
func statusTable(t *testing.T, cl *cluster.Cluster) string {
	t.Helper()
	program := try(cluster.Program())(t)
	output, err := exec.CommandContext(within(t), program, "status", "--endpoints="+strings.Join(cl.Endpoints(), ",")).CombinedOutput()
	if err != nil {
		t.Fatalf("quorate status: %v\n%s", err, output)
	}
	return string(output)
}
