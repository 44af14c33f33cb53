package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// TestOneRevision: writes to all shards through all nodes have revisions in a row; a watch over everything gets them in their order, and a list is of one
// moment. When a node is lost there may be a gap, and nothing else changes.
func TestOneRevision(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]ClusterOptions{
		"range": {Partition: splitAt("/c", "/f", "/h", "/k", "/m", "/p", "/s"), Consensus: ConsensusPaxos},
		"hash":  {Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}, Leaders: LeadersSpread},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, cluster)
			c.start(0, 1, 2)
			keys := flattened(c.keys())
			clients := []*clientv3.Client{c.client(0), c.client(1), c.client(2)}
			events := clients[1].Watch(c.context(), "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			if created := <-events; created.Err() != nil {
				t.Fatal(created.Err())
			}
			c.until("placed", c.placed)
			terms := c.terms()
			first := c.putAll(clients, keys)
			for i, at := range first {
				if at != first[0]+int64(i) && slices.Equal(c.terms(), terms) {
					t.Fatalf("no leader was lost, and revisions are %v", first)
				}
			}
			c.listAll(clients[2], keys, first[len(first)-1])
			follow(t, events, keys, first)
			c.hashAll(clients, first)

			var leader int
			c.until("all nodes agree on the leaders", func() error {
				leaders, err := c.leaders()
				leader = c.indexOf(leaders[kv.SystemShard])
				return err
			})
			c.kill(leader)
			clients = slices.Delete(clients, leader, leader+1)
			survivor := clients[0]
			events = survivor.Watch(c.context(), "", clientv3.WithPrefix(), clientv3.WithRev(first[len(first)-1]+1))
			second := c.putAll(clients, keys)
			if !slices.IsSorted(second) || second[0] <= first[len(first)-1] {
				t.Fatalf("revisions after the loss of a node: %v", second)
			}
			c.listAll(survivor, keys, second[len(second)-1])
			follow(t, events, keys, second)
			c.alarm(clients, keys)
		})
	}
}

func flattened(keys map[kv.ShardID][]string) (all []string) {
	for i := range 3 {
		for shard := kv.SystemShard; int(shard) <= len(keys); shard++ { // from one shard to the next
			all = append(all, keys[shard][i])
		}
	}
	return all
}

// terms are those of the shards, as the first node knows them.
func (c *shardCluster) terms() (terms []uint64) {
	for _, shard := range (localNode{c.servers[0]}).Shards().Shards {
		terms = append(terms, shard.Term)
	}
	return terms
}

// putAll puts the keys one after the other, each through another node.
func (c *shardCluster) putAll(clients []*clientv3.Client, keys []string) (revisions []int64) {
	c.t.Helper()
	for i, key := range keys {
		c.until("put "+key, func() error {
			put, err := clients[i%len(clients)].Put(c.context(), key, fmt.Sprint(i))
			if err == nil {
				revisions = append(revisions, put.Header.Revision)
			}
			return err
		})
	}
	return revisions
}

// listAll reads everything at once, in pages, and in a transaction.
func (c *shardCluster) listAll(client *clientv3.Client, keys []string, atLeast int64) {
	c.t.Helper()
	sorted := slices.Sorted(slices.Values(keys))
	check := func(what string, revision, count int64, got []string) {
		c.t.Helper()
		if revision < atLeast || count != int64(len(sorted)) || !slices.Equal(got, sorted) {
			c.t.Errorf("%s: revision %d, at least %d; count %d; %q", what, revision, atLeast, count, got)
		}
	}
	all, err := client.Get(c.context(), "", clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	check("a list", all.Header.Revision, all.Count, keysOf(all))
	var pages []string
	for from := "\x00"; ; {
		page, err := client.Get(c.context(), from, clientv3.WithFromKey(), clientv3.WithLimit(5), clientv3.WithRev(all.Header.Revision))
		if err != nil {
			c.t.Fatal(err)
		}
		pages = append(pages, keysOf(page)...)
		if !page.More {
			break
		}
		from = pages[len(pages)-1] + "\x00"
	}
	check("pages", all.Header.Revision, all.Count, pages)
	txn, err := client.Txn(c.context()).If(clientv3.Compare(clientv3.Version(sorted[0]), ">", 0), clientv3.Compare(clientv3.Version(sorted[len(sorted)-1]), ">", 0)).
		Then(clientv3.OpGet("", clientv3.WithPrefix(), clientv3.WithKeysOnly())).Commit()
	if err != nil || !txn.Succeeded {
		c.t.Fatalf("a transaction that reads all shards: %+v, %v", txn, err)
	}
	got := (*clientv3.GetResponse)(txn.Responses[0].GetResponseRange())
	check("a transaction", txn.Header.Revision, got.Count, keysOf(got))
}

// hashAll compares the hashes of all nodes at some of the revisions, which are different ones.
func (c *shardCluster) hashAll(clients []*clientv3.Client, revisions []int64) {
	c.t.Helper()
	seen := map[uint32]bool{}
	for _, at := range []int64{revisions[0], revisions[len(revisions)/2], revisions[len(revisions)-1]} {
		var one *clientv3.HashKVResponse
		for _, client := range clients {
			hash, err := client.HashKV(c.context(), client.Endpoints()[0], at)
			if err != nil {
				c.t.Fatalf("the hash at %d: %v", at, err)
			}
			if one != nil && hash.Hash != one.Hash || hash.HashRevision != at || hash.Header.Revision < at {
				c.t.Errorf("hashes at %d: %+v and %+v", at, one, hash)
			}
			one = hash
		}
		seen[one.Hash] = true
		if newest, err := clients[0].HashKV(c.context(), clients[0].Endpoints()[0], 0); err != nil || at == newest.HashRevision && newest.Hash != one.Hash {
			c.t.Errorf("the newest hash %+v, %v; at %d it is %x", newest, err, at, one.Hash)
		}
	}
	if len(seen) != 3 {
		c.t.Errorf("%d different hashes at 3 revisions", len(seen))
	}
}

// alarm raises an alarm, and clears it: what comes after the answer goes by it in all shards, whoever is asked, and at once.
func (c *shardCluster) alarm(clients []*clientv3.Client, keys []string) {
	c.t.Helper()
	full := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(c.options[2].NodeID()), Alarm: etcdserverpb.AlarmType_NOSPACE}
	for _, raised := range []bool{true, false, true, false} {
		full.Action = etcdserverpb.AlarmRequest_DEACTIVATE
		if raised {
			full.Action = etcdserverpb.AlarmRequest_ACTIVATE
		}
		if _, err := etcdserverpb.NewMaintenanceClient(clients[1].ActiveConnection()).Alarm(c.context(), full); err != nil {
			c.t.Fatal(err)
		}
		for i, key := range keys {
			client := clients[i%len(clients)]
			_, err := again(c, func() (*clientv3.PutResponse, error) { return client.Put(c.context(), key, "full") })
			if refused := errors.Is(err, rpctypes.ErrNoSpace); refused != raised || err != nil && !refused {
				c.t.Fatalf("alarm raised: %v; put %s: %v", raised, key, err)
			}
			if _, err := again(c, func() (*clientv3.DeleteResponse, error) { return client.Delete(c.context(), key+"?") }); err != nil {
				c.t.Fatalf("alarm raised: %v; a deletion: %v", raised, err)
			}
		}
	}
}

// again tries something again that met a change of leader: leaders are being placed, or one was lost because the machine has much else to do.
func again[R any](c *shardCluster, try func() (R, error)) (answer R, err error) {
	c.t.Helper()
	c.until("an answer", func() error {
		answer, err = try()
		if known := (rpctypes.EtcdError{}); errors.As(err, &known) && known.Code() == codes.Unavailable || status.Code(err) == codes.Unavailable {
			return err
		}
		return nil
	})
	return answer, err
}

func keysOf(r *clientv3.GetResponse) (keys []string) {
	for _, e := range r.Kvs {
		keys = append(keys, string(e.Key))
	}
	return keys
}

// follow reads from a watch what was put.
func follow(t *testing.T, events clientv3.WatchChan, keys []string, revisions []int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for i := 0; i < len(keys); {
		select {
		case <-ctx.Done():
			t.Fatalf("only %d of %d events came", i, len(keys))
		case r := <-events:
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Events {
				if string(e.Kv.Key) != keys[i] || e.Kv.ModRevision != revisions[i] {
					t.Fatalf("event %d: %s at %d, want %s at %d", i, e.Kv.Key, e.Kv.ModRevision, keys[i], revisions[i])
				}
				i++
			}
		}
	}
}
