package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// madeBackup is what the program says of a backup.
type madeBackup struct {
	ID          string `json:"id"`
	Kind        string `json:"kind"`
	Revision    int64  `json:"revision"`
	HistoryFrom int64  `json:"history_from_revision"`
	Versions    int64  `json:"versions"`
	Damage      string `json:"damage"`
}

// runProgram runs the program, and gives its output.
func runProgram(t *testing.T, arguments ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(within(t), try(cluster.Program())(t), arguments...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("quorate %s: %v\n%s%s", strings.Join(arguments, " "), err, &stdout, &stderr)
	}
	return stdout.Bytes()
}

func backUp(t *testing.T, target string, endpoints []string, flags ...string) (made madeBackup) {
	t.Helper()
	out := runProgram(t, append([]string{"backup", "create", target, "--output", "json", "--endpoints", strings.Join(endpoints, ",")}, flags...)...)
	must(t, json.Unmarshal(out, &made))
	return made
}

// contents are all keys at a revision, with what belongs to them.
func contents(t *testing.T, c *clientv3.Client, revision int64) map[string]string {
	t.Helper()
	all := try(c.Get(within(t), "", clientv3.WithFromKey(), clientv3.WithRev(revision)))(t)
	found := make(map[string]string, len(all.Kvs))
	for _, e := range all.Kvs {
		found[string(e.Key)] = fmt.Sprintf("%x created %d changed %d version %d lease %x", e.Value, e.CreateRevision, e.ModRevision, e.Version, e.Lease)
	}
	return found
}

// restored is a cluster that is made of a backup, and serves.
func restored(t *testing.T, target string, nodes int, restore []string, flags ...string) *cluster.Cluster {
	t.Helper()
	cl := try(cluster.New(cluster.Options{Nodes: nodes, Dir: t.TempDir(), Flags: flags}))(t)
	t.Cleanup(func() { must(t, cl.Close()) })
	for _, n := range cl.Nodes {
		command := n.Command()
		runProgram(t, slices.Concat([]string{"restore", target}, restore, command[slices.Index(command, "serve")+1:])...)
	}
	must(t, cl.Start())
	return cl
}

// TestBackups makes a full backup and incremental ones of eight shards while transactions over them go on, with a kill -9 of the program that makes one, of
// the node that it reads from, and of a restore; then it restores revisions in other shapes.
func TestBackups(t *testing.T) {
	cl := shardedCluster(t, "2pc")
	c := cl.Client(t)
	target := filepath.Join(t.TempDir(), "backups")
	value := bytes.Repeat([]byte("value "), 100)
	lease := try(c.Grant(within(t), 3600))(t).ID
	for i := range 20 {
		var puts []clientv3.Op
		for j := range 50 {
			put := clientv3.OpPut(fmt.Sprintf("fill/%d/%d", i, j), string(value))
			if j == 0 {
				put = clientv3.OpPut(fmt.Sprintf("fill/%d/%d", i, j), "", clientv3.WithLease(lease))
			}
			puts = append(puts, put)
		}
		try(c.Txn(within(t)).Then(puts...).Commit())(t)
	}
	stop := write(t, cl.Nodes[1:])

	// The program is killed in the middle; the same command goes on with what there is.
	slow := exec.Command(try(cluster.Program())(t), "backup", "create", target, "--rate-limit", "200KiB", "--parallel", "1", "--endpoints", strings.Join(cl.Endpoints(), ","))
	must(t, slow.Start())
	cluster.Eventually(t, "a backup has begun", func() error {
		begun, err := filepath.Glob(filepath.Join(target, "unfinished", "*"))
		if err == nil && len(begun) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	must(t, slow.Process.Kill())
	_ = slow.Wait() // it was killed
	if left := try(os.ReadDir(filepath.Join(target, "unfinished")))(t); len(left) != 1 {
		t.Fatalf("%d backups are unfinished", len(left))
	}
	full := backUp(t, target, cl.Endpoints())
	equal(t, "kind", full.Kind, "full")

	// The node that is read from is killed; another one goes on.
	type outcome struct {
		made madeBackup
		err  error
	}
	second := make(chan outcome, 1)
	go func() {
		var o outcome
		out, err := exec.CommandContext(within(t), try(cluster.Program())(t), "backup", "create", target, "--incremental", "--output", "json", "--rate-limit", "64KiB",
			"--endpoints", strings.Join(cl.Endpoints(), ",")).Output()
		o.err = errors.Join(err, json.Unmarshal(out, &o.made))
		second <- o
	}()
	must(t, cl.Nodes[0].KillAndStart())
	incremental := <-second
	must(t, incremental.err)
	must(t, cl.Nodes[0].WaitReady())
	equal(t, "transactions were acknowledged", stop() > 0, true)
	wantDecided(t, cl)
	try(c.Delete(within(t), "fill/7/", clientv3.WithPrefix()))(t)
	last := backUp(t, target, cl.Endpoints(), "--incremental")
	equal(t, "the history goes on from", last.HistoryFrom, incremental.made.Revision)
	var deep struct{ Restored, Compared, Wrong []string }
	must(t, json.Unmarshal(runProgram(t, "backup", "verify", "--deep", target, "--output", "json"), &deep))
	if len(deep.Restored) != 3 || !slices.Equal(deep.Compared, []string{full.ID}) {
		t.Errorf("verify --deep: %+v", deep)
	}
	var differ struct {
		Summary struct{ Removed struct{ Keys int } } `json:"summary"`
	}
	must(t, json.Unmarshal(runProgram(t, "backup", "diff", target, incremental.made.ID, last.ID, "--summary", "--output", "json"), &differ))
	equal(t, "keys that were deleted in between", differ.Summary.Removed.Keys, 50)

	first := wantTimes(t, cl)
	backUp(t, target, cl.Endpoints(), "--incremental")
	then := runProgram(t, "restore", target, "--data-dir", filepath.Join(t.TempDir(), "then"), "--keep-revisions", "--at-time", first.Time.Format(time.RFC3339Nano))
	equal(t, "what was there then is restored", strings.Contains(string(then), fmt.Sprintf("then: revision %d,", first.Revision)), true)

	// In the middle of what the incremental one has, on one node with one shard and another protocol.
	middle := (full.Revision + incremental.made.Revision) / 2
	one := restored(t, target, 1, []string{"--at-revision", fmt.Sprint(middle), "--keep-revisions"}, "--consensus=paxos")
	if want, got := contents(t, c, middle), contents(t, one.Client(t), 0); !maps.Equal(got, want) {
		t.Errorf("revision %d: %d keys, want %d", middle, len(got), len(want))
	}
	wantTimes(t, one)
	for _, revision := range []int64{full.HistoryFrom + 5, middle - 1} {
		if want, got := contents(t, c, revision), contents(t, one.Client(t), revision); !maps.Equal(got, want) {
			t.Errorf("the history at revision %d: %d keys, want %d", revision, len(got), len(want))
		}
	}

	// The newest, on three nodes, by range. All that were issued are below its revision, and compacted.
	three := restored(t, target, 3, nil, "--initial-shards=5", "--initial-partition=range", "--initial-split-keys=fill/3,fill/6,pair/left,pair/right", "--commit-protocol=3pc")
	want, got := contents(t, c, last.Revision), contents(t, three.Client(t), 0)
	if !maps.Equal(got, want) {
		t.Errorf("the newest: %d keys, want %d", len(got), len(want))
	}
	wantWhole(t, three.Client(t))
	eventually(t, "equal nodes", func(context.Context) error { return equalNodes(t, three) })
	put := try(three.Client(t).Put(within(t), "new", "x"))(t)
	equal(t, "revisions go on above all that were issued", put.Header.Revision > last.Revision+1000, true)
	if _, err := three.Client(t).Get(within(t), "pair/left/1", clientv3.WithRev(last.Revision)); err == nil {
		t.Error("a revision from before the backup can be read")
	}
	ttl := try(three.Client(t).TimeToLive(within(t), lease, clientv3.WithAttachedKeys()))(t)
	equal(t, "keys of the lease", len(ttl.Keys), 19)
	equal(t, "the lease has its time again", ttl.TTL > 3500, true)

	// A restore that is killed leaves nothing that looks whole.
	half := filepath.Join(t.TempDir(), "half")
	for delay := 5 * time.Millisecond; ; delay = delay * 3 / 2 {
		must(t, os.RemoveAll(half+".restoring"))
		restore := exec.Command(try(cluster.Program())(t), "restore", target, "--data-dir", half)
		must(t, restore.Start())
		<-time.After(delay) // the moment of the kill: nothing depends on what has happened by then
		must(t, restore.Process.Kill())
		_ = restore.Wait()
		if _, err := os.Stat(half); err == nil {
			break // it was whole by then
		}
	}
}
