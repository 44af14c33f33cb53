package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/txn"
)

// backedUp is what OpenBackup returns.
type backedUp struct {
	*Backup
	err error
}

// openBackup opens one beside the test. It is there, or waits for something, when this returns.
func openBackup(ctx context.Context, g *Gateway) <-chan backedUp {
	opened := make(chan backedUp, 1)
	go func() {
		b, err := g.OpenBackup(ctx, "")
		opened <- backedUp{b, err}
	}()
	synctest.Wait()
	return opened
}

// versionsOf lists what a backup has.
func versionsOf(t *testing.T, b *Backup) (list []string) {
	t.Helper()
	err := b.Versions(func(e *mvcc.Effect, position int64) error {
		list = append(list, fmt.Sprintf("%d.%d %s=%s", e.At.Rev, position, e.Key, e.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// step lets something happen at random: frames arrive, a node applies an entry, or time goes on.
func step(random *rand.Rand, first, second *cluster) {
	c := []*cluster{first, second}[random.IntN(2)]
	switch random.IntN(8) {
	case 0:
		first.tick(50 * time.Millisecond)
	case 1, 2, 3:
		first.deliver()
	default:
		c.nodes[kv.NodeID(1+random.IntN(3))].applyOne()
	}
	synctest.Wait()
}

// TestBackupAmongTransactions: whenever a backup is opened while writes over two shards are prepared, decided and resolved, it has all that was written up to
// its revision and nothing else: each of them whole or not at all. That revision is not below any that was answered before.
func TestBackupAmongTransactions(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	waited, inside := 0, 0
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			leader := func() kv.NodeID { return kv.NodeID(1 + random.IntN(3)) }
			protocol := []txn.Protocol{txn.TwoPhase, txn.ThreePhase}[random.IntN(2)]
			first, second, _ := storeWith(t, transacting(t, protocol), leader(), leader(), leader())
			var writes []*result
			write := func() {
				value := fmt.Sprint("v", len(writes))
				req := writeBoth(value)
				if random.IntN(4) == 0 {
					req = putValue([]string{"1a", "2a"}[random.IntN(2)], value)
				}
				writes = append(writes, submit(first.nodes[leader()].gateway, req))
			}
			for range 1 + random.IntN(3) {
				write()
				for range random.IntN(30) {
					step(random, first, second)
				}
			}
			answered := kv.Revision(4)
			for _, w := range writes {
				if w.answers > 0 {
					answered = max(answered, w.resp.Revision)
				}
			}
			opened := openBackup(t.Context(), first.nodes[leader()].gateway)
			var b backedUp
			for steps := 0; b.Backup == nil; steps++ {
				select {
				case b = <-opened:
					if b.err != nil {
						t.Fatalf("seed %d: %v", seed, b.err)
					}
				default:
					if waited++; steps > 10_000 {
						t.Fatalf("seed %d: the backup is not opened", seed)
					}
					if len(writes) < 6 && random.IntN(8) == 0 {
						write()
					}
					step(random, first, second)
				}
			}
			defer b.Close()
			if b.Revision() < answered {
				t.Fatalf("seed %d: a backup at %d, and %d was answered before", seed, b.Revision(), answered)
			}
			run(first, second, 6*time.Second)
			want := []string{"2.0 1a=old", "3.0 2a=old", "4.0 2b=old"}
			slices.SortFunc(writes, func(a, b *result) int { return int(a.revision() - b.revision()) })
			for _, w := range writes {
				if w.answers != 1 || w.err != nil {
					t.Fatalf("seed %d: a write: %d answers, %v", seed, w.answers, w.err)
				}
				if w.resp.Revision > b.Revision() {
					inside++
					continue
				}
				want = append(want, w.wrote(first, second)...)
			}
			if got := versionsOf(t, b.Backup); !slices.Equal(got, want) {
				t.Fatalf("seed %d: a backup at %d has\n%q, want\n%q", seed, b.Revision(), got, want)
			}
		})
		if t.Failed() {
			return
		}
	}
	if waited < 100 || inside < 20 {
		t.Errorf("backups waited for %d steps, and %d writes came after one", waited, inside)
	}
}

func (r *result) revision() kv.Revision {
	if r.resp == nil {
		return 0
	}
	return r.resp.Revision
}

// wrote lists the versions that were written at the revision, as the leaders of the shards have them.
func (r *result) wrote(shards ...*cluster) (list []string) {
	for _, c := range shards {
		view := c.nodes[c.leader].View()
		defer view.Close()
		_, _, err := view.Versions(mvcc.Locator{Rev: r.resp.Revision}, 0, r.resp.Revision, 1<<20, func(e *mvcc.Effect) error {
			list = append(list, fmt.Sprintf("%d.%d %s=%s", e.At.Rev, len(list), e.Key, e.Value))
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	return list
}

// TestBackupOfLeases: leases that were there when the backup began, or when its state was there, are in it. Whoever asked and goes away leaves nothing behind,
// and an open backup is one of the calls.
func TestBackupOfLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := transacting(t, txn.TwoPhase)
		options.Limits.MaxCalls = 2 // the backup, and what it asks
		first, second, c := storeWith(t, options, 1, 2, 1)
		grant := func(id kv.LeaseID, ttl int64) {
			t.Helper()
			r := submit(first.nodes[1].gateway, &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: ttl}})
			exchangeBoth(first, second)
			if r.err != nil || r.answers != 1 {
				t.Fatal(r.err)
			}
		}
		revoke := func(id kv.LeaseID) {
			t.Helper()
			r := submit(first.nodes[1].gateway, &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}})
			exchangeBoth(first, second)
			if r.err != nil || r.answers != 1 {
				t.Fatal(r.err)
			}
		}
		grant(7, 70)
		grant(9, 90)
		grant(-1, 50)
		c.onAsk = func() { // between the state and the list that was taken before
			revoke(9)
			grant(3, 30)
			revoke(7)
			grant(7, 71)
		}
		g := first.nodes[3].gateway
		opened := openBackup(t.Context(), g)
		for range 5 {
			exchangeBoth(first, second)
			synctest.Wait()
		}
		b := <-opened
		if b.err != nil {
			t.Fatal(b.err)
		}
		if got, want := fmt.Sprint(b.Leases()), "[{3 30} {7 71} {9 90} {-1 50}]"; got != want {
			t.Errorf("leases %s, want %s", got, want)
		}
		if another := <-openBackup(t.Context(), g); !errors.Is(another.err, kv.ErrTooManyRequests) {
			t.Errorf("one beside it: %v", another.err)
		}
		b.Close()

		ctx, cancel := context.WithCancel(t.Context())
		opened = openBackup(ctx, g)
		cancel()
		if b := <-opened; !errors.Is(b.err, kv.ErrCanceled) && !errors.Is(b.err, context.Canceled) {
			t.Errorf("of a client that went away: %v", b.err)
		}
		exchangeBoth(first, second)
		synctest.Wait()
		if calls := g.Metrics().CallsInFlight; calls != 0 {
			t.Errorf("%d calls are in flight", calls)
		}
	})
}
