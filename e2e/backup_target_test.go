package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestBackupTargetFull makes a backup into a file system that is too small: nothing there looks like a backup, and with more room the same command goes on.
func TestBackupTargetFull(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no backups")
	}
	t.Parallel()
	mount := t.TempDir()
	// The file system is there for the processes below alone.
	if output, err := exec.CommandContext(within(t), "unshare", "-Urm", "mount", "-t", "tmpfs", "none", mount).CombinedOutput(); err != nil {
		t.Skipf("this system does not let tests mount a small file system: %v: %s", err, output)
	}
	cl := cluster.Start(t, cluster.Options{Nodes: 1})
	c := cl.Client(t)
	value := make([]byte, 16<<10)
	for i := range 600 {
		rand.Read(value) // does not compress; never fails
		try(c.Put(within(t), fmt.Sprint("fill/", i), string(value)))(t)
	}
	script := `set -u
mount -t tmpfs -o size=2m none "$MOUNT" || exit 90
"$QUORATE" backup create "$MOUNT/backups" --endpoints "$ENDPOINTS" && exit 91
"$QUORATE" backup list "$MOUNT/backups" || exit 92
mount -o remount,size=256m "$MOUNT" || exit 93
"$QUORATE" backup create "$MOUNT/backups" --endpoints "$ENDPOINTS" || exit 94
"$QUORATE" backup verify --deep "$MOUNT/backups" || exit 95`
	command := exec.CommandContext(within(t), "unshare", "-Urm", "sh", "-c", script)
	command.Env = append(os.Environ(), "MOUNT="+mount, "QUORATE="+try(cluster.Program())(t), "ENDPOINTS="+strings.Join(cl.Endpoints(), ","))
	output, err := command.CombinedOutput()
	said := string(output)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, wanted := range []string{"no space left on device", "free space", "PARENT\nquorate: going on with", "1 backup,"} {
		if !strings.Contains(said, wanted) {
			t.Errorf("nobody said %q: %s", wanted, said)
		}
	}
}

// TestBackupTargetGone makes a backup whose target is removed in the middle, as a disk that is pulled out.
func TestBackupTargetGone(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no backups")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Nodes: 1})
	putThousand(t, cl.Client(t), "first")
	target := filepath.Join(t.TempDir(), "backups")
	slow := beginBackup(t, target, cl.Endpoints(), "--rate-limit", "200KiB", "--target-patience", "1s")
	must(t, os.RemoveAll(target))
	err := slow.command.Wait()
	var failed *exec.ExitError
	if !errors.As(err, &failed) || !strings.Contains(slow.stderr.String(), "no such file or directory") {
		t.Fatalf("the backup: %v: %s", err, &slow.stderr)
	}
	if manifests, err := filepath.Glob(filepath.Join(target, "manifests", "*")); err != nil || len(manifests) > 0 {
		t.Errorf("what is left looks like a backup: %v, %v", manifests, err)
	}
	made := backUp(t, target, cl.Endpoints()) // into a directory of that name that is new
	equal(t, "kind", made.Kind, "full")
	runProgram(t, "backup", "verify", target)
}
