package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// slowBackup is a backup that a test makes meanwhile.
type slowBackup struct {
	command        *exec.Cmd
	stdout, stderr bytes.Buffer
}

// beginBackup begins a slow backup, and waits until it has its revision.
func beginBackup(t *testing.T, target string, endpoints []string, flags ...string) *slowBackup {
	t.Helper()
	b := &slowBackup{}
	b.command = exec.CommandContext(within(t), try(cluster.Program())(t), append([]string{"backup", "create", target, "--output", "json", "--parallel", "1",
		"--endpoints", strings.Join(endpoints, ",")}, flags...)...)
	b.command.Stdout, b.command.Stderr = &b.stdout, &b.stderr
	must(t, b.command.Start())
	cluster.Eventually(t, "a backup has begun", func() error {
		begun, err := filepath.Glob(filepath.Join(target, "unfinished", "*"))
		if err == nil && len(begun) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	return b
}

func putThousand(t *testing.T, c *clientv3.Client, round string) {
	t.Helper()
	value := strings.Repeat(round+" ", 100)
	for i := range 20 {
		var puts []clientv3.Op
		for j := range 50 {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("fill/%d/%d", i, j), value))
		}
		try(c.Txn(within(t)).Then(puts...).Commit())(t)
	}
}

// TestBackupHoldsCompaction compacts, again and again, what backups read: for clients it is compacted at once, and the backups have it, if they come to their end
// in the time that there is for that.
func TestBackupHoldsCompaction(t *testing.T) {
	cl := shardedCluster(t, "2pc")
	c := cl.Client(t)
	target := filepath.Join(t.TempDir(), "backups")
	putThousand(t, c, "old")
	try(c.Delete(within(t), "fill/3/", clientv3.WithPrefix()))(t)
	before := try(c.Get(within(t), "none"))(t).Header.Revision
	was := contents(t, c, before)
	first := backUp(t, target, cl.Endpoints())
	putThousand(t, c, "newer")

	slow := beginBackup(t, target, cl.Endpoints(), "--incremental", "--rate-limit", "150KiB")
	compacted := int64(0)
	for i := range 3 {
		compacted = try(c.Put(within(t), "meanwhile", fmt.Sprint(i)))(t).Header.Revision
		try(c.Compact(within(t), compacted, clientv3.WithCompactPhysical()))(t) // it does not wait for the backup
		_, err := c.Get(within(t), "fill/1/1", clientv3.WithRev(before))
		refused(t, "a read of what is compacted", err, rpctypes.ErrCompacted)
		_, err = c.Compact(within(t), compacted)
		refused(t, "a compaction of what is compacted", err, rpctypes.ErrCompacted)
	}
	putThousand(t, c, "newest") // over tombstones that are compacted, too
	if err := slow.command.Wait(); err != nil {
		t.Fatalf("the backup: %v: %s", err, &slow.stderr)
	}
	var made madeBackup
	must(t, json.Unmarshal(slow.stdout.Bytes(), &made))
	if made.Revision >= compacted || made.HistoryFrom != first.Revision {
		t.Fatalf("the backup is of revisions %d to %d; %d was compacted, and the first one was of %d", made.HistoryFrom, made.Revision, compacted, first.Revision)
	}
	one := restored(t, target, 1, []string{"--keep-revisions"})
	if got := contents(t, one.Client(t), before); !maps.Equal(got, was) {
		t.Errorf("the history at revision %d: %d keys, want %d", before, len(got), len(was))
	}

	// What was kept is deleted afterwards: of the history that a full one has the beginning is compacted.
	eventually(t, "kept history is deleted", func(context.Context) error {
		full := backUp(t, target, cl.Endpoints())
		if full.HistoryFrom < compacted {
			return fmt.Errorf("a backup has the history from revision %d on", full.HistoryFrom)
		}
		return nil
	})
}

// TestBackupHoldLimit makes a backup that takes longer than nodes keep history for one.
func TestBackupHoldLimit(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no backups")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Nodes: 1, Flags: []string{"--initial-shards=2", "--initial-partition=hash", "--backup-hold-limit=1s"}})
	c := cl.Client(t)
	target := filepath.Join(t.TempDir(), "backups")
	putThousand(t, c, "old")
	backUp(t, target, cl.Endpoints())
	putThousand(t, c, "newer")
	slow := beginBackup(t, target, cl.Endpoints(), "--incremental", "--rate-limit", "100KiB")
	ended := make(chan error, 1)
	go func() { ended <- slow.command.Wait() }()
	for {
		revision := try(c.Put(within(t), "meanwhile", "x"))(t).Header.Revision
		try(c.Compact(within(t), revision, clientv3.WithCompactPhysical()))(t)
		select {
		case err := <-ended:
			said := slow.stderr.String()
			if err == nil || !strings.Contains(said, "has held back the deletion of compacted history for as long as it may, 1s") ||
				!strings.Contains(said, "(--backup-hold-limit), and the backup took longer") {
				t.Fatalf("%v, %s", err, said)
			}
			return
		default:
		}
	}
}
