package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func TestLeaseLife(t *testing.T) {
	cl := calmCluster(t)
	for i, n := range cl.Nodes {
		c, elsewhere := n.Client(t), cl.Nodes[(i+1)%3].Client(t)
		lease := try(c.Grant(within(t), 1000))(t)
		equal(t, "granted TTL", lease.TTL, 1000)
		a, b := fmt.Sprintf("lease/%d/a", i), fmt.Sprintf("lease/%d/b", i)
		try(elsewhere.Put(within(t), b, "", clientv3.WithLease(lease.ID)))(t)
		put := try(elsewhere.Put(within(t), a, "", clientv3.WithLease(lease.ID)))(t)
		equal(t, "the key's lease", clientv3.LeaseID(try(c.Get(within(t), a))(t).Kvs[0].Lease), lease.ID)
		left := try(elsewhere.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys()))(t)
		if left.GrantedTTL != 1000 || left.TTL > 1000 || left.TTL < 900 {
			t.Errorf("time to live at %s: %+v", n.Name, left)
		}
		var keys []string
		for _, key := range left.Keys {
			keys = append(keys, string(key))
		}
		slices.Sort(keys)
		wantEvents(t, "attached keys", keys, a, b)
		if without := try(c.TimeToLive(within(t), lease.ID))(t); len(without.Keys) != 0 {
			t.Errorf("keys that were not asked for: %q", without.Keys)
		}
		if !slices.ContainsFunc(try(elsewhere.Leases(within(t)))(t).Leases, func(l clientv3.LeaseStatus) bool { return l.ID == lease.ID }) {
			t.Errorf("%x is not in the list of leases", lease.ID)
		}
		equal(t, "TTL after a renewal", try(elsewhere.KeepAliveOnce(within(t), lease.ID))(t).TTL, 1000)
		watch := c.Watch(within(t), fmt.Sprintf("lease/%d/", i), clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision+1))
		try(c.Revoke(within(t), lease.ID))(t)
		deletions := <-watch
		wantEvents(t, "deletions in one message", describeAll(deletions), "delete "+a, "delete "+b)
		equal(t, "their revisions", deletions.Events[0].Kv.ModRevision, deletions.Events[1].Kv.ModRevision)
		_, err := elsewhere.Revoke(within(t), lease.ID)
		refused(t, "revoke again", err, rpctypes.ErrLeaseNotFound)
		_, err = elsewhere.KeepAliveOnce(within(t), lease.ID)
		refused(t, "renew a revoked lease", err, rpctypes.ErrLeaseNotFound)
		equal(t, "TTL of a revoked lease", try(elsewhere.TimeToLive(within(t), lease.ID))(t).TTL, -1)
		_, err = c.Put(within(t), a, "", clientv3.WithLease(lease.ID))
		refused(t, "attach to a revoked lease", err, rpctypes.ErrLeaseNotFound)
	}
}

func describeAll(response clientv3.WatchResponse) (all []string) {
	for _, event := range response.Events {
		all = append(all, describe(event))
	}
	return all
}

func TestLeaseErrors(t *testing.T) {
	c := calmCluster(t).Client(t)
	_, err := c.Grant(within(t), 9_000_000_001)
	refused(t, "a TTL too large", err, rpctypes.ErrLeaseTTLTooLarge)
	_, err = c.Revoke(within(t), 0x7ffd)
	refused(t, "revoke what is not there", err, rpctypes.ErrLeaseNotFound)
	equal(t, "TTL of what is not there", try(c.TimeToLive(within(t), 0x7ffd))(t).TTL, -1)
	_, err = c.KeepAlive(within(t), 0x7ffd)
	if err != nil {
		t.Errorf("keep alive what is not there: %v", err)
	}
}

// A key that changes its lease, or loses it, does not go with the old one.
func TestLeaseMoves(t *testing.T) {
	c := calmCluster(t).Client(t)
	first, second := try(c.Grant(within(t), 600))(t).ID, try(c.Grant(within(t), 600))(t).ID
	for _, key := range []string{"move/kept", "move/freed", "move/left"} {
		try(c.Put(within(t), key, "", clientv3.WithLease(first)))(t)
	}
	try(c.Put(within(t), "move/kept", "", clientv3.WithLease(second)))(t)
	try(c.Put(within(t), "move/freed", ""))(t)
	try(c.Revoke(within(t), first))(t)
	wantEvents(t, "keys", keysOf(try(c.Get(within(t), "move/", clientv3.WithPrefix()))(t)), "move/freed", "move/kept")
	try(c.Revoke(within(t), second))(t)
	wantEvents(t, "keys", keysOf(try(c.Get(within(t), "move/", clientv3.WithPrefix()))(t)), "move/freed")
}

// A lease ends not before its time, and soon after; all its keys at one revision.
func TestLeaseExpires(t *testing.T) {
	cl := calmCluster(t)
	const ttl = 2
	writer := cl.Nodes[1].Client(t)
	watch := cl.Nodes[2].Client(t).Watch(within(t), "expiry/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	<-watch
	lease := try(writer.Grant(within(t), ttl))(t)
	var puts []clientv3.Op
	for i := range 50 {
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("expiry/%02d", i), "", clientv3.WithLease(lease.ID)))
	}
	try(writer.Txn(within(t)).Then(puts...).Commit())(t) // at once: on a busy machine fifty requests outlast the lease
	renewed := time.Now()
	equal(t, "TTL", try(writer.KeepAliveOnce(within(t), lease.ID))(t).TTL, ttl)
	response := <-watch
	if lived := time.Since(renewed); lived < ttl*time.Second {
		t.Errorf("it lived for %v, promised were %d s", lived, ttl)
	} else {
		t.Logf("it lived for %v", lived)
	}
	equal(t, "deletions", len(response.Events), 50)
	for _, event := range response.Events {
		equal(t, "revision", event.Kv.ModRevision, response.Events[0].Kv.ModRevision)
	}
	equal(t, "TTL afterwards", try(writer.TimeToLive(within(t), lease.ID))(t).TTL, -1)
	equal(t, "keys afterwards", try(writer.Get(within(t), "expiry/", clientv3.WithPrefix()))(t).Count, 0)
}

// A lease that is kept alive through any node outlives the deaths of leaders; one that is not lives
// at least as long as promised; and all that should end, end.
func testLeasesOverLeaderChanges(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	const ttl = 4
	kept := try(c.Grant(within(t), ttl))(t).ID
	try(c.Put(within(t), "kept", "", clientv3.WithLease(kept)))(t)
	renewals, err := c.KeepAlive(t.Context(), kept)
	must(t, err)
	long := try(c.Grant(within(t), 1000))(t).ID
	try(c.Put(within(t), "long", "", clientv3.WithLease(long)))(t)
	abandoned := try(c.Grant(within(t), ttl))(t).ID
	deadline := time.Now().Add(ttl * time.Second)
	try(c.Put(within(t), "abandoned", "", clientv3.WithLease(abandoned)))(t)

	for time.Now().Before(deadline.Add(time.Second)) {
		leader := try(cl.Leader())(t)
		must(t, leader.Kill())
		eventually(t, "read without "+leader.Name, func(ctx context.Context) error {
			asked := time.Now()
			response, err := c.Get(ctx, "abandoned")
			if err == nil && response.Count == 0 && asked.Before(deadline) && time.Now().Before(deadline) {
				t.Errorf("the abandoned lease ended %v early", time.Until(deadline))
			}
			return err
		})
		must(t, leader.Restart())
	}
	if response := try(c.Get(within(t), "kept"))(t); response.Count != 1 {
		t.Error("the lease that was kept alive ended")
	}
	eventually(t, "end of the abandoned lease", func(ctx context.Context) error {
		response, err := c.Get(ctx, "abandoned")
		if err == nil && response.Count != 0 {
			err = fmt.Errorf("it lives, %v after its end", time.Since(deadline))
		}
		return err
	})
	left := try(c.TimeToLive(within(t), long))(t)
	if left.TTL > 1000 || left.TTL < 900 {
		t.Errorf("the long lease: %+v", left)
	}
	got := 0
	for drained := false; !drained; {
		select {
		case renewal := <-renewals:
			if renewal == nil {
				t.Fatal("keeping alive ended")
			}
			got++
		default:
			drained = true
		}
	}
	t.Log(got, "renewals")
	try(c.Revoke(within(t), kept))(t)
	eventually(t, "deletion of the key of a revoked lease", func(ctx context.Context) error {
		response, err := c.Get(ctx, "kept")
		if err == nil && response.Count != 0 {
			err = fmt.Errorf("it is there")
		}
		return err
	})
}

// Leases, their keys and what is left of their time survive when all nodes are killed.
func testLeasesSurviveARestartOfAll(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	id := try(c.Grant(within(t), 500))(t).ID
	brief := try(c.Grant(within(t), 2))(t).ID
	try(c.Put(within(t), "survives", "", clientv3.WithLease(id)))(t)
	try(c.Put(within(t), "does not", "", clientv3.WithLease(brief)))(t)
	must(t, cl.Kill())
	must(t, cl.Start())
	for _, n := range cl.Nodes {
		left := try(n.Client(t).TimeToLive(within(t), id, clientv3.WithAttachedKeys()))(t)
		if left.GrantedTTL != 500 || left.TTL < 400 || left.TTL > 500 || len(left.Keys) != 1 {
			t.Errorf("at %s: %+v", n.Name, left)
		}
	}
	eventually(t, "expiry after the restart", func(ctx context.Context) error {
		response, err := c.TimeToLive(ctx, brief)
		if err == nil && response.TTL != -1 {
			err = fmt.Errorf("%d s left", response.TTL)
		}
		return err
	})
	equal(t, "keys of the expired lease", try(c.Get(within(t), "does not"))(t).Count, 0)
	try(c.Revoke(within(t), id))(t)
}
