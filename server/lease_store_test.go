package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// TestLeasesOfShards: a lease works with keys in any one shard. All its keys are gone when it has ended, by a client or by itself.
func TestLeasesOfShards(t *testing.T) {
	t.Parallel()
	c := newShardCluster(t, ClusterOptions{Partition: splitAt("/h", "/p"), Leaders: LeadersSpread})
	c.start(0, 1, 2)
	c.until("placed", c.placed)
	keys := c.keys()
	for shard := kv.SystemShard; int(shard) <= len(keys); shard++ {
		client := c.client(int(shard) % 3)
		lease, err := again(c, func() (*clientv3.LeaseGrantResponse, error) { return client.Grant(c.context(), 60) })
		if err != nil {
			t.Fatal(err)
		}
		put := func(key string) error {
			_, err := again(c, func() (*clientv3.PutResponse, error) {
				return client.Put(c.context(), key, "v", clientv3.WithLease(lease.ID))
			})
			return err
		}
		for _, key := range keys[shard] {
			if err := put(key); err != nil {
				t.Fatalf("put %q of shard %d with a lease: %v", key, shard, err)
			}
		}
		lives, err := again(c, func() (*clientv3.LeaseTimeToLiveResponse, error) {
			return client.TimeToLive(c.context(), lease.ID, clientv3.WithAttachedKeys())
		})
		if err != nil || len(lives.Keys) != len(keys[shard]) || lives.TTL < 30 {
			t.Errorf("shard %d: %+v, %v; want %d keys", shard, lives, err, len(keys[shard]))
		}
		revoked, err := client.Revoke(c.context(), lease.ID) // not again: the second time there would be no lease
		if err != nil {
			t.Fatal(err)
		}
		c.expectGone(client, keys[shard], revoked.Header.Revision)
		if err := put(keys[shard][0]); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("a put with a lease that was revoked: %v", err)
		}
	}
	client := c.client(0)
	var lease *clientv3.LeaseGrantResponse
	c.until("a key with a short lease", func() (err error) {
		if lease, err = client.Grant(c.context(), 1); err == nil {
			_, err = client.Put(c.context(), keys[2][0], "v", clientv3.WithLease(lease.ID)) // it may be over by then
		}
		return err
	})
	c.until("the end of a lease", func() error {
		lives, err := client.TimeToLive(c.context(), lease.ID)
		if err == nil && lives.TTL >= 0 {
			err = errors.New("it lives")
		}
		return err
	})
	c.expectGone(client, keys[2][:1], 0)
}

// expectGone reads keys of a lease that has ended. All were deleted at one revision.
func (c *shardCluster) expectGone(client *clientv3.Client, keys []string, revision int64) {
	c.t.Helper()
	for _, key := range keys {
		if found, err := client.Get(c.context(), key); err != nil || len(found.Kvs) > 0 || found.Header.Revision < revision {
			c.t.Errorf("key %q of a lease that has ended: %+v, %v", key, found, err)
		}
	}
}

// TestLeaseOfEightShards: the keys of a lease go at one revision, in whichever shards they are, and whoever watches them is told in one answer, in the order of
// keys. That holds if a client ends the lease, if it runs out, and if leaders are lost meanwhile.
func TestLeaseOfEightShards(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]ClusterOptions{
		"2pc": {Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}, Leaders: LeadersSpread, CommitProtocol: Commit2PC},
		"3pc": {Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}, Leaders: LeadersSpread, CommitProtocol: Commit3PC},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, cluster)
			c.start(0, 1, 2)
			c.until("placed", c.placed)
			var keys []string
			for _, list := range c.keys() {
				keys = append(keys, list[:2]...)
			}
			slices.Sort(keys)
			client := c.client(1)
			c.endLease(client, keys, 60, func(id clientv3.LeaseID) {
				lives, err := client.TimeToLive(c.context(), id, clientv3.WithAttachedKeys())
				if err != nil {
					t.Fatal(err)
				}
				var listed []string
				for _, key := range lives.Keys {
					listed = append(listed, string(key))
				}
				if !slices.Equal(listed, keys) {
					t.Errorf("the lease has keys %q, want %q", listed, keys)
				}
				if _, err := client.Revoke(c.context(), id); err != nil {
					t.Fatal(err)
				}
				if _, err := client.Put(c.context(), keys[0], "v", clientv3.WithLease(id)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					t.Errorf("a put with a lease that was revoked: %v", err)
				}
			})
			c.endLease(client, keys, 1, func(clientv3.LeaseID) {})
			c.endLease(client, keys, 60, func(id clientv3.LeaseID) {
				revoked := make(chan struct{})
				go func() {
					defer close(revoked)
					client.Revoke(c.context(), id) // it may not hear of the end
				}()
				c.kill(0)
				<-revoked
				c.until("the end", func() error {
					if _, err := client.Revoke(c.context(), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
						return fmt.Errorf("revoke again: %v", err)
					}
					return nil
				})
			})
		})
	}
}

// endLease puts keys with a lease, has it end, and looks at how they go.
func (c *shardCluster) endLease(client *clientv3.Client, keys []string, ttl int64, end func(clientv3.LeaseID)) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.context())
	defer cancel()
	var lease *clientv3.LeaseGrantResponse
	from := int64(0)
	c.until("keys with a lease", func() (err error) {
		if lease, err = client.Grant(ctx, ttl); err != nil {
			return err
		}
		for _, key := range keys {
			put, err := client.Put(ctx, key, "v", clientv3.WithLease(lease.ID))
			if err != nil {
				return err
			}
			from = put.Header.Revision
		}
		return nil
	})
	watched := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(from+1))
	end(lease.ID)
	for answer := range watched {
		if err := answer.Err(); err != nil {
			c.t.Fatal(err)
		}
		var gone []string
		for _, event := range answer.Events {
			if event.Type == clientv3.EventTypeDelete {
				gone = append(gone, string(event.Kv.Key))
			}
			if event.Kv.ModRevision != answer.Events[0].Kv.ModRevision {
				c.t.Errorf("events of revisions %d and %d in one answer", answer.Events[0].Kv.ModRevision, event.Kv.ModRevision)
			}
		}
		if len(gone) > 0 {
			if !slices.Equal(gone, keys) {
				c.t.Errorf("keys %q go with the lease, want %q", gone, keys)
			}
			c.expectGone(client, keys, answer.Events[0].Kv.ModRevision)
			return
		}
	}
	c.t.Errorf("the watch ended: %v", c.context().Err())
}

// TestLeaseOfALeaderlessShard: a lease ends whose keys are in a shard without a leader. Whoever asks about it is told in time which shard it waits for, and leases
// and keys of other shards are served.
func TestLeaseOfALeaderlessShard(t *testing.T) {
	t.Parallel()
	s, _ := startAlone(t, func(o *Options) { o.Cluster.Partition = splitAt("/h", "/p") })
	<-s.Ready()
	do := func(req *kv.Request, patience time.Duration) error {
		answer := make(chan error, 1)
		s.gateway.Submit(&gateway.Call{Req: req, Deadline: time.Now().Add(patience), Done: func(_ *kv.Response, err error) { answer <- err }})
		return <-answer
	}
	grant := func(id kv.LeaseID) *kv.Request {
		return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: 60}}
	}
	revoke := func(id kv.LeaseID) *kv.Request {
		return &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}}
	}
	put := func(key string, id kv.LeaseID) *kv.Request {
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Lease: id}}
	}
	for _, req := range []*kv.Request{grant(1), grant(2), put("/z", 1), put("/k", 2)} {
		if err := do(req, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	removed := make(chan error, 1)
	s.driver.Remove(3, func(err error) { removed <- err })
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	for _, req := range []*kv.Request{
		revoke(1), revoke(1),
		{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 1}},
		{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: 1}},
		put("/k2", 1),
	} {
		err := do(req, time.Second)
		for again := 0; again < 10 && errors.Is(err, kv.ErrTimeout); again++ { // the machine stood still in the moment before the deadline in which it is said
			err = do(req, time.Second)
		}
		if !errors.Is(err, kv.ErrLeaseWaits) || !strings.Contains(err.Error(), "lease 1 waits for shard ") {
			t.Errorf("request of kind %d about a lease that waits: %v", req.Kind, err)
		}
	}
	for _, req := range []*kv.Request{put("/k", 2), put("/a", 0), revoke(2)} {
		if err := do(req, 10*time.Second); err != nil {
			t.Errorf("request of kind %d for another shard: %v", req.Kind, err)
		}
	}
}
