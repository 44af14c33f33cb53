package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// TestAutoCompaction: all shards are compacted at what the revision was a while ago, and go on to be after the leader of the system shard has died.
func TestAutoCompaction(t *testing.T) {
	t.Parallel()
	for name, scheme := range map[string]partition.Scheme{"one": {}, "hash 4": {Kind: partition.Hash, Shards: 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, ClusterOptions{
				Partition: scheme, Leaders: LeadersSpread, AutoCompaction: autocompact.Policy{Mode: autocompact.Periodic, Period: 300 * time.Millisecond},
			})
			c.start(0, 1, 2)
			last := c.compacts()
			leader := c.indexOf(c.servers[0].leaderOf(kv.SystemShard))
			c.kill(leader)
			if again := c.compacts(); again <= last {
				t.Errorf("compacted up to %d, and then only to %d", last, again)
			}
		})
	}
}

// compacts writes until history is compacted behind a revision, on every node and in every shard, and returns it.
func (c *shardCluster) compacts() (first kv.Revision) {
	c.t.Helper()
	var running []int
	for i, s := range c.servers {
		if s != nil {
			running = append(running, i)
		}
	}
	client := c.client(running[0])
	c.put(client, "first", "x")
	read, err := again(c, func() (*clientv3.GetResponse, error) { return client.Get(c.context(), "first") })
	if err != nil {
		c.t.Fatal(err)
	}
	first = kv.Revision(read.Kvs[0].ModRevision)
	n := 0
	c.until("compaction", func() error {
		n++
		ctx, cancel := context.WithTimeout(c.context(), time.Second)
		defer cancel()
		_, _ = client.Put(ctx, fmt.Sprint("key", n%50), "x") // another one follows if it fails
		for _, i := range running {
			for _, r := range c.servers[i].replicas() {
				if r.Compacted() <= first {
					return fmt.Errorf("node %d, shard %d: compacted up to %d, not %d", i+1, r.Shard(), r.Compacted(), first)
				}
			}
		}
		return nil
	})
	if _, err := client.Get(c.context(), "first", clientv3.WithRev(int64(first))); !errors.Is(err, rpctypes.ErrCompacted) {
		c.t.Errorf("a read at a compacted revision: %v", err)
	}
	return first
}
