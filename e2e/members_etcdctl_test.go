package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// etcdctl's commands about members change them, and say what they say of etcd. A node is started with what `member add` prints.
func TestMembersByEtcdctl(t *testing.T) {
	program, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("etcdctl is not in the PATH")
	}
	skipShort(t)
	t.Parallel()
	cl, err := cluster.New(cluster.Options{Nodes: 3, Flags: []string{"--strict-reconfig-check=false"}})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(cl.Logs())
		}
		must(t, cl.Close())
	})
	first := cl.Nodes[0]
	first.SetFlag("--initial-cluster=" + first.Name + "=" + first.Flag("--initial-advertise-peer-urls"))
	must(t, first.Start())
	must(t, first.WaitReady())
	run := func(at *cluster.Node, arguments ...string) (string, error) {
		output, err := exec.CommandContext(within(t), program, append([]string{"--endpoints=" + at.Endpoint, "--command-timeout=20s"}, arguments...)...).CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
	// do has a command done, as often as it takes until the cluster is fit for it.
	do := func(at *cluster.Node, want string, arguments ...string) []string {
		t.Helper()
		var found []string
		cluster.Eventually(t, strings.Join(arguments, " "), func() error {
			output, err := run(at, arguments...)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, output)
			}
			if found = regexp.MustCompile(want).FindStringSubmatch(output); found == nil && arguments[1] != "list" {
				t.Fatalf("etcdctl %q: %q is not in\n%s", arguments, want, output)
			} else if found == nil {
				return fmt.Errorf("%q is not in\n%s", want, output)
			}
			return nil
		})
		return found
	}
	ids := map[string]string{first.Name: do(first, `(?m)^([0-9a-f]+), started, n1, `, "member", "list")[1]}
	for i, n := range cl.Nodes[1:] {
		peer := n.Flag("--initial-advertise-peer-urls")
		arguments := []string{"member", "add", n.Name, "--peer-urls=" + peer}
		if i == 0 {
			arguments = append(arguments, "--learner")
		}
		added := do(first, `Member +([0-9a-f]+) added (?:as learner )?to cluster +[0-9a-f]+\s+ETCD_NAME="`+n.Name+`"\s+ETCD_INITIAL_CLUSTER="([^"]+)"\s+ETCD_INITIAL_ADVERTISE_PEER_URLS="`+peer+`"\s+ETCD_INITIAL_CLUSTER_STATE="existing"`, arguments...)
		ids[n.Name] = added[1]
		// As etcd lists a member that never started: without a name.
		do(first, fmt.Sprintf(`(?m)^%s, unstarted, , %s, , %v$`, added[1], peer, i == 0), "member", "list")
		n.DropFlags("--initial-cluster-token")
		n.SetFlag("--initial-cluster=" + added[2])
		n.SetFlag("--initial-cluster-state=existing")
		must(t, n.Start())
		if i == 0 {
			do(first, "Member +"+added[1]+" promoted in cluster", "member", "promote", added[1])
		}
		must(t, n.WaitReady())
		do(first, fmt.Sprintf(`(?m)^%s, started, %s, %s, http://%s, false$`, added[1], n.Name, peer, n.Endpoint), "member", "list")
	}
	if output, err := run(first, "member", "promote", ids["n2"]); err == nil || !strings.Contains(output, "can only promote a learner member") {
		t.Errorf("a member with a vote was promoted: %v\n%s", err, output)
	}
	if output, err := run(first, "member", "add", "n4", "--peer-urls="+cl.Nodes[1].Flag("--initial-advertise-peer-urls")); err == nil || !strings.Contains(output, "Peer URLs already exists") {
		t.Errorf("addresses of another member: %v\n%s", err, output)
	}
	if output, err := run(first, "member", "remove", "123"); err == nil || !strings.Contains(output, "member not found") {
		t.Errorf("nobody was removed: %v\n%s", err, output)
	}

	leader := try(cl.Leader())(t)
	next := try(cl.Followers())(t)[0]
	do(leader, "Leadership transferred from +"+ids[leader.Name]+" +to +"+ids[next.Name], "move-leader", ids[next.Name])
	equal(t, "leader", try(cl.Leader())(t).Name, next.Name)

	// One moves: localhost instead of 127.0.0.1 is another address of the same node.
	moved := strings.ReplaceAll(cl.Nodes[2].Flag("--initial-advertise-peer-urls"), "127.0.0.1", "localhost")
	do(first, "Member +"+ids["n3"]+" updated in cluster", "member", "update", ids["n3"], "--peer-urls="+moved)
	do(first, `(?m)^`+ids["n3"]+`, started, n3, `+moved+`, `, "member", "list")
	must(t, cl.Nodes[2].Restart())

	do(cl.Nodes[2], "Member +"+ids["n1"]+" removed from cluster", "member", "remove", ids["n1"])
	equal(t, "exit code of a node that was removed", try(first.WaitExit(cluster.Patience))(t), 5)
	if list, err := run(cl.Nodes[2], "member", "list"); err != nil || len(strings.Split(list, "\n")) != 2 || strings.Contains(list, ids["n1"]) {
		t.Errorf("the members: %v\n%s", err, list)
	}
	do(cl.Nodes[1], "OK", "put", "k", "v")
}

// A node takes the place of another one, also if that is down, and the command is interrupted.
func TestReplace(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("this is about our own command")
	}
	t.Parallel()
	cl := planGrowing(t, 4, "--strict-reconfig-check=false", "--initial-shards=3")
	initial := ""
	for _, n := range cl.Nodes[:3] {
		initial += "," + n.Name + "=" + n.Flag("--initial-advertise-peer-urls")
	}
	for _, n := range cl.Nodes[:3] {
		n.DropFlags("--join")
		n.SetFlag("--initial-shards=3")
		n.SetFlag("--initial-cluster=" + initial[1:])
		n.SetFlag("--initial-cluster-token=replace")
		if protocol := cl.Nodes[0].Flag("--consensus"); protocol != "" {
			n.SetFlag("--consensus=" + protocol)
		}
		must(t, n.Start())
	}
	for _, n := range cl.Nodes[:3] {
		must(t, n.WaitReady())
	}
	old, added := cl.Nodes[0], cl.Nodes[3]
	joinAt(added, cl.Nodes[1])
	c := cl.Nodes[1].Client(t)
	for i := range 100 {
		try(c.Put(within(t), fmt.Sprint("k", i), "v"))(t)
	}
	must(t, old.Kill())
	program := try(cluster.Program())(t)
	replace := func(patience string) (string, error) {
		output, err := exec.CommandContext(within(t), program, "member", "replace", old.Name, "--peer-urls="+added.Flag("--initial-advertise-peer-urls"),
			"--endpoints="+cl.Nodes[1].Endpoint+","+cl.Nodes[2].Endpoint, "--patience="+patience).CombinedOutput()
		return string(output), err
	}
	// It has not started; the command gives up, and goes on when it is given again.
	if output, err := replace("1s"); err == nil || !strings.Contains(output, "give the command again") {
		t.Errorf("%v\n%s", err, output)
	}
	wantMembers(t, cl.Nodes[1], 4, 1)
	must(t, added.Start())
	output, err := replace("1m")
	if err != nil || !strings.Contains(output, "has taken the place of n1") {
		t.Fatalf("%v\n%s", err, output)
	}
	wantMembers(t, cl.Nodes[1], 3, 0)
	if again, err := replace("1s"); err != nil || !strings.Contains(again, "has taken the place of n1") {
		t.Errorf("given once more: %v\n%s", err, again)
	}
	must(t, cl.Nodes[2].Kill()) // the new one is needed for the quorum
	must(t, added.WaitReady())
	equal(t, "keys", try(added.Client(t).Get(within(t), "k99"))(t).Count, int64(1))
}
