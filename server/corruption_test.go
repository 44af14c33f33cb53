package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/lsm"
)

// damage changes a value in the state of a node that does not run. What the disk holds is well formed, so nothing but a comparison finds it.
func (c *shardCluster) damage(node int, key string) kv.ShardID {
	c.t.Helper()
	engine, err := lsm.Open(lsm.Options{Dir: filepath.Join(c.options[node].Node.DataDir, datadir.State)})
	if err != nil {
		c.t.Fatal(err)
	}
	shard := c.table.Overlapping(kv.Span{Start: []byte(key)})[0].Shard
	at := keys.AppendRow(nil, keys.Of(shard), keys.Value, []byte(key))
	row, found, err := engine.Get(at, nil)
	if err != nil || !found {
		c.t.Fatalf("the value of %s: found %v, %v", key, found, err)
	}
	row = slices.Clone(row)
	row[len(row)-1] ^= 4
	batch := engine.NewBatch()
	batch.Set(at, row)
	applied, flushed := engine.Apply(batch), make(chan error, 1)
	engine.Flush(func(err error) { flushed <- err })
	if err := errors.Join(applied, <-flushed, engine.Close()); err != nil {
		c.t.Fatal(err)
	}
	return shard
}

// stops waits until a node ends by itself, and returns why.
func (c *shardCluster) stops(node int) string {
	c.t.Helper()
	select {
	case err := <-c.servers[node].Err():
		c.close(node)
		return err.Error()
	case <-time.After(soon):
		c.t.Fatalf("node %d goes on", node+1)
		return ""
	}
}

// TestCorruptNode: a value differs at one node. That node is named, and stops, whenever it is started, until it gets the data from the others.
func TestCorruptNode(t *testing.T) {
	t.Parallel()
	for name, scheme := range map[string]partition.Scheme{"one": {}, "hash 3": {Kind: partition.Hash, Shards: 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, ClusterOptions{Partition: scheme})
			for i := range c.options {
				c.options[i].Node.CorruptCheckInterval = 100 * time.Millisecond
			}
			c.start(0, 1, 2)
			client := c.client(0)
			for i := range 40 {
				c.put(client, fmt.Sprint("key", i), "value")
			}
			c.close(2)
			shard := c.damage(2, "key17")

			c.options[2].Node.InitialCorruptCheck = true
			c.launch(2)
			if why := c.stops(2); !strings.Contains(why, "--initial-corrupt-check") || !strings.Contains(why, "wrong: n3") {
				t.Errorf("the check at the start says %q", why)
			}
			c.options[2].Node.InitialCorruptCheck = false
			c.launch(2)
			if why, want := c.stops(2), fmt.Sprintf("shard %d at revision", shard); !strings.Contains(why, want) {
				t.Errorf("the node stops with %q, want %q", why, want)
			}
			alarms, err := again(c, func() (*clientv3.AlarmResponse, error) { return client.AlarmList(c.context()) })
			if err != nil {
				t.Fatal(err)
			}
			if len(alarms.Alarms) != 1 || alarms.Alarms[0].Alarm != etcdserverpb.AlarmType_CORRUPT || kv.NodeID(alarms.Alarms[0].MemberID) != c.options[2].NodeID() {
				t.Errorf("alarms: %v", alarms.Alarms)
			}
			if _, err := again(c, func() (*clientv3.PutResponse, error) { return client.Put(c.context(), "a", "b") }); !errors.Is(err, rpctypes.ErrCorrupt) {
				t.Errorf("a put under the alarm: %v", err)
			}
			c.launch(2)
			c.stops(2)

			// Its data goes; then it is a node like any other, whether the alarm is cleared before or after.
			if err := os.RemoveAll(c.options[2].Node.DataDir); err != nil {
				t.Fatal(err)
			}
			c.options[2].Node.InitialClusterState = ClusterExisting
			c.start(2)
			if _, err := again(c, func() (*clientv3.AlarmResponse, error) {
				return client.AlarmDisarm(c.context(), &clientv3.AlarmMember{})
			}); err != nil {
				t.Fatal(err)
			}
			c.put(client, "a", "b")
			c.comparesWholly()
			if alarms := c.servers[0].shard.Alarms(); len(alarms) > 0 {
				t.Errorf("the alarm is back: %v", alarms)
			}
		})
	}
}

// launch starts a node that may never be ready.
func (c *shardCluster) launch(node int) {
	c.t.Helper()
	s, err := Start(c.t.Context(), c.options[node])
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers[node] = s
}

// comparesWholly waits until all shards of all nodes were compared twice more.
func (c *shardCluster) comparesWholly() {
	c.t.Helper()
	whole := func() (n int64) {
		for _, s := range c.servers {
			m := s.comparisons.metrics()
			n += m.Checks - m.Incomplete
		}
		return n
	}
	before := whole()
	c.until("comparisons", func() error {
		if n := whole(); n < before+3 { // one that is under way is counted as whole before it is
			return fmt.Errorf("%d comparisons", n-before)
		}
		return nil
	})
}

// TestNoCorruptionUnderLoad: nodes that are well never differ, whatever is written, compacted and expires meanwhile, and whoever leads.
func TestNoCorruptionUnderLoad(t *testing.T) {
	t.Parallel()
	c := newShardCluster(t, ClusterOptions{
		Partition: partition.Scheme{Kind: partition.Hash, Shards: 4}, Leaders: LeadersSpread,
		AutoCompaction: autocompact.Policy{Mode: autocompact.Periodic, Period: 50 * time.Millisecond},
	})
	for i := range c.options {
		c.options[i].Node.CorruptCheckInterval = 10 * time.Millisecond
		c.options[i].Node.InitialCorruptCheck = true
	}
	c.start(0, 1, 2)
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for node := range c.servers {
		client := c.client(node)
		for range 2 {
			wait.Go(func() { load(ctx, client, node) })
		}
	}
	c.comparesWholly()
	c.close(1)
	c.start(1)
	c.comparesWholly()
	leader := c.indexOf(c.servers[0].leaderOf(kv.SystemShard))
	c.kill(leader)
	c.start(leader)
	c.comparesWholly()
	stop()
	wait.Wait()
	for i, s := range c.servers {
		if found := s.comparisons.metrics().Differences; found > 0 || len(s.shard.Alarms()) > 0 {
			t.Errorf("node %d: %d differences, alarms %v", i+1, found, s.shard.Alarms())
		}
		if s.shard.Compacted() == 0 {
			t.Errorf("node %d: nothing was compacted", i+1)
		}
	}
}

// load does some of everything. What fails is of no interest.
func load(ctx context.Context, client *clientv3.Client, seed int) {
	for i := seed; ctx.Err() == nil; i += 7 {
		short, cancel := context.WithTimeout(ctx, time.Second)
		key, other := fmt.Sprint("key", i%97), fmt.Sprint("key", (i*31)%97)
		switch i % 5 {
		case 0:
			_, _ = client.Txn(short).Then(clientv3.OpPut(key, "t"), clientv3.OpPut("x"+other, strings.Repeat("t", i%4000))).Commit()
		case 1:
			if lease, err := client.Grant(short, 2); err == nil {
				_, _ = client.Put(short, key, "l", clientv3.WithLease(lease.ID))
				_, _ = client.Put(short, other, "l", clientv3.WithLease(lease.ID))
				if i%2 == 0 {
					_, _ = client.Revoke(short, lease.ID)
				}
			}
		case 2:
			_, _ = client.Delete(short, key, clientv3.WithRange(key+"5"))
		default:
			_, _ = client.Put(short, key, fmt.Sprint(i))
		}
		cancel()
	}
}
