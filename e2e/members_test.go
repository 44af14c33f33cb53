package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// planGrowing plans a cluster of which the first node begins alone, and the others are told nothing but where to join.
func planGrowing(t *testing.T, nodes int, flags ...string) *cluster.Cluster {
	t.Helper()
	cl, err := cluster.New(cluster.Options{Nodes: nodes, Flags: append(flags, "--snapshot-count=50")})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(cl.Logs())
		}
		must(t, cl.Close())
	})
	first := cl.Nodes[0]
	first.SetFlag("--initial-cluster=" + first.Name + "=" + first.Flag("--initial-advertise-peer-urls"))
	for _, n := range cl.Nodes[1:] {
		joinAt(n, first)
	}
	return cl
}

// joinAt has a node join at another one, and takes from it what it would be told of the cluster.
func joinAt(n, at *cluster.Node) {
	n.DropFlags("--initial-cluster", "--initial-cluster-token", "--initial-cluster-state", "--consensus", "--initial-shards", "--initial-partition", "--initial-split-keys",
		"--hash-prefix", "--commit-protocol")
	n.SetFlag("--join=" + at.Endpoint)
}

// membersOf are the members that a node knows of: how many, and how many of them have no vote.
func membersOf(t *testing.T, ctx context.Context, n *cluster.Node) (count, learners int, err error) {
	list, err := n.Client(t).MemberList(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, m := range list.Members {
		if m.IsLearner {
			learners++
		}
	}
	return len(list.Members), learners, nil
}

func wantMembers(t *testing.T, n *cluster.Node, count, learners int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d members, %d of them without a vote", count, learners), func(ctx context.Context) error {
		c, l, err := membersOf(t, ctx, n)
		if err == nil && (c != count || l != learners) {
			err = fmt.Errorf("there are %d, and %d without a vote", c, l)
		}
		return err
	})
}

// A node that is told nothing but where the cluster is adds itself, takes over what the cluster was created with, and gets a vote, also if it is killed meanwhile.
func TestJoin(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no --join")
	}
	t.Parallel()
	cl := planGrowing(t, 3, "--consensus=paxos", "--initial-shards=3", "--hash-prefix=2", "--commit-protocol=3pc")
	first, second, third := cl.Nodes[0], cl.Nodes[1], cl.Nodes[2]
	must(t, first.Start())
	must(t, first.WaitReady())
	c := first.Client(t)
	for i := range 100 {
		try(c.Put(within(t), fmt.Sprint("k", i), "v"))(t)
	}

	// It was killed when it had been added and before it had started: nothing is in its directory.
	try(c.MemberAddAsLearner(within(t), []string{second.Flag("--initial-advertise-peer-urls")}))(t)
	must(t, second.Start())
	must(t, second.WaitLog("was added to the cluster before"))
	wantMembers(t, first, 2, 0)
	must(t, second.WaitReady())

	// Killed at any other time.
	third.SetFlag("--join-as-learner=true")
	must(t, third.Start())
	must(t, third.WaitLog("this node was added to the cluster"))
	must(t, third.Kill())
	must(t, third.Start())
	must(t, third.WaitLog("ready to serve"))
	wantMembers(t, first, 3, 1)
	must(t, third.Kill())
	third.DropFlags("--join-as-learner") // it changed its mind
	must(t, third.Start())
	must(t, third.WaitLog("--join is ignored"))
	must(t, third.WaitLog("this node has the data of the cluster, and a vote")) // in all shards
	wantMembers(t, first, 3, 0)
	must(t, third.WaitReady())

	// What they took over they have, also without the first.
	must(t, first.Kill())
	for _, n := range []*cluster.Node{second, third} {
		must(t, n.Kill())
		n.DropFlags("--join")
	}
	must(t, second.Start())
	must(t, third.Start())
	must(t, third.WaitReady())
	got := try(third.Client(t).Get(within(t), "k99"))(t)
	equal(t, "value", string(got.Kvs[0].Value), "v")

	// What was said and is not so is refused by its name, and nothing is left behind.
	must(t, first.Start())
	must(t, first.WaitReady())
	must(t, third.Kill())
	third.SetFlag("--consensus=raft")
	wantFailure(t, "another protocol than before", third, third.DataDir, "--consensus=raft")
	must(t, os.RemoveAll(third.DataDir))
	third.SetFlag("--join=" + second.Endpoint)
	wantFailure(t, "another protocol than the cluster's", third, "does not fit to the cluster", "--consensus")
	if _, err := os.Stat(third.DataDir); !os.IsNotExist(err) {
		t.Errorf("something was left behind: %v", err)
	}
}

// Two of three nodes are lost for good. What the third has becomes a cluster of one, which grows to three again; nothing that it had acknowledged is missing, and
// no revision is given out twice.
func TestRescue(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no rescue command")
	}
	for _, c := range []struct {
		name  string
		flags []string
		force bool
	}{
		{"raft, by command", []string{"--consensus=raft", "--initial-shards=1"}, false},
		{"paxos, 3 shards, by flag", []string{"--consensus=paxos", "--initial-shards=3"}, true},
		{"raft, 3 shards, by command", []string{"--consensus=raft", "--initial-shards=3"}, false},
		{"paxos, by flag", []string{"--consensus=paxos", "--initial-shards=1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testRescue(t, append(c.flags, "--snapshot-count=50", "--strict-reconfig-check=false"), c.force)
		})
	}
}

func testRescue(t *testing.T, flags []string, force bool) {
	cl := cluster.Start(t, cluster.Options{Flags: flags})
	left := cl.Nodes[2]
	c := left.Client(t)
	revision := int64(0)
	for i := range 120 { // through the node that is left: it has them, or acknowledges them when it has
		revision = try(c.Put(within(t), fmt.Sprint("k", i), "v"))(t).Header.Revision
	}
	try(c.Txn(within(t)).Then(clientv3.OpPut("t1", "v"), clientv3.OpPut("t2", "v"), clientv3.OpPut("t3", "v")).Commit())(t)
	eventually(t, "the node has them all", func(ctx context.Context) error {
		r, err := c.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithSerializable(), clientv3.WithCountOnly())
		if err == nil && r.Count != 123 {
			err = fmt.Errorf("it has %d keys", r.Count)
		}
		return err
	})
	program := try(cluster.Program())(t)
	rescue := func(arguments ...string) (string, error) {
		output, err := exec.CommandContext(within(t), program, append([]string{"rescue", "--data-dir", left.DataDir}, arguments...)...).CombinedOutput()
		return string(output), err
	}
	must(t, left.Kill()) // as long as most are there, it is refused
	if force {
		left.SetFlag("--force-new-cluster=true")
		wantFailure(t, "most are there", left, "--force-new-cluster", "need no rescue")
	} else if output, err := rescue("--yes"); err == nil || !strings.Contains(output, "nothing was changed") || !strings.Contains(output, "need no rescue") {
		t.Errorf("most are there: %v\n%s", err, output)
	}
	must(t, cl.Kill())
	for _, n := range cl.Nodes[:2] {
		must(t, os.RemoveAll(n.DataDir))
	}
	output, err := rescue()
	if err == nil || !strings.Contains(output, "nothing was changed") || !strings.Contains(output, "n1 (") || !strings.Contains(output, "The newest revision here is ") {
		t.Errorf("without --yes: %v\n%s", err, output)
	}
	if !force {
		if output, err = rescue("--yes"); err != nil || !strings.Contains(output, "is all of the new cluster") {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	must(t, left.Start())
	must(t, left.WaitReady())
	if force { // what was done once is not done again
		must(t, left.WaitLog("this node is all of a new cluster"))
		must(t, left.Kill())
		must(t, left.Start())
		must(t, left.WaitLog("--force-new-cluster is ignored"))
		must(t, left.WaitReady())
	}
	if put := try(c.Put(within(t), "after", "v"))(t); put.Header.Revision <= revision {
		t.Errorf("revision %d was told before, and then %d", revision, put.Header.Revision)
	}
	wantMembers(t, left, 1, 0)
	for _, n := range cl.Nodes[:2] {
		joinAt(n, left)
		must(t, n.Start())
		must(t, n.WaitLog("this node has the data of the cluster, and a vote"))
	}
	wantMembers(t, left, 3, 0)
	if force {
		must(t, left.Kill())
		must(t, left.Start())
		must(t, left.WaitLog("it was followed before"))
		must(t, left.WaitReady())
		wantMembers(t, left, 3, 0)
	}
	must(t, left.Kill()) // two of three go on
	for _, n := range cl.Nodes[:2] {
		must(t, n.WaitReady())
		got := try(n.Client(t).Get(within(t), "", clientv3.WithFromKey(), clientv3.WithCountOnly()))(t)
		equal(t, "keys at "+n.Name, got.Count, int64(124))
	}
}
