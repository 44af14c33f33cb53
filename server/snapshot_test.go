package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// save takes a snapshot as clients do.
func save(ctx context.Context, client *clientv3.Client) ([]byte, error) {
	stream, err := client.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

// mustSave writes one into a file, and also returns it open.
func (c *shardCluster) mustSave(client *clientv3.Client) (path string, r *etcdsnap.Reader) {
	c.t.Helper()
	content, err := again(c, func() ([]byte, error) { return save(c.context(), client) })
	path = filepath.Join(c.t.TempDir(), "snapshot")
	if err = errors.Join(err, os.WriteFile(path, content, 0o600)); err == nil {
		r, err = etcdsnap.Open(bytes.NewReader(content), int64(len(content)), false)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return path, r
}

// restore makes data directories of nodes that were not started yet. All nodes get the token.
func (c *shardCluster) restore(path string, nodes ...int) (r Restored) {
	c.t.Helper()
	var tokens []string
	for _, i := range nodes {
		o := c.options[i]
		o.Cluster.Token = DefaultToken
		var err error
		if r, err = Restore(c.t.Context(), o.WithDefaults(), RestoreOptions{Snapshot: path}); err != nil {
			c.t.Fatal(err)
		}
		tokens = append(tokens, r.Token)
	}
	if len(slices.Compact(tokens)) != 1 {
		c.t.Fatalf("nodes restored in one way have tokens %q", tokens)
	}
	for i := range c.options {
		c.options[i].Cluster.Token = r.Token
	}
	return r
}

// dump is what clients can learn of the keys below a prefix: the state at each revision, and the keys of a lease.
func (c *shardCluster) dump(client *clientv3.Client, upTo int64, lease clientv3.LeaseID) (list []string) {
	c.t.Helper()
	for rev := int64(2); rev <= upTo; rev++ {
		found, err := again(c, func() (*clientv3.GetResponse, error) {
			return client.Get(c.context(), "/", clientv3.WithPrefix(), clientv3.WithRev(rev))
		})
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, fmt.Sprint(rev, found.Kvs))
	}
	lives, err := again(c, func() (*clientv3.LeaseTimeToLiveResponse, error) {
		return client.TimeToLive(c.context(), lease, clientv3.WithAttachedKeys())
	})
	if err != nil || lives.TTL < 400 {
		c.t.Errorf("%+v, %v", lives, err)
	}
	slices.SortFunc(lives.Keys, bytes.Compare)
	return append(list, fmt.Sprintf("%d s: %q", lives.GrantedTTL, lives.Keys))
}

// TestSnapshotAndRestore: a store of eight shards goes into one file, and out of it into other shards, on nodes of which one has lost its directory. Clients
// find the same, every node has the same hash, and a lease that has keys in all shards ends at one revision.
func TestSnapshotAndRestore(t *testing.T) {
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}, Leaders: LeadersSpread})
	c.start(0, 1, 2)
	client := c.client(1)
	lease, err := again(c, func() (*clientv3.LeaseGrantResponse, error) { return client.Grant(c.context(), 500) })
	if err != nil {
		t.Fatal(err)
	}
	var leased, all []string
	for _, keys := range c.keys() {
		leased, all = append(leased, keys[0]), append(all, keys...)
	}
	slices.Sort(leased)
	revision := int64(0)
	write := func(ops ...clientv3.Op) {
		t.Helper()
		done, err := again(c, func() (*clientv3.TxnResponse, error) { return client.Txn(c.context()).Then(ops...).Commit() })
		if err != nil {
			t.Fatal(err)
		}
		revision = done.Header.Revision
	}
	for i, key := range all[:len(all)-1] {
		write(clientv3.OpPut(key, fmt.Sprint("first", i)), clientv3.OpPut(all[len(all)-1], key), clientv3.OpDelete(all[(i+7)%(len(all)-1)]))
	}
	c.refusesSecondSnapshot(client, all[len(all)-1])
	for _, key := range leased {
		write(clientv3.OpPut(key, "leased", clientv3.WithLease(lease.ID)))
	}
	path, file := c.mustSave(client)
	want := c.dump(client, revision, lease.ID)
	if file.Compacted != 0 {
		t.Errorf("compacted at %d", file.Compacted)
	}
	c.close(0, 1, 2)

	var hashes []uint32
	for name, o := range map[string]struct {
		cluster ClusterOptions
		nodes   []int
	}{
		"8 shards by hash, an empty node": {ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}}, []int{0, 1}},
		"3 shards by range, Multi-Paxos":  {ClusterOptions{Partition: splitAt("/f", "/m"), Consensus: ConsensusPaxos, CommitProtocol: Commit3PC}, []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newShardCluster(t, o.cluster)
			if r := c.restore(path, o.nodes...); int64(r.Revision) < revision || r.Leases != 1 || len(r.Notes) != 0 {
				t.Errorf("%+v, want revision %d and a lease", r, revision)
			}
			c.start(0, 1, 2)
			client := c.client(2)
			if got := c.dump(client, revision, lease.ID); !slices.Equal(got, want) {
				t.Errorf("there is\n%.3000q\nwant\n%.3000q", got, want)
			}
			for node := range c.servers {
				hash, err := again(c, func() (*clientv3.HashKVResponse, error) {
					return c.client(node).HashKV(c.context(), c.options[node].Node.ListenClientURLs[0].HostPort(), revision)
				})
				if err != nil {
					t.Fatal(err)
				}
				hashes = append(hashes, hash.Hash)
			}
			gone, err := client.Revoke(c.context(), lease.ID)
			if err != nil {
				t.Fatal(err)
			}
			c.expectGone(client, leased, gone.Header.Revision)
			watch := <-client.Watch(c.context(), "/", clientv3.WithPrefix(), clientv3.WithRev(revision+1))
			if len(watch.Events) != len(leased) || watch.Events[0].Kv.ModRevision != watch.Events[len(leased)-1].Kv.ModRevision {
				t.Errorf("the first that is new: %+v", watch.Events)
			}
			c.close(0)
			c.start(0) // from its own directory
			c.expectGone(c.client(0), leased, gone.Header.Revision)
		})
	}
	if len(hashes) != 6 || len(slices.Compact(hashes)) != 1 {
		t.Errorf("nodes have the hashes %x", hashes)
	}
}

// refusesSecondSnapshot: while one is sent to a client that does not read, there is no second one. When the client goes, so does the file, and the next one is
// made.
func (c *shardCluster) refusesSecondSnapshot(client *clientv3.Client, key string) {
	c.t.Helper()
	for i := range 4 { // more than is sent to who does not read
		c.put(client, key, fmt.Sprintf("%d%0500000d", i, 0))
	}
	ctx, cancel := context.WithCancel(c.context())
	defer cancel()
	_, err := again(c, func() (int, error) {
		stream, err := client.Snapshot(ctx)
		if err != nil {
			return 0, err
		}
		return io.ReadFull(stream, make([]byte, 1000))
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := save(c.context(), client); status.Code(err) != codes.ResourceExhausted {
		c.t.Errorf("a second one: %v", err)
	}
	if m := c.servers[1].snapshots.metrics(); m.UnderWay != 1 || m.Sent != 0 || m.Failed != 1 {
		c.t.Errorf("while it is sent: %+v", m)
	}
	cancel()
	c.until("the next one", func() error {
		_, err := save(c.context(), client)
		return err
	})
	if m := c.servers[1].snapshots.metrics(); m.UnderWay != 0 || m.Sent != 1 || m.Failed < 2 || m.SentBytes < 2_000_000 {
		c.t.Errorf("afterwards: %+v", m)
	}
	left, err := os.ReadDir(filepath.Join(c.options[1].Node.DataDir, datadir.Staging))
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == snapshotFile }) {
		c.t.Errorf("what is left of snapshots: %v, %v", left, err)
	}
	c.put(client, key, "small")
}

// checkSnapshots takes snapshots until ctx is done. At each revision of each there is as much money as at first.
func (b *bank) checkSnapshots(ctx context.Context, client *clientv3.Client) {
	taken, deadline := 0, time.Now().Add(soon)
	for ctx.Err() == nil || taken == 0 && time.Now().Before(deadline) {
		content, err := save(b.t.Context(), client)
		if err != nil {
			continue // a leader is lost
		}
		taken++
		r, err := etcdsnap.Open(bytes.NewReader(content), int64(len(content)), false)
		if err != nil {
			b.t.Error(err)
			return
		}
		balances, at, sum := map[string]int{}, kv.Revision(0), 0
		full := len(b.accounts) * startMoney
		_, err = r.Versions(func(v *etcdsnap.Version) error {
			if v.ModRevision != at && len(balances) == len(b.accounts) && sum != full {
				return fmt.Errorf("at revision %d there are %d, not %d", at, sum, full)
			}
			at = v.ModRevision
			key := string(v.Key)
			if !slices.Contains(b.accounts, key) {
				return nil
			}
			money := 0
			_, err := fmt.Sscan(string(v.Value), &money)
			sum += money - balances[key]
			balances[key] = money
			return err
		})
		if err != nil || sum != full {
			b.t.Errorf("a snapshot has %d of %d at its end, %d: %v", sum, full, at, err)
			return
		}
	}
	if taken == 0 {
		b.t.Error("no snapshot was taken")
	}
}
