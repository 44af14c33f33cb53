package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
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
	"github.com/quoratedb/quorate/transport/freeport"
)

// losing is a cluster with four shards by range, whose keys begin with a, b, c and d, any of which can lose its quorum by itself. The first numbers the
// revisions; nothing goes on without it, so none of these tests takes it.
type losing struct {
	*cluster.Cluster
	sieve   *cluster.Sieve
	metrics []string
	began   time.Time
}

// logf logs what has come about, and when.
func (l *losing) logf(t *testing.T, format string, values ...any) {
	t.Helper()
	t.Logf("%6.2fs %s", time.Since(l.began).Seconds(), fmt.Sprintf(format, values...))
}

// openBound is how many transactions may be open at once: kv.MaxOpen.
const openBound = 1024

func losingCluster(t *testing.T, commit string) *losing {
	t.Helper()
	skipShort(t)
	if cluster.IsEtcd() || cluster.ManyShards() {
		t.Skip("has shards of its own")
	}
	t.Parallel()
	l := &losing{sieve: cluster.NewSieve()}
	t.Cleanup(l.sieve.Close)
	l.Cluster = try(cluster.New(cluster.Options{
		PeerAddress: l.sieve.PeerAddress,
		Flags:       []string{"--initial-split-keys=b,c,d", "--leaders=spread", "--commit-protocol=" + commit},
	}))(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.Logs())
		}
		must(t, l.Close())
	})
	for _, n := range l.Nodes {
		l.metrics = append(l.metrics, try(freeport.Address())(t))
		n.SetFlag("--listen-metrics-urls=http://" + l.metrics[len(l.metrics)-1])
	}
	must(t, l.Cluster.Start())
	l.began = time.Now()
	return l
}

// writeAll gives one key in each of the shards the same value, in one transaction.
func writeAll(ctx context.Context, c *clientv3.Client, shards string, key int, value string) error {
	var puts []clientv3.Op
	for _, shard := range shards {
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("%c/%d", shard, key), value))
	}
	_, err := c.Txn(ctx).Then(puts...).Commit()
	return err
}

// undecided is a transaction as `quorate transactions` shows it.
type undecided struct {
	Age          float64 `json:"age_seconds"`
	Anchor       int     `json:"anchor_shard"`
	AnchorLeader string  `json:"anchor_leader"`
	Undecided    []int   `json:"undecided_shards"`
}

func (l *losing) transactions(ctx context.Context, t *testing.T) (list []undecided, err error) {
	command := exec.CommandContext(ctx, try(cluster.Program())(t), "transactions", "--output", "json", "--endpoints", strings.Join(l.Endpoints(), ","))
	out, err := command.Output()
	if err != nil {
		return nil, err
	}
	var shown struct{ Transactions []undecided }
	err = json.Unmarshal(out, &shown)
	return shown.Transactions, err
}

// writeUntilLost has 24 clients write to shards, each to a key of its own, takes the quorum of one of the shards in the midst of that, and waits until
// all clients have given up.
func (l *losing) writeUntilLost(t *testing.T, shards string, lost uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	written := atomic.Int64{}
	for key := range losingKeys {
		c := l.Nodes[key%len(l.Nodes)].Client(t)
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				patience, end := context.WithTimeout(t.Context(), time.Second)
				if writeAll(patience, c, shards, key, fmt.Sprintf("%d-%d", key, n)) == nil {
					written.Add(1)
				}
				end()
			}
		})
	}
	cluster.Eventually(t, "transactions are written", func() error {
		if n := written.Load(); n < 100 {
			return fmt.Errorf("%d were", n)
		}
		return nil
	})
	l.sieve.Lose(lost)
	cancel()
	all.Wait()
}

const losingKeys = 24

// keyOf is a key that stands for n, other than those of writeUntilLost.
func keyOf(n int) int { return losingKeys + n }

// wantSame reads all keys at one revision: those that were written together have the same value.
func (l *losing) wantSame(t *testing.T, shards string) {
	t.Helper()
	values := map[string]string{}
	eventually(t, "read everything", func(ctx context.Context) error {
		all, err := l.Nodes[0].Client(t).Get(ctx, "", clientv3.WithFromKey())
		if err == nil {
			for _, e := range all.Kvs {
				values[string(e.Key)] = string(e.Value)
			}
		}
		return err
	})
	for key := range losingKeys {
		for _, shard := range shards {
			equal(t, fmt.Sprintf("%c/%d", shard, key), values[fmt.Sprintf("%c/%d", shard, key)], values[fmt.Sprintf("%c/%d", shards[0], key)])
		}
	}
}

func (l *losing) wantForgotten(t *testing.T) {
	t.Helper()
	cluster.Eventually(t, "no transaction is remembered", func() error {
		for _, address := range l.metrics {
			if n, err := scraped(address, "quorate_transactions_records"); err != nil || n > 0 {
				return fmt.Errorf("%d are: %v", n, err)
			}
		}
		return nil
	})
	l.logf(t, "no transaction is remembered")
}

// TestAnchorWithoutQuorum takes the quorum of shard 2, which coordinates writes to shards 2, 3 and 4, in the midst of them. With two-phase commit those that
// were prepared and not decided hold their keys in 3 and 4 until it is back. With three-phase commit 3 and 4 are a majority, and end them.
func TestAnchorWithoutQuorum(t *testing.T) {
	t.Parallel()
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			l := losingCluster(t, commit)
			inOthers := func(u undecided) bool { return slices.Contains(u.Undecided, 3) || slices.Contains(u.Undecided, 4) }
			ofAnchor := func(u undecided) bool { return slices.Equal(u.Undecided, []int{2}) }
			wanted := map[string]func(undecided) bool{"2pc": inOthers, "3pc": ofAnchor}[commit]
			var left []undecided
			for {
				l.writeUntilLost(t, "bcd", 2)
				if commit == "3pc" {
					l.wantNone(t, "shards 3 and 4 have decided, without their anchor", inOthers)
				} else {
					// Whoever is not asked to decide yet is aborted, when its client's time is over. The rest is in the hands of shard 2.
					l.wantSettled(t)
				}
				left = slices.DeleteFunc(try(l.transactions(within(t), t))(t), func(u undecided) bool { return !wanted(u) })
				if len(left) > 0 {
					break
				}
				l.sieve.Return(2) // no transaction was in that moment of its life
				wantDecided(t, l.Cluster)
			}
			l.logf(t, "without the quorum of their anchor: %d are undecided in %v and so on, coordinated by %s", len(left), left[0].Undecided, left[0].AnchorLeader)

			c := l.Nodes[0].Client(t)
			if locked := l.locked(t, commit == "3pc"); commit == "2pc" && locked < len(left) || commit == "3pc" && locked > 0 {
				t.Errorf("%d keys of shard 3 are locked, and %d transactions undecided", locked, len(left))
			}
			for n := range 100 {
				eventually(t, "others go on", func(ctx context.Context) error { return writeAll(ctx, c, "cd", keyOf(n), "goes on") })
			}
			l.logf(t, "others go on")
			coordinator := l.Nodes[slices.IndexFunc(l.Nodes, func(n *cluster.Node) bool { return n.Name == left[0].AnchorLeader })]
			must(t, coordinator.Kill()) // shard 2 can have no other leader either
			for _, n := range l.Nodes {
				if n == coordinator {
					continue
				}
				c := n.Client(t)
				eventually(t, "others go on without the coordinator's node", func(ctx context.Context) error { return writeAll(ctx, c, "cd", keyOf(0), n.Name) })
			}
			now := try(l.transactions(within(t), t))(t)
			if held := slices.ContainsFunc(now, inOthers); held != (commit == "2pc") {
				t.Errorf("without its anchor's leader, too: %+v", now)
			}
			must(t, coordinator.Start())
			l.sieve.Return(2)
			must(t, l.WaitReady())
			wantDecided(t, l.Cluster)
			l.logf(t, "it is back, and everything decided")
			for key := range losingKeys {
				eventually(t, "all keys are written again", func(ctx context.Context) error { return writeAll(ctx, c, "bcd", key, "afterwards") })
			}
			l.wantSame(t, "bcd")
			l.wantForgotten(t)
		})
	}
}

// locked is how many keys of writeUntilLost in shard 3 cannot be written: within a moment if some should not, and else with patience.
func (l *losing) locked(t *testing.T, patient bool) int {
	t.Helper()
	ctx := within(t)
	if !patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
	}
	var all sync.WaitGroup
	locked := atomic.Int64{}
	for key := range losingKeys {
		c := l.Nodes[key%len(l.Nodes)].Client(t)
		all.Go(func() {
			if writeAll(ctx, c, "c", key, "free") != nil {
				locked.Add(1)
			}
		})
	}
	all.Wait()
	return int(locked.Load())
}

// wantNone waits until there is no such undecided transaction.
func (l *losing) wantNone(t *testing.T, what string, such func(undecided) bool) {
	t.Helper()
	eventually(t, what, func(ctx context.Context) error {
		list, err := l.transactions(ctx, t)
		if err == nil && slices.ContainsFunc(list, such) {
			err = fmt.Errorf("some are left: %+v", list)
		}
		return err
	})
}

// wantSettled waits until what is undecided has been so for a while: longer than anybody waits before it asks.
func (l *losing) wantSettled(t *testing.T) {
	t.Helper()
	l.wantNone(t, "what could end has ended", func(u undecided) bool { return u.Age < 4 })
}

// lostTransactions is how many transactions others write while a shard has no quorum.
var lostTransactions = flag.Int("lost.transactions", 4_000, "how many transactions others write while a shard is without a quorum, more than "+
	"1,024: .ci/run long takes 20,000, more than a shard may remember")

// TestParticipantWithoutQuorum takes the quorum of shard 4 for long. Those who need it get an error within their time. The transactions of the others go on, many
// more than any table holds, because what shard 4 has not heard is named as open, and everything else forgotten. When it is back, it hears the ends.
func TestParticipantWithoutQuorum(t *testing.T) {
	t.Parallel()
	for _, commit := range []string{"2pc", "3pc"} {
		t.Run(commit, func(t *testing.T) {
			l := losingCluster(t, commit)
			open := 0
			for { // until some were in that moment of their life
				l.writeUntilLost(t, "bcd", 4)
				for _, u := range try(l.transactions(within(t), t))(t) {
					if slices.Equal(u.Undecided, []int{4}) {
						open++
					}
				}
				if open > 0 {
					break
				}
				l.sieve.Return(4)
				wantDecided(t, l.Cluster)
			}
			if l.sieve.Dropped() == 0 {
				t.Error("the sieve has kept nothing back")
			}
			l.logf(t, "shard 4 has not heard the end of %d transactions", open)
			if open > openBound {
				t.Errorf("%d transactions are open", open)
			}
			l.wantRefusals(t)
			l.writeMany(t, *lostTransactions)
			// Of those of the others nothing is remembered, though shard 4 is silent still.
			for i, address := range l.metrics {
				cluster.Eventually(t, "others are forgotten", func() error {
					n, err := scraped(address, "quorate_transactions_records")
					if bound := 4 * (losingKeys + open); err == nil && n > bound {
						err = fmt.Errorf("%s remembers %d transactions, which should be %d at most", l.Nodes[i].Name, n, bound)
					}
					return err
				})
			}
			l.logf(t, "they are forgotten")
			l.sieve.Return(4)
			wantDecided(t, l.Cluster)
			l.logf(t, "it is back, and everything decided")
			c := l.Nodes[0].Client(t)
			eventually(t, "no key of a refused transaction is there", func(ctx context.Context) error {
				for _, shard := range []string{"b", "d"} {
					got, err := c.Get(ctx, shard+"/refused")
					if err != nil {
						return err
					}
					equal(t, shard+"/refused", got.Count, 0)
				}
				return nil
			})
			l.wantSame(t, "bcd")
			for key := range losingKeys {
				eventually(t, "all keys are written again", func(ctx context.Context) error { return writeAll(ctx, c, "bcd", key, "afterwards") })
			}
			l.wantForgotten(t)
		})
	}
}

// wantRefusals: a transaction with a key of the lost shard ends within its time, and says so.
func (l *losing) wantRefusals(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 30 {
		c := l.Nodes[i%len(l.Nodes)].Client(t)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			began := time.Now()
			_, err := c.Txn(ctx).Then(clientv3.OpPut("b/refused", "x"), clientv3.OpPut("d/refused", "x")).Commit()
			named := err != nil && strings.Contains(err.Error(), "without a leader: shard 4") // when its leader has found out
			if !named && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, rpctypes.ErrTimeout) {
				t.Errorf("a transaction with a key of a shard without a quorum: %v", err)
			}
			if took := time.Since(began); took > cluster.Patience/4 {
				t.Errorf("it took %v to say so", took)
			}
			if i == 0 {
				t.Logf("a transaction with a key of that shard: %v", err)
			}
		})
	}
	all.Wait()
}

// writeMany writes transactions of shards 2 and 3.
func (l *losing) writeMany(t *testing.T, count int) {
	t.Helper()
	var all sync.WaitGroup
	const writers = 16
	began := time.Now()
	retried := atomic.Int64{}
	for w := range writers {
		c := l.Nodes[w%len(l.Nodes)].Client(t)
		all.Go(func() {
			for n := range count / writers {
				ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
				err := cluster.Wait(ctx, func() error { // a leader may change on a machine with other work
					err := writeAll(ctx, c, "bc", keyOf(w), fmt.Sprint(n))
					if err != nil {
						retried.Add(1)
					}
					return err
				})
				cancel()
				if err != nil {
					t.Errorf("transaction %d of writer %d, of shards that have quorums: %v", n, w, err)
					return
				}
			}
		})
	}
	all.Wait()
	l.logf(t, "%d transactions of others took %v; %d were tried again", count, time.Since(began).Round(time.Millisecond), retried.Load())
}
