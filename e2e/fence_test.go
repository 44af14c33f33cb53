package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// fenceSays runs a command of quorate fence.
func fenceSays(t *testing.T, cl *cluster.Cluster, command string) (said struct {
	Fenced   bool
	Revision int64
}) {
	t.Helper()
	must(t, json.Unmarshal(runProgram(t, "fence", command, "--output", "json", "--endpoints", strings.Join(cl.Endpoints(), ",")), &said))
	return said
}

// TestFence backs a cluster up behind a fence while transactions over its shards go on; kills all nodes; and lets it go on.
func TestFence(t *testing.T) {
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) { fenced(t, shardedCluster(t, commit)) })
	}
}

func fenced(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	target := filepath.Join(t.TempDir(), "backups")
	short, kept := try(c.Grant(within(t), 2))(t).ID, try(c.Grant(within(t), 60))(t).ID
	try(c.Put(within(t), "leased/short", "x", clientv3.WithLease(short)))(t)
	try(c.Put(within(t), "leased/kept", "x", clientv3.WithLease(kept)))(t)
	equal(t, "fenced at first", fenceSays(t, cl, "status").Fenced, false)
	backUp(t, target, cl.Endpoints())
	stop := write(t, cl.Nodes)
	cluster.Eventually(t, "pairs are written", func() error {
		all, err := c.Get(within(t), "pair/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && all.Count < 20 {
			err = fmt.Errorf("there are %d", all.Count)
		}
		return err
	})
	made := backUp(t, target, cl.Endpoints(), "--fence", "--incremental") // the writers go on trying
	behind := contents(t, c, 0)
	if was := contents(t, c, made.Revision); !maps.Equal(behind, was) {
		t.Errorf("the backup is of revision %d, where there were %d keys; there are %d", made.Revision, len(was), len(behind))
	}

	refusedByFence := func() {
		t.Helper()
		for what, try := range map[string]func(context.Context) error{
			"put":    func(ctx context.Context) error { _, err := c.Put(ctx, "new", "x"); return err },
			"delete": func(ctx context.Context) error { _, err := c.Delete(ctx, "pair/", clientv3.WithPrefix()); return err },
			"pair":   func(ctx context.Context) error { return writePair(ctx, c, 1, "late") },
			"grant":  func(ctx context.Context) error { _, err := c.Grant(ctx, 60); return err },
			"revoke": func(ctx context.Context) error { _, err := c.Revoke(ctx, kept); return err },
			"role":   func(ctx context.Context) error { _, err := c.RoleAdd(ctx, "late"); return err },
		} {
			if err := try(within(t)); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "the cluster is fenced") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	refusedByFence()
	_, err := c.AlarmDisarm(within(t), &clientv3.AlarmMember{}) // of whoever clears all alarms
	must(t, err)
	for _, n := range cl.Nodes {
		must(t, n.KillAndStart())
	}
	for _, n := range cl.Nodes {
		must(t, n.WaitReady())
	}
	stop()
	eventually(t, "a lease is kept alive behind the fence", func(ctx context.Context) error {
		_, err := c.KeepAliveOnce(ctx, kept)
		return err
	})
	cluster.Eventually(t, "the short lease has run out", func() error {
		ttl, err := c.TimeToLive(within(t), short)
		if err == nil && ttl.TTL > 0 {
			err = fmt.Errorf("it has %d s left", ttl.TTL)
		}
		return err
	})
	refusedByFence()
	if now := contents(t, c, 0); !maps.Equal(now, behind) {
		t.Errorf("after a restart there are %d keys, and were %d", len(now), len(behind))
	}
	if said := fenceSays(t, cl, "status"); !said.Fenced || said.Revision < made.Revision {
		t.Errorf("status: %+v", said)
	}
	again := backUp(t, target, cl.Endpoints(), "--fence")
	if was := contents(t, c, again.Revision); !maps.Equal(behind, was) {
		t.Errorf("another backup, of revision %d: %d keys, want %d", again.Revision, len(was), len(behind))
	}

	// The store that is made of it has everything, and accepts writes.
	one := restored(t, target, 1, nil)
	if got := contents(t, one.Client(t), 0); !maps.Equal(got, behind) {
		t.Errorf("restored: %d keys, want %d", len(got), len(behind))
	}
	try(one.Client(t).Put(within(t), "new", "x"))(t)

	equal(t, "fenced when it is released", fenceSays(t, cl, "release").Fenced, false)
	must(t, writePair(within(t), c, 1, "afterwards"))
	eventually(t, "the lease ends that ran out meanwhile", func(ctx context.Context) error {
		left, err := c.Get(ctx, "leased/short")
		if err == nil && left.Count > 0 {
			err = fmt.Errorf("its key is there")
		}
		return err
	})
	wantDecided(t, cl)
	if left := time.Duration(try(c.TimeToLive(within(t), kept))(t).TTL) * time.Second; left <= 0 {
		t.Errorf("the lease that was kept alive has %v left", left)
	}
}
