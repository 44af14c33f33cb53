package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

func TestEtcdctl(t *testing.T) {
	program, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("etcdctl is not in the PATH")
	}
	cl := calmCluster(t)
	run := func(input string, arguments ...string) string {
		t.Helper()
		command := exec.CommandContext(within(t), program, append([]string{"--endpoints=" + strings.Join(cl.Endpoints(), ",")}, arguments...)...)
		command.Stdin = strings.NewReader(input)
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("etcdctl %q: %v\n%s", arguments, err, output)
		}
		return strings.TrimSpace(string(output))
	}
	const prefix = "ctl/"
	clean(t, prefix)
	equal(t, "put", run("", "put", prefix+"a", "1"), "OK")
	equal(t, "put from standard input", run("two", "put", prefix+"b"), "OK")
	equal(t, "get", run("", "get", prefix, "--prefix"), prefix+"a\n1\n"+prefix+"b\ntwo")
	equal(t, "get, sorted", run("", "get", prefix, "--prefix", "--order=DESCEND", "--sort-by=CREATE", "--keys-only", "--limit=1"), prefix+"b")
	transaction := "value(\"" + prefix + "a\") = \"1\"\n\nput " + prefix + "c 3\nget " + prefix + "c\n\nget " + prefix + "a\n\n"
	equal(t, "txn", run(transaction, "txn"), "SUCCESS\n\nOK\n\n"+prefix+"c\n3")
	grant := run("", "lease", "grant", "600")
	fields := strings.Fields(grant)
	if len(fields) < 2 {
		t.Fatalf("lease grant: %q", grant)
	}
	id := fields[1]
	equal(t, "put with a lease", run("", "put", prefix+"leased", "v", "--lease="+id), "OK")
	for what, output := range map[string]string{
		"600":       run("", "lease", "timetolive", id, "--keys"),
		id:          run("", "lease", "list"),
		"remaining": run("", "lease", "timetolive", id),
		"TTL(600)":  run("", "lease", "keep-alive", "--once", id),
		"revoked":   run("", "lease", "revoke", id),
	} {
		if !strings.Contains(strings.ReplaceAll(output, "granted with TTL(600s), ", "600 "), what) {
			t.Errorf("%q is not in %q", what, output)
		}
	}
	equal(t, "the leased key", run("", "get", prefix+"leased"), "")
	equal(t, "del", run("", "del", prefix+"a"), "1")
	for _, n := range cl.Nodes {
		for what, output := range map[string]string{
			n.Endpoint:   run("", "endpoint", "status", "-w=table"),
			"is healthy": run("", "endpoint", "health"),
			n.Name:       run("", "member", "list"),
		} {
			if !strings.Contains(output, what) {
				t.Errorf("%q is not in %q", what, output)
			}
		}
	}
	equal(t, "alarms", run("", "alarm", "list"), "")
	if hashes := strings.Split(run("", "endpoint", "hashkv"), "\n"); len(hashes) != 3 {
		t.Errorf("hashes: %q", hashes)
	}
	if defragmented := run("", "defrag"); strings.Count(defragmented, "Finished defragmenting") != 3 {
		t.Errorf("defrag: %q", defragmented)
	}
	equal(t, "a lock around a command", run("", "lock", prefix+"lock", "echo", "locked"), "locked")
}
