package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestRestoreWithTLS backs a cluster up that speaks TLS, and restores it: each node with the flags of TLS that it is then started with.
func TestRestoreWithTLS(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("this is about our own backups")
	}
	of := newCertificates(t)
	later := time.Now().Add(time.Hour)
	for _, name := range []string{"node", "alice"} {
		of.issue(t, of.authority, name, later)
	}
	of.revoke(t, of.authority)
	cl, endpoints := startTLS(t, of)
	client := dialTLS(t, of.client(t, "alice"), endpoints...)
	eventually(t, "a write with TLS", func(ctx context.Context) error {
		_, err := client.Put(ctx, "tls", "kept")
		return err
	})
	target := filepath.Join(t.TempDir(), "backups")
	runProgram(t, "backup", "create", target, "--endpoints="+strings.Join(endpoints, ","), "--cacert="+of.path("ca.pem"), "--cert="+of.path("alice.pem"), "--key="+of.path("alice-key.pem"))

	for _, n := range cl.Nodes {
		must(t, n.Kill())
	}
	for _, n := range cl.Nodes {
		n.SetFlag("--data-dir=" + filepath.Join(t.TempDir(), n.Name))
		command := n.Command()
		runProgram(t, slices.Concat([]string{"restore", target}, command[slices.Index(command, "serve")+1:])...)
	}
	for _, n := range cl.Nodes {
		must(t, n.Start())
	}
	eventually(t, "the restored cluster serves", func(ctx context.Context) error {
		got, err := client.Get(ctx, "tls")
		if err == nil && (got.Count != 1 || string(got.Kvs[0].Value) != "kept") {
			err = fmt.Errorf("it has %v", got.Kvs)
		}
		return err
	})
	eventually(t, "it takes writes: the nodes talk to each other", func(ctx context.Context) error {
		_, err := client.Put(ctx, "tls", "written")
		return err
	})
}
