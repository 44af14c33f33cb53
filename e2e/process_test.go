package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

const (
	// startLimit is what the product promises from the start of three processes until they serve, and
	// busy what it gets on top on a machine that does a lot besides.
	startLimit, busy = 3 * time.Second, 27 * time.Second
	// endLimit is how long a process may take to end, with a quorum or without.
	endLimit = 30 * time.Second
)

func TestLifeOfACluster(t *testing.T) {
	skipShort(t)
	t.Parallel()
	cl, err := cluster.New(cluster.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, cl.Close()) })
	begin := time.Now()
	must(t, cl.Start())
	if took := time.Since(begin); took > startLimit+busy {
		t.Errorf("three nodes took %v to serve, promised are %v", took, startLimit)
	} else {
		t.Logf("three nodes served after %v", took)
	}
	for _, n := range cl.Nodes {
		must(t, n.WaitLog("ready to serve client requests"))
	}
	c := cl.Client(t)
	equal(t, "revision of an empty store", try(c.Get(within(t), "k"))(t).Header.Revision, 1)
	equal(t, "revision of the first put", try(c.Put(within(t), "k", "v"))(t).Header.Revision, 2)

	// Killed, and back at once on the same ports with the same data, with clients connected.
	for range 3 {
		n := cl.Nodes[0]
		must(t, n.Kill())
		must(t, n.Start())
	}
	must(t, cl.Nodes[0].WaitReady())
	// The same without a wait for the killed process to be gone, which takes the longer the more memory it has.
	try(c.Put(within(t), "large", strings.Repeat("x", 1<<20)))(t)
	for range 5 {
		must(t, cl.Nodes[0].KillAndStart())
		must(t, cl.Nodes[0].WaitReady())
	}
	equal(t, "value after kills", string(try(cl.Nodes[0].Client(t).Get(within(t), "k"))(t).Kvs[0].Value), "v")

	end(t, cl.Nodes[0]) // with a quorum and clients, watches among them
	must(t, cl.Nodes[0].Restart())
	must(t, cl.Nodes[1].Kill())
	must(t, cl.Nodes[2].Kill())
	client := cl.Nodes[0].Client(t)
	watch := client.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watch
	if _, err := client.Put(short(t), "k", "w"); err == nil {
		t.Error("a write without a quorum was acknowledged")
	}
	end(t, cl.Nodes[0]) // without
	must(t, cl.Start())
	if got := string(try(c.Get(within(t), "k"))(t).Kvs[0].Value); got != "v" && got != "w" {
		t.Errorf("value after all: %q", got)
	}
	for _, n := range cl.Nodes {
		must(t, n.Signal(os.Interrupt))
	}
	for _, n := range cl.Nodes {
		wantCode(t, n)
	}
}

// end asks a process to end with SIGTERM.
func end(t *testing.T, n *cluster.Node) {
	t.Helper()
	begin := time.Now()
	if _, err := n.Stop(endLimit); err != nil {
		t.Error(err)
	}
	t.Logf("%s ended after %v", n.Name, time.Since(begin))
	wantCode(t, n)
}

// wantCode wants an end in order.
func wantCode(t *testing.T, n *cluster.Node) {
	t.Helper()
	code, err := n.WaitExit(endLimit)
	if err != nil {
		t.Error(err)
	} else if code != 0 && !cluster.IsEtcd() { // etcd ends itself with the signal
		t.Errorf("%s ended with %d; the end of its log:\n%s", n.Name, code, n.LogTail(10))
	}
}

// single is a planned cluster of one.
func single(t *testing.T, o cluster.Options) *cluster.Node {
	t.Helper()
	o.Nodes = 1
	cl, err := cluster.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, cl.Close()) })
	return cl.Nodes[0]
}

// wantFailure starts a node that must end by itself, with a code that tells failure and words that tell why.
func wantFailure(t *testing.T, what string, n *cluster.Node, words ...string) {
	t.Helper()
	must(t, n.Start())
	code, err := n.WaitExit(cluster.Patience)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	log := n.RunLog()
	if code == 0 || code == -1 {
		t.Errorf("%s: exit code %d", what, code)
	}
	if strings.Contains(log, "goroutine ") || strings.Contains(log, "panic") {
		t.Errorf("%s: a stack instead of a message:\n%s", what, log)
	}
	if cluster.IsEtcd() {
		return // in its own words
	}
	for _, word := range words {
		if !strings.Contains(log, word) {
			t.Errorf("%s: %q is not in\n%s", what, word, log)
		}
	}
	t.Logf("%s: %s", what, lastLine(log))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestWrongStarts(t *testing.T) {
	skipShort(t)
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	address := "http://" + taken.Addr().String()

	n := single(t, cluster.Options{})
	n.SetFlag("--listen-client-urls=" + address)
	wantFailure(t, "client port in use", n, "--listen-client-urls", taken.Addr().String(), "address already in use")

	n = single(t, cluster.Options{})
	n.SetFlag("--listen-peer-urls=" + address)
	wantFailure(t, "peer port in use", n, "--listen-peer-urls", taken.Addr().String(), "address already in use")

	n = single(t, cluster.Options{})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	n.SetFlag("--data-dir=" + file)
	wantFailure(t, "a file as data directory", n, file)

	n = single(t, cluster.Options{})
	directory := t.TempDir()
	must(t, os.WriteFile(filepath.Join(directory, "thesis.txt"), []byte("important"), 0o600))
	n.SetFlag("--data-dir=" + directory)
	if !cluster.IsEtcd() {
		wantFailure(t, "a directory with other things in it", n, directory, "thesis.txt")
	}

	for flag, words := range map[string][]string{
		"--no-such-flag=1":                  {"no-such-flag"},
		"--heartbeat-interval=often":        {"--heartbeat-interval", "often"},
		"--election-timeout=100":            {"--election-timeout", "--heartbeat-interval"},
		"--listen-client-urls=127.0.0.1:80": {"--listen-client-urls", "127.0.0.1:80"},
		"--name=somebody":                   {"somebody", "--initial-cluster"},
		"--initial-cluster=n1=x,":           {"--initial-cluster"},
		"--initial-cluster-state=maybe":     {"--initial-cluster-state", "maybe"},
	} {
		n := single(t, cluster.Options{})
		n.SetFlag(flag)
		wantFailure(t, flag, n, words...)
	}
}

// A data directory belongs to one node of one cluster, and to one process.
func TestDataDirectories(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd keeps what the data directory says, whatever the flags are")
	}
	t.Parallel()
	n := single(t, cluster.Options{Token: "first"})
	must(t, n.Start())
	must(t, n.WaitReady())
	try(n.Client(t).Put(within(t), "k", "v"))(t)

	second := single(t, cluster.Options{Token: "first"})
	second.SetFlag("--data-dir=" + n.DataDir)
	wantFailure(t, "a directory in use", second, n.DataDir, "another process")
	end(t, n)

	for _, flag := range []string{"--name=n9", "--initial-cluster=n9=http://" + n.PeerAddress} {
		n.SetFlag(flag)
	}
	wantFailure(t, "another name", n, n.DataDir, "n9")
	for _, flag := range []string{"--name=n1", "--initial-cluster=n1=http://" + n.PeerAddress, "--initial-cluster-token=second"} {
		n.SetFlag(flag)
	}
	// Which cluster it belongs to, the directory says, as in etcd; that the flags say another one is said.
	must(t, n.Start())
	must(t, n.WaitReady())
	must(t, n.WaitLog("the data directory counts"))
	equal(t, "the value after all", string(try(n.Client(t).Get(within(t), "k"))(t).Kvs[0].Value), "v")
}

// A node of another cluster that calls is refused, with a reason in both logs; the cluster goes on.
func TestForeignCluster(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd logs other words")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Token: "ours"})
	stranger, err := cluster.New(cluster.Options{Token: "theirs"})
	must(t, err)
	t.Cleanup(func() { must(t, stranger.Close()) })
	// It takes our first two nodes for its own.
	n := stranger.Nodes[2]
	n.SetFlag(fmt.Sprintf("--initial-cluster=n1=http://%s,n2=http://%s,n3=http://%s", cl.Nodes[0].PeerAddress, cl.Nodes[1].PeerAddress, n.PeerAddress))
	must(t, n.Start())
	cluster.Eventually(t, "a reason in the stranger's log", func() error { return mentions(n, "cluster", "refused") })
	cluster.Eventually(t, "a reason in our log", func() error { return mentions(cl.Nodes[0], "cluster", "refused") })
	try(cl.Client(t).Put(within(t), "k", "v"))(t)
	if n.Running() {
		end(t, n)
	}
}

// mentions tells whether one line of a log has all words.
func mentions(n *cluster.Node, words ...string) error {
line:
	for line := range strings.Lines(n.RunLog()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue line
			}
		}
		return nil
	}
	return fmt.Errorf("no line of the log has all of %q:\n%s", words, n.LogTail(10))
}

// A second process that claims to be a member that runs already, on an empty directory and other ports, must not get
// into the cluster.
func TestTwoNodesWithOneName(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd logs other words")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Token: "twins"})
	c := cl.Client(t)
	revision := try(c.Put(within(t), "k", "v"))(t).Header.Revision
	impostors, err := cluster.New(cluster.Options{Token: "twins"})
	must(t, err)
	t.Cleanup(func() { must(t, impostors.Close()) })
	impostor := impostors.Nodes[0]
	for _, flag := range []string{"--initial-cluster", "--initial-advertise-peer-urls"} {
		impostor.SetFlag(flag + "=" + cl.Nodes[0].Flag(flag))
	}
	must(t, impostor.Start())
	cluster.Eventually(t, "a refusal in the impostor's log", func() error {
		return errors.Join(mentions(impostor, "refused"))
	})
	// The cluster, its real n1 included, goes on.
	for _, n := range cl.Nodes {
		revision++
		equal(t, "revision through "+n.Name, try(n.Client(t).Put(within(t), "k", n.Name))(t).Header.Revision, revision)
	}
	if impostor.Running() {
		if _, err := impostor.Client(t).Put(short(t), "k", "impostor"); err == nil {
			t.Error("the impostor took a write")
		}
		end(t, impostor)
	}
	t.Log(lastLine(impostor.RunLog()))
}

// Started under the name etcd the program takes etcd's flags without a word in front.
func TestNamedEtcd(t *testing.T) {
	skipShort(t)
	t.Parallel()
	program, err := cluster.Program()
	must(t, err)
	link := filepath.Join(t.TempDir(), "etcd")
	must(t, os.Symlink(program, link))
	environment := []string{"ETCD_HEARTBEAT_INTERVAL=90", "ETCD_ELECTION_TIMEOUT=900"}
	if !cluster.IsEtcd() {
		environment = append(environment, "ETCD_NAME=other") // a flag beats its variable; etcd refuses to start
	}
	n := single(t, cluster.Options{
		Flags:       []string{"--enable-pprof=false", "--logger=zap", "--log-level=info", "--auto-compaction-retention=0"},
		Environment: environment,
	})
	n.SetProgram(link, true)
	must(t, n.Start())
	must(t, n.WaitReady())
	must(t, n.WaitLog("ready to serve client requests"))
	try(n.Client(t).Put(within(t), "k", "v"))(t)
	end(t, n)

	version, err := exec.Command(link, "--version").CombinedOutput()
	if err != nil || !bytes.Contains(version, []byte("etcd")) {
		t.Errorf("etcd --version: %v\n%s", err, version)
	}
}

// The command line works from put to status.
func TestCommandLine(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has a program of its own for that")
	}
	cl := calmCluster(t)
	program, err := cluster.Program()
	must(t, err)
	run := func(arguments ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
		defer cancel()
		arguments = append(arguments, "--endpoints="+strings.Join(cl.Endpoints(), ","))
		output, err := exec.CommandContext(ctx, program, arguments...).CombinedOutput()
		if err != nil {
			t.Fatalf("quorate %q: %v\n%s", arguments, err, output)
		}
		return string(output)
	}
	run("put", "cli/a", "apple")
	run("put", "cli/b", "banana")
	for what, output := range map[string]string{
		"apple":          run("get", "cli/a"),
		"banana":         run("get", "cli/", "--prefix"),
		`"leader`:        run("status", "--output=json"),
		cl.Nodes[2].Name: run("status"),
	} {
		if !strings.Contains(output, what) {
			t.Errorf("%q is not in %q", what, output)
		}
	}
	run("del", "cli/a")
	if output := run("get", "cli/", "--prefix"); strings.Contains(output, "apple") {
		t.Errorf("after the deletion: %q", output)
	}
}
