package e2e

import (
	"context"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func testCompaction(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	var revisions []int64
	for i := range 10 {
		revisions = append(revisions, try(c.Put(within(t), "compaction", fmt.Sprint(i)))(t).Header.Revision)
	}
	gone := try(c.Delete(within(t), "compaction"))(t).Header.Revision
	last := try(c.Put(within(t), "compaction", "again"))(t).Header.Revision
	at := revisions[6]
	try(c.Compact(within(t), at, clientv3.WithCompactPhysical()))(t)
	for _, n := range cl.Nodes {
		client := n.Client(t)
		// What a node answers from its own state may be late, not wrong.
		eventually(t, "compaction at "+n.Name, func(ctx context.Context) error {
			_, err := client.Get(ctx, "compaction", clientv3.WithRev(at-1), clientv3.WithSerializable())
			if err != rpctypes.ErrCompacted {
				return fmt.Errorf("%v, want %v", err, rpctypes.ErrCompacted)
			}
			return nil
		})
		for i, revision := range revisions {
			got, err := client.Get(within(t), "compaction", clientv3.WithRev(revision))
			if revision < at {
				refused(t, fmt.Sprintf("read below the compaction at %s", n.Name), err, rpctypes.ErrCompacted)
			} else if err != nil || string(got.Kvs[0].Value) != fmt.Sprint(i) {
				t.Errorf("read at %d at %s: %v, %v", revision, n.Name, got, err)
			}
		}
		equal(t, "deleted", try(client.Get(within(t), "compaction", clientv3.WithRev(gone)))(t).Count, 0)
		equal(t, "latest", string(try(client.Get(within(t), "compaction"))(t).Kvs[0].Value), "again")
		_, err := client.Get(within(t), "compaction", clientv3.WithRev(last+1000))
		refused(t, "a future revision", err, rpctypes.ErrFutureRev)
		_, err = client.Txn(within(t)).Then(clientv3.OpGet("compaction", clientv3.WithRev(at-1))).Commit()
		refused(t, "a transaction that reads below", err, rpctypes.ErrCompacted)
		_, err = client.Compact(within(t), at-1)
		refused(t, "a compaction below", err, rpctypes.ErrCompacted)
		_, err = client.Compact(within(t), at)
		refused(t, "the same compaction", err, rpctypes.ErrCompacted)
		_, err = client.Compact(within(t), last+1000)
		refused(t, "a compaction in the future", err, rpctypes.ErrFutureRev)
		_, err = client.HashKV(within(t), n.Endpoint, at-1)
		refused(t, "a hash below", err, rpctypes.ErrCompacted)
	}
}

func testWatchBelowTheCompaction(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	var first, last int64
	for i := range 5 {
		last = try(c.Put(within(t), "compaction-watch", fmt.Sprint(i)))(t).Header.Revision
		if i == 0 {
			first = last
		}
	}
	try(c.Compact(within(t), last-1, clientv3.WithCompactPhysical()))(t)
	for _, n := range cl.Nodes {
		client := n.Client(t)
		try(client.Get(within(t), "compaction-watch"))(t)
		response, ok := <-client.Watch(within(t), "compaction-watch", clientv3.WithRev(first))
		if !ok || !response.Canceled || response.CompactRevision != last-1 || response.Err() != rpctypes.ErrCompacted {
			t.Errorf("watch from %d at %s: %+v", first, n.Name, response)
		}
		// From the compacted revision on everything is there.
		response = <-client.Watch(within(t), "compaction-watch", clientv3.WithRev(last-1))
		if len(response.Events) != 2 || string(response.Events[0].Kv.Value) != "3" {
			t.Errorf("watch from %d at %s: %+v", last-1, n.Name, response)
		}
	}
	must(t, cl.Kill())
	must(t, cl.Start())
	// The compaction has survived.
	_, err := c.Get(within(t), "compaction-watch", clientv3.WithRev(first))
	refused(t, "read below after a restart of all", err, rpctypes.ErrCompacted)
}

// Revisions of writes that took effect are dense, however the nodes end; with several shards they rise.
func testDenseRevisionsThroughCrashes(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	revision := try(c.Put(within(t), "dense", "0"))(t).Header.Revision
	putMore := func() {
		t.Helper()
		for range 20 {
			got := try(c.Put(within(t), "dense", "v"))(t).Header.Revision
			revision++
			if cluster.ManyShards() { // then there are gaps
				revision = max(revision, got)
			}
			equal(t, "revision", got, revision)
		}
	}
	putMore()
	must(t, cl.Kill())
	must(t, cl.Start())
	putMore()
	leader := try(cl.Leader())(t)
	must(t, leader.Kill())
	// Nothing is in flight: no revision may be missing or taken twice.
	eventually(t, "serve without the old leader", func(ctx context.Context) error {
		_, err := c.Get(ctx, "dense")
		return err
	})
	putMore()
	must(t, leader.Start())
	must(t, leader.WaitReady())
	got := try(leader.Client(t).Get(within(t), "dense"))(t)
	equal(t, "revision at the restarted node", got.Kvs[0].ModRevision, revision)
	equal(t, "version", got.Kvs[0].Version, 61)
}
