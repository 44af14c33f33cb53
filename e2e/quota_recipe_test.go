package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestQuotaRecipe runs what the guide says about a quota that is reached, word by word: NOSPACE can be left with this program alone.
func TestQuotaRecipe(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("the guide is about our own program")
	}
	const quota = 8 << 20
	cl := cluster.Start(t, cluster.Options{Flags: []string{fmt.Sprintf("--quota-backend-bytes=%d", quota)}})
	shell := newShell(t, cl)
	c := cl.Client(t)
	value := make([]byte, 256<<10)
	rand.Read(value) // does not compress; never fails
	var err error
	for i := 0; err == nil && i < 100; i++ {
		_, err = c.Put(within(t), fmt.Sprintf("old/%d", i), string(value))
	}
	refused(t, "a put above the quota", err, rpctypes.ErrNoSpace)
	output, code := shell("quorate put new value")
	if code != 1 || !strings.Contains(output, "quorate alarm disarm") {
		t.Errorf("a put at the quota: exit %d, %s", code, output)
	}
	if output, code = shell("quorate alarm list"); code != 0 || !strings.Contains(output, "NOSPACE") {
		t.Errorf("alarms at the quota: exit %d, %s", code, output)
	}
	recipe := commandsOf(t, "Quota and NOSPACE")
	// Space comes back in the background; as the guide says, the recipe is repeated if the alarm comes back.
	eventually(t, "space by the guide's recipe", func(ctx context.Context) error {
		if output, code := shell(recipe); code != 0 {
			return fmt.Errorf("exit %d\n%s", code, output)
		}
		for _, n := range cl.Nodes {
			if s, err := n.Status(ctx); err != nil || s.DbSize >= quota {
				return fmt.Errorf("%s: %v, %v", n.Name, s, err)
			}
		}
		if output, code := shell("quorate put new value && quorate alarm list"); code != 0 || !strings.Contains(output, "no alarms") {
			return fmt.Errorf("exit %d\n%s", code, output)
		}
		return nil
	})
}

// newShell runs commands as the guide's reader would, with the program in the PATH and the endpoints in the environment.
func newShell(t *testing.T, cl *cluster.Cluster) func(script string) (output string, code int) {
	t.Helper()
	program := try(cluster.Program())(t)
	if filepath.Base(program) != "quorate" {
		t.Skipf("%s is not called quorate", program)
	}
	return func(script string) (string, int) {
		t.Helper()
		command := exec.CommandContext(within(t), "sh", "-ec", script)
		command.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "QUORATE_ENDPOINTS="+strings.Join(cl.Endpoints(), ","))
		var output bytes.Buffer
		command.Stdout, command.Stderr = &output, &output
		err := command.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return output.String(), command.ProcessState.ExitCode()
	}
}

// commandsOf are the commands in the first block of a section of the guide.
func commandsOf(t *testing.T, section string) string {
	t.Helper()
	guide := string(try(os.ReadFile("../docs/operations.md"))(t))
	_, after, found := strings.Cut(guide, "\n## "+section+"\n")
	_, block, opened := strings.Cut(after, "```sh\n")
	commands, _, closed := strings.Cut(block, "```\n")
	if !found || !opened || !closed || !strings.Contains(commands, "quorate ") {
		t.Fatalf("the guide has no commands in its section %q", section)
	}
	return commands
}
