package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/storage/wal"
)

// hot lists what a backup of the running store has.
func (c *shardCluster) hot(node int) (list []string, leases []kv.Lease) {
	c.t.Helper()
	b, err := again(c, func() (b interface {
		Versions(func(*mvcc.Effect, int64) error) error
		Leases() []kv.Lease
		Close()
	}, err error) {
		return c.servers[node].gateway.OpenBackup(c.context(), "")
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer b.Close()
	err = b.Versions(func(e *mvcc.Effect, position int64) error {
		list = append(list, fmt.Sprintf("%d.%d %s=%s v%d c%d l%x", e.At.Rev, position, e.Key, e.Value, e.Version, e.Create, e.Lease))
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return list, b.Leases()
}

// cold lists what a backup of a data directory has.
func cold(t *testing.T, c *Cold) (list []string, leases []kv.Lease, b *backup.Backup) {
	t.Helper()
	v := backup.Open(memory.New(), backup.Options{Now: time.Now, Random: func() uint32 { return 1 }})
	b, err := v.Create(t.Context(), c, backup.CreateOptions{Cold: true, Notice: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	source, err := v.Source(t.Context(), []*backup.Backup{b}, b.Revision, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = source.Versions(t.Context(), func(v *backup.Version, position int64) error {
		list = append(list, fmt.Sprintf("%d.%d %s=%s v%d c%d l%x", v.ModRevision, position, v.Key, v.Value, v.Version, v.CreateRevision, v.Lease))
		return nil
	})
	err = errors.Join(err, source.Leases(t.Context(), func(l kv.Lease) error {
		leases = append(leases, l)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return list, leases, b
}

func openCold(t *testing.T, dir string) *Cold {
	t.Helper()
	c, err := OpenCold(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestColdBackup: what a directory of a stopped node gives is what the store had, if the node knows that there is nothing else. Otherwise it says up to where
// it is complete; and the node goes on afterwards.
func TestColdBackup(t *testing.T) {
	for _, protocol := range []Consensus{ConsensusRaft, ConsensusPaxos} {
		t.Run(string(protocol), func(t *testing.T) {
			c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 4}, Consensus: protocol})
			c.start(0, 1, 2)
			client := c.client(0)
			lease, err := again(c, func() (*clientv3.LeaseGrantResponse, error) { return client.Grant(c.context(), 500) })
			if err != nil {
				t.Fatal(err)
			}
			var everywhere, everything []string
			for _, keys := range c.keys() {
				everywhere, everything = append(everywhere, keys[0]), append(everything, keys...)
			}
			slices.Sort(everywhere)
			write := func(value string) int64 {
				t.Helper()
				var ops []clientv3.Op
				for _, key := range everywhere {
					ops = append(ops, clientv3.OpPut(key, value, clientv3.WithLease(lease.ID)))
				}
				done, err := again(c, func() (*clientv3.TxnResponse, error) { return client.Txn(c.context()).Then(ops...).Commit() })
				if err != nil {
					t.Fatal(err)
				}
				return done.Header.Revision
			}
			for i := range 10 {
				for _, key := range everything {
					c.put(client, key, fmt.Sprint(i))
				}
			}
			compacted := write("compacted here")
			if _, err := again(c, func() (*clientv3.CompactResponse, error) { return client.Compact(c.context(), compacted) }); err != nil {
				t.Fatal(err)
			}
			c.put(client, everything[3], "x")
			if _, err := again(c, func() (*clientv3.DeleteResponse, error) { return client.Delete(c.context(), everything[4]) }); err != nil {
				t.Fatal(err)
			}
			last := write("last")
			caughtUp := func() {
				t.Helper()
				for node := range c.servers {
					_, err := again(c, func() (*clientv3.HashKVResponse, error) {
						return c.client(node).HashKV(c.context(), c.options[node].Node.ListenClientURLs[0].HostPort(), last)
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			caughtUp()
			want, wantLeases := c.hot(1)
			dir := func(i int) string { return c.options[i].Node.DataDir }
			if _, err := OpenCold(dir(0)); !errors.Is(err, datadir.ErrInUse) {
				t.Errorf("of a node that runs: %v", err)
			}
			c.close(0, 1, 2)
			for i := range 3 {
				d := openCold(t, dir(i))
				complete, newest, why := d.Complete()
				if int64(complete) != last || complete != newest || why != "" {
					t.Fatalf("node %d is complete up to %d, of %d: %s; the last write was at %d; %d entries unknown", i+1, complete, newest, why, last, d.Unknown())
				}
				got, leases, b := cold(t, d)
				if !slices.Equal(got, want) || !slices.Equal(leases, wantLeases) {
					t.Fatalf("node %d has %v\n%q\nwant %v\n%q", i+1, leases, got, wantLeases, want)
				}
				if int64(b.HistoryFrom) != compacted || !b.Cold {
					t.Errorf("the history begins at %d, compacted at %d", b.HistoryFrom, compacted)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}

			// One shard goes on alone: the node does not know that nothing was written to the others.
			c.start(0, 1, 2)
			client = c.client(0)
			c.put(client, everywhere[0], "alone")
			c.close(0, 1, 2)
			d := openCold(t, dir(0))
			complete, newest, why := d.Complete()
			if int64(complete) != last || newest <= complete || !strings.Contains(why, fmt.Sprintf("is complete up to %d", last)) {
				t.Errorf("complete up to %d, of %d: %s", complete, newest, why)
			}
			if got, _, b := cold(t, d); !slices.Equal(got, want) || b.Revision != complete {
				t.Errorf("at revision %d it has %q", b.Revision, got)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestColdBackupOfOneNode: a node that is all of its cluster knows that a shard without writes has all there is; with one that is killed, too.
func TestColdBackupOfOneNode(t *testing.T) {
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 4}})
	c.options, c.servers = c.options[:1], append(c.servers[:1], nil, nil)
	c.options[0].Cluster.Members = c.options[0].Cluster.Members[:1]
	c.start(0)
	client := c.client(0)
	for i := range 50 {
		c.put(client, "a", fmt.Sprint(i))
	}
	want, _ := c.hot(0)
	c.kill(0)
	d := openCold(t, c.options[0].Node.DataDir)
	complete, newest, why := d.Complete()
	if complete != newest || complete < 51 || why != "" {
		t.Errorf("complete up to %d, of %d: %s", complete, newest, why)
	}
	if got, _, _ := cold(t, d); !slices.Equal(got, want) {
		t.Errorf("it has %q, want %q", got, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCold(filepath.Join(t.TempDir(), "none")); !errors.Is(err, datadir.ErrNoIdentity) {
		t.Errorf("of no directory: %v", err)
	}
}

// A log of Multi-Paxos has entries that a later leader proposed again, in a form of their own. They are read as what they are.
func TestColdReadsWhatWasProposedAgain(t *testing.T) {
	c := newShardCluster(t, ClusterOptions{Consensus: ConsensusPaxos})
	for i := range c.options {
		c.options[i].Cluster.Members = c.options[i].Cluster.Members[i : i+1]
	}
	c.start(0)
	c.put(c.client(0), "k", "v")
	c.kill(0)
	path := c.options[0].Node.DataDir
	log, err := wal.Open(wal.Options{Dir: filepath.Join(path, datadir.Log)})
	if err != nil {
		t.Fatal(err)
	}
	group := log.Group(consensus.GroupID(kv.SystemShard))
	// The barrier of a leadership that a later one had to propose once more.
	record := consensus.Entry{Index: group.Last() + 1, Term: group.HardState().Term + 1<<16, Kind: consensus.EntryBarrier | 1<<7}
	later := record.Term + 1<<16
	record.Data = binary.AppendUvarint(nil, uint64(later))
	err = log.Write([]storage.GroupAppend{{Group: consensus.GroupID(kv.SystemShard), Entries: []consensus.Entry{record},
		HardState: &consensus.HardState{Term: later, Commit: record.Index}}}, nil)
	if err = errors.Join(err, log.Sync(), log.Close()); err != nil {
		t.Fatal(err)
	}
	cold, err := OpenCold(path)
	if err != nil {
		t.Fatal(err)
	}
	if complete, _, _ := cold.Complete(); complete != 2 {
		t.Errorf("it is complete up to revision %d", complete)
	}
	if err := cold.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRescue(path)
	if err != nil {
		t.Fatal(err)
	}
	if report := r.Report(); report.Revision != 2 || !report.Alone {
		t.Errorf("the report: %+v", report)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	// What cannot be read is said.
	if err := os.RemoveAll(filepath.Join(path, datadir.State)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCold(path); err == nil || !strings.Contains(err.Error(), "take another node") {
		t.Errorf("a directory without state: %v", err)
	}
	if _, err := OpenRescue(path); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("a directory without state: %v", err)
	}
}
