package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// pairs are two keys each, mostly in different shards. A transaction gives both the same value.
const pairs = 16

// shardedCluster has eight shards, whose leaders are spread, and a protocol of its own. The test runs beside others: most of its time it waits, for elections and starts.
func shardedCluster(t *testing.T, commit string) *cluster.Cluster {
	t.Helper()
	skipShort(t)
	if cluster.IsEtcd() || cluster.ManyShards() {
		t.Skip("has shards of its own")
	}
	t.Parallel()
	return cluster.Start(t, cluster.Options{Flags: []string{
		"--initial-shards=8", "--initial-partition=hash", "--leaders=spread", "--commit-protocol=" + commit}})
}

func left(pair int) string  { return fmt.Sprint("pair/left/", pair) }
func right(pair int) string { return fmt.Sprint("pair/right/", pair) }

func writePair(ctx context.Context, c *clientv3.Client, pair int, value string) error {
	_, err := c.Txn(ctx).Then(clientv3.OpPut(left(pair), value), clientv3.OpPut(right(pair), value)).Commit()
	return err
}

// wantWhole reads all pairs at one revision.
func wantWhole(t *testing.T, c *clientv3.Client) {
	t.Helper()
	values := map[string]string{}
	eventually(t, "read all pairs", func(ctx context.Context) error {
		all, err := c.Get(ctx, "pair/", clientv3.WithPrefix())
		if err == nil {
			for _, e := range all.Kvs {
				values[string(e.Key)] = fmt.Sprintf("%s at %d", e.Value, e.ModRevision)
			}
		}
		return err
	})
	for i := range pairs {
		equal(t, right(i), values[right(i)], values[left(i)])
	}
}

// wantDecided asks the program until no transaction is undecided.
func wantDecided(t *testing.T, cl *cluster.Cluster) {
	t.Helper()
	program := try(cluster.Program())(t)
	eventually(t, "no undecided transactions", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, program, "transactions", "--output", "json", "--endpoints", strings.Join(cl.Endpoints(), ",")).CombinedOutput()
		if err == nil && !strings.Contains(string(out), `"transactions":[]`) {
			err = errors.New("some are")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// write writes pairs at some nodes until it is told to stop, and returns how many writes were acknowledged.
func write(t *testing.T, at []*cluster.Node) (stop func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	done := atomic.Int64{}
	var all sync.WaitGroup
	for i := range 8 {
		c := at[i%len(at)].Client(t)
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				patience, end := context.WithTimeout(ctx, 2*time.Second)
				if writePair(patience, c, rand.IntN(pairs), fmt.Sprintf("%d-%d", i, n)) == nil {
					done.Add(1)
				}
				end()
				select { // other tests run beside this one
				case <-ctx.Done():
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	return func() int64 {
		cancel()
		all.Wait()
		return done.Load()
	}
}

// TestTransactionsWithoutTheirCoordinator: whatever moment the leader of an anchor ends, or stands still, its transactions are decided by others, wholly or not at
// all, and all keys are written again.
func TestTransactionsWithoutTheirCoordinator(t *testing.T) {
	t.Parallel()
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			cl := shardedCluster(t, commit)
			for round := range 6 {
				victim := cl.Nodes[round%3]
				others := []*cluster.Node{cl.Nodes[(round+1)%3], cl.Nodes[(round+2)%3]}
				stop := write(t, cl.Nodes)
				eventually(t, "writes go on", func(ctx context.Context) error { return writePair(ctx, victim.Client(t), round, "before") })
				if round%2 == 0 {
					must(t, victim.Kill())
				} else {
					must(t, victim.Pause())
				}
				began, c := time.Now(), others[0].Client(t)
				for pair := range pairs {
					eventually(t, "every pair is written without the node", func(ctx context.Context) error { return writePair(ctx, c, pair, "without") })
				}
				t.Logf("all pairs were written %v after %s of %s", time.Since(began).Round(time.Millisecond), []string{"the end", "a pause"}[round%2], victim.Name)
				if round%2 == 0 {
					must(t, victim.Start())
				} else {
					must(t, victim.Resume())
				}
				must(t, cl.WaitReady())
				if written := stop(); written == 0 {
					t.Error("nothing was written")
				}
				wantDecided(t, cl)
				wantWhole(t, c)
			}
		})
	}
}

// TestTransactionsOfClientsThatGo: a client that goes away leaves nothing half done, and nothing undecided.
func TestTransactionsOfClientsThatGo(t *testing.T) {
	t.Parallel()
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			cl := shardedCluster(t, commit)
			c := cl.Client(t)
			ended := 0
			for n := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20_000))*time.Microsecond)
				if writePair(ctx, c, n%pairs, fmt.Sprint(n)) != nil {
					ended++
				}
				cancel()
			}
			t.Logf("%d of 200 clients went away", ended)
			wantDecided(t, cl)
			wantWhole(t, c)
			for pair := range pairs {
				must(t, writePair(within(t), c, pair, "at last"))
			}
		})
	}
}

// TestTransactionsWithoutQuorum: without a majority a transaction ends with an error within its deadline. When the others are back, it has happened wholly or not
// at all, and its keys are free.
func TestTransactionsWithoutQuorum(t *testing.T) {
	t.Parallel()
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			cl := shardedCluster(t, commit)
			survivor := cl.Nodes[0].Client(t)
			for pair := range pairs {
				must(t, writePair(within(t), survivor, pair, "before"))
			}
			stop := write(t, cl.Nodes)
			eventually(t, "writes go on", func(ctx context.Context) error { return writePair(ctx, survivor, 0, "busy") })
			must(t, cl.Nodes[1].Kill())
			must(t, cl.Nodes[2].Kill())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := writePair(ctx, survivor, 1, "alone")
			cancel()
			if err == nil {
				t.Error("a transaction was acknowledged by one of three nodes")
			}
			t.Logf("alone: %v", err)
			stop()
			must(t, cl.Nodes[1].Start())
			must(t, cl.Nodes[2].Start())
			must(t, cl.WaitReady())
			wantDecided(t, cl)
			wantWhole(t, survivor)
			for pair := range pairs {
				eventually(t, "all pairs are written again", func(ctx context.Context) error { return writePair(ctx, survivor, pair, "after") })
			}
		})
	}
}

// TestLeaseOverShards: the keys of a lease, in all shards, go at one revision, and a watch gets them in one answer: when a client revokes it, and when the node
// that leads the shard with its record is killed in the midst of that.
func TestLeaseOverShards(t *testing.T) {
	t.Parallel()
	const keys = 64
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			cl := shardedCluster(t, commit)
			for round, kill := range []bool{false, true, true} {
				leader := try(cl.Leader())(t)
				others := slices.DeleteFunc(slices.Clone(cl.Nodes), func(n *cluster.Node) bool { return n == leader })
				c, prefix := others[0].Client(t), fmt.Sprintf("lease/%d/", round)
				lease := try(c.Grant(within(t), 60))(t)
				for i := range keys {
					eventually(t, "put with a lease", func(ctx context.Context) error {
						_, err := c.Put(ctx, fmt.Sprint(prefix, i), "v", clientv3.WithLease(lease.ID))
						return err
					})
				}
				equal(t, "keys of the lease", len(try(c.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys()))(t).Keys), keys)
				watch := others[1].Client(t).Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
				<-watch
				if kill {
					revoked, first := make(chan struct{}), leader.Client(t)
					go func() {
						defer close(revoked)
						ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
						defer cancel()
						first.Revoke(ctx, lease.ID) // it may not hear of the end
					}()
					for range rand.IntN(4) { // some moment of the end
						try(c.Get(within(t), prefix))(t)
					}
					must(t, leader.Kill())
					revokeAnyhow(t, c, lease.ID)
					defer func() { <-revoked }()
				} else {
					try(c.Revoke(within(t), lease.ID))(t)
				}
				response := <-watch
				equal(t, "deletions in one answer", len(response.Events), keys)
				for _, e := range response.Events {
					equal(t, "revision of "+string(e.Kv.Key), e.Kv.ModRevision, response.Events[0].Kv.ModRevision)
				}
				equal(t, "keys that are left", try(c.Get(within(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count, 0)
				equal(t, "TTL", try(c.TimeToLive(within(t), lease.ID))(t).TTL, -1)
				if kill {
					must(t, leader.Start())
					must(t, cl.WaitReady())
				}
				wantDecided(t, cl)
			}
		})
	}
}

// revokeAnyhow revokes a lease that may be revoked.
func revokeAnyhow(t *testing.T, c *clientv3.Client, id clientv3.LeaseID) {
	t.Helper()
	eventually(t, "revoke, if it is not", func(ctx context.Context) error {
		if _, err := c.Revoke(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		return nil
	})
}

// leaseKeys: the default makes the share of each shard several times too long for a round (shard.Options.MaxKeysPerExpiry), as more keys do.
var leaseKeys = flag.Int("lease.keys", 20_000, "how many keys the large lease has, at least 12,350: .ci/run long takes 100,000")

// ended is when a request was answered, and how long that took.
type ended struct {
	at   time.Time
	took time.Duration
}

// TestLargeLeaseOverShards: a lease with very many keys in 16 shards is revoked, at one revision, and others write meanwhile.
func TestLargeLeaseOverShards(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() || cluster.ManyShards() {
		t.Skip("has shards of its own")
	}
	const together = 100
	keys := *leaseKeys
	cl := cluster.Start(t, cluster.Options{Flags: []string{"--initial-shards=16", "--initial-partition=hash", "--leaders=spread"}})
	c := cl.Nodes[0].Client(t)
	lease := try(c.Grant(within(t), 600))(t)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker * together; i < keys; i += 8 * together {
				var puts []clientv3.Op
				for k := range together {
					puts = append(puts, clientv3.OpPut(fmt.Sprint("large/", i+k), "v", clientv3.WithLease(lease.ID)))
				}
				ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
				err := cluster.Wait(ctx, func() error {
					_, err := c.Txn(ctx).Then(puts...).Commit()
					return err
				})
				if cancel(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	equal(t, "keys", try(c.Get(within(t), "large/", clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count, int64(keys))
	watch := cl.Nodes[1].Client(t).Watch(within(t), "large/1234", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	<-watch
	stop, puts, ctx := write(t, cl.Nodes), atomic.Int64{}, t.Context()
	ctx, cancel := context.WithCancel(ctx)
	var took [4][]ended
	for worker := range took {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				if _, err := c.Put(ctx, fmt.Sprint("other/", worker, "/", n%100), "v"); err == nil {
					puts.Add(1)
					took[worker] = append(took[worker], ended{time.Now(), time.Since(began)})
				}
			}
		})
	}
	eventually(t, "others write", func(context.Context) error {
		if puts.Load() < 400 {
			return errors.New("not yet")
		}
		return nil
	})
	before, began := puts.Load(), time.Now()
	revokeAnyhow(t, c, lease.ID)
	revoked := time.Now()
	single := puts.Load() - before
	cancel()
	all.Wait()
	t.Logf("the revocation took %v; %d puts and %d transactions meanwhile", revoked.Sub(began).Round(time.Millisecond), single, stop())
	of := [2][]time.Duration{}
	for _, e := range slices.Concat(took[:]...) {
		when := 0
		if e.at.After(began) {
			when = 1
		}
		of[when] = append(of[when], e.took)
	}
	for i, when := range []string{"before", "meanwhile"} {
		slices.Sort(of[i])
		if n := len(of[i]); n > 0 {
			t.Logf("puts of others %s: half within %v, 99 of 100 within %v, all within %v", when, of[i][n/2], of[i][n*99/100], of[i][n-1])
		}
	}
	if single == 0 {
		t.Error("nobody could write meanwhile")
	}
	equal(t, "keys that are left", try(c.Get(within(t), "large/", clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count, 0)
	for response, revision, seen := <-watch, int64(0), 0; ; response = <-watch {
		for _, e := range response.Events {
			if revision == 0 {
				revision = e.Kv.ModRevision
			}
			equal(t, "revision of "+string(e.Kv.Key), e.Kv.ModRevision, revision)
		}
		if seen += len(response.Events); seen == 11 || len(response.Events) == 0 {
			equal(t, "deletions that a watch saw", seen, 11)
			return
		}
	}
}
