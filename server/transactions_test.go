package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/partition"
)

// bank is money that is moved between accounts in all shards.
type bank struct {
	*shardCluster
	accounts []string
	done     atomic.Int64 // transfers
	reads    atomic.Int64
}

const startMoney = 100

// TestTransfers: money that is moved over shards is never seen twice, or lost, by whoever lists it or watches it, also while a leader is killed; and nothing is
// left undecided.
func TestTransfers(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]ClusterOptions{
		"2pc": {Partition: partition.Scheme{Kind: partition.Hash, Shards: 4}, Leaders: LeadersSpread, CommitProtocol: Commit2PC},
		"3pc": {Partition: splitAt("/d", "/j", "/p"), Consensus: ConsensusPaxos, CommitProtocol: Commit3PC},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, cluster)
			c.start(0, 1, 2)
			b := &bank{shardCluster: c}
			for _, keys := range c.keys() {
				b.accounts = append(b.accounts, keys[:2]...)
			}
			clients := []*clientv3.Client{c.client(0), c.client(1), c.client(2)}
			b.open(clients[0])
			watched := b.watch(clients[1])

			ctx, stop := context.WithCancel(t.Context())
			var work sync.WaitGroup
			for i := range 4 {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				work.Go(func() { b.transfer(ctx, clients[i%2+1], rng) })
			}
			work.Go(func() { b.read(ctx, clients[2]) })
			work.Go(func() { b.checkSnapshots(ctx, clients[1]) })
			b.untilDone("transfers with all nodes", 60)
			c.kill(0)
			b.untilDone("transfers with two nodes", 60)
			stop()
			work.Wait()
			watched(b.sum(clients[1]))
			c.until("nothing is undecided", func() error {
				for i, s := range c.servers {
					if s == nil {
						continue
					}
					if list := (localNode{s}).Transactions(); len(list.Transactions) > 0 || list.Commit != name {
						return fmt.Errorf("node %d: %+v", i+1, list)
					}
				}
				return nil
			})
			c.everythingAtOnce(clients[2])
		})
	}
}

// untilDone waits for so many more transfers.
func (b *bank) untilDone(what string, more int64) {
	b.t.Helper()
	from := b.done.Load()
	b.until(what, func() error {
		if done := b.done.Load() - from; done < more {
			return fmt.Errorf("%d of %d are done; %d lists were read", done, more, b.reads.Load())
		}
		return nil
	})
}

// open gives each account its money, in one transaction over all shards.
func (b *bank) open(client *clientv3.Client) {
	b.t.Helper()
	var puts []clientv3.Op
	for _, account := range b.accounts {
		puts = append(puts, clientv3.OpPut(account, fmt.Sprint(startMoney)))
	}
	opened, err := again(b.shardCluster, func() (*clientv3.TxnResponse, error) {
		return client.Txn(b.context()).If(clientv3.Compare(clientv3.Version(b.accounts[0]), "=", 0)).Then(puts...).Commit()
	})
	if err != nil || len(opened.Responses) > 0 && len(opened.Responses) != len(puts) {
		b.t.Fatalf("open the accounts: %+v, %v", opened, err)
	}
	b.sum(client)
}

// transfer moves money until the context ends. What ends with an error may have been done.
func (b *bank) transfer(ctx context.Context, client *clientv3.Client, rng *rand.Rand) {
	for ctx.Err() == nil {
		i := rng.IntN(len(b.accounts))
		from, to := b.accounts[i], b.accounts[(i+1+rng.IntN(len(b.accounts)-1))%len(b.accounts)]
		before, err := client.Txn(ctx).Then(clientv3.OpGet(from), clientv3.OpGet(to)).Commit()
		if err != nil {
			continue
		}
		source, target := before.Responses[0].GetResponseRange().Kvs[0], before.Responses[1].GetResponseRange().Kvs[0]
		has, gets := b.amount(source.Value), b.amount(target.Value)
		move := min(has, 1+rng.IntN(20))
		moved, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(from), "=", source.ModRevision), clientv3.Compare(clientv3.ModRevision(to), "=", target.ModRevision)).
			Then(clientv3.OpPut(from, fmt.Sprint(has-move)), clientv3.OpPut(to, fmt.Sprint(gets+move)), clientv3.OpGet(from)).Else(clientv3.OpGet(to)).Commit()
		switch {
		case err != nil:
		case !moved.Succeeded:
			if got := moved.Responses[0].GetResponseRange(); len(got.Kvs) != 1 {
				b.t.Errorf("the other branch: %+v", moved)
			}
		default:
			got := moved.Responses[2].GetResponseRange().Kvs[0]
			if string(got.Value) != fmt.Sprint(has-move) || got.ModRevision != moved.Header.Revision || got.Version != source.Version+1 {
				b.t.Errorf("in revision %d the transfer reads %+v of what it wrote", moved.Header.Revision, got)
			}
			b.done.Add(1)
		}
	}
}

func (b *bank) amount(value []byte) int {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		b.t.Errorf("an account has %q", value)
	}
	return n
}

// read lists all accounts until the context ends.
func (b *bank) read(ctx context.Context, client *clientv3.Client) {
	for ctx.Err() == nil {
		if all, err := client.Get(ctx, "/", clientv3.WithPrefix()); err == nil {
			b.judge(all)
			b.reads.Add(1)
		}
	}
}

func (b *bank) judge(all *clientv3.GetResponse) {
	sum := 0
	for _, e := range all.Kvs {
		sum += b.amount(e.Value)
	}
	if sum != startMoney*len(b.accounts) || len(all.Kvs) != len(b.accounts) {
		b.t.Errorf("at revision %d there is %d in %d accounts: %v", all.Header.Revision, sum, len(all.Kvs), all.Kvs)
	}
}

// sum lists all accounts once, and returns the revision.
func (b *bank) sum(client *clientv3.Client) (revision int64) {
	b.t.Helper()
	all, err := again(b.shardCluster, func() (*clientv3.GetResponse, error) { return client.Get(b.context(), "/", clientv3.WithPrefix()) })
	if err != nil {
		b.t.Fatalf("list the accounts: %v", err)
	}
	b.judge(all)
	return all.Header.Revision
}

// watch follows all accounts, and has all money after each revision. What it returns waits until the watch has come to the revision, and ends it.
func (b *bank) watch(client *clientv3.Client) (until func(revision int64)) {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(cancel)
	ended := make(chan struct{})
	events := client.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithProgressNotify())
	var seen atomic.Int64
	go func() {
		defer close(ended)
		amounts, last := map[string]int{}, int64(0)
		check := func() {
			sum := 0
			for _, n := range amounts {
				sum += n
			}
			if last > 0 && (sum != startMoney*len(b.accounts) || len(amounts) != len(b.accounts)) {
				b.t.Errorf("after revision %d the watch has %d in %d accounts", last, sum, len(amounts))
			}
		}
		for r := range events {
			if r.Err() != nil {
				if !errors.Is(r.Err(), context.Canceled) {
					b.t.Errorf("the watch ended: %v", r.Err())
				}
				return
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision < last {
					b.t.Errorf("revision %d comes after %d", e.Kv.ModRevision, last)
				} else if e.Kv.ModRevision > last {
					check()
				}
				last = e.Kv.ModRevision
				amounts[string(e.Kv.Key)] = b.amount(e.Kv.Value)
			}
			check()
			seen.Store(max(seen.Load(), r.Header.Revision))
		}
	}()
	return func(revision int64) {
		b.t.Helper()
		b.until("the watch has seen everything", func() error {
			if seen.Load() < revision {
				_ = client.RequestProgress(ctx)
				return fmt.Errorf("it is at revision %d, and all is %d", seen.Load(), revision)
			}
			return nil
		})
		cancel()
		<-ended
	}
}

// everythingAtOnce reads and deletes all keys of all shards at one revision, in one transaction, and what it reads is what was there: a transfer that was given up
// may have been on its way.
func (c *shardCluster) everythingAtOnce(client *clientv3.Client) {
	c.t.Helper()
	all := clientv3.WithPrefix()
	done, err := again(c, func() (*clientv3.TxnResponse, error) {
		return client.Txn(c.context()).Then(clientv3.OpGet("", all), clientv3.OpDelete("", all, clientv3.WithPrevKV()), clientv3.OpGet("", all)).Commit()
	})
	if err != nil {
		c.t.Fatal(err)
	}
	before, deleted, none := done.Responses[0].GetResponseRange(), done.Responses[1].GetResponseDeleteRange(), done.Responses[2].GetResponseRange()
	if deleted.Deleted != int64(len(before.Kvs)) || len(deleted.PrevKvs) != len(before.Kvs) || len(before.Kvs) == 0 || len(none.Kvs) > 0 {
		c.t.Fatalf("%d keys of %d are deleted, %d are left", deleted.Deleted, len(before.Kvs), len(none.Kvs))
	}
	for i, e := range deleted.PrevKvs {
		if !proto.Equal(e, before.Kvs[i]) {
			c.t.Errorf("previous value %d is %v, want %v", i, e, before.Kvs[i])
		}
	}
	after, err := again(c, func() (*clientv3.GetResponse, error) { return client.Get(c.context(), "", all) })
	if err != nil || len(after.Kvs) > 0 || after.Header.Revision < done.Header.Revision {
		c.t.Errorf("afterwards there are %d keys, %v", len(after.Kvs), err)
	}
	earlier, err := again(c, func() (*clientv3.GetResponse, error) {
		return client.Get(c.context(), "", all, clientv3.WithRev(done.Header.Revision-1))
	})
	if err != nil || len(earlier.Kvs) != len(before.Kvs) {
		c.t.Errorf("a revision earlier there are %d keys of %d, %v", len(earlier.Kvs), len(before.Kvs), err)
	}
}

// TestOtherCommitProtocol: a directory keeps the commit protocol that its cluster was created with. With one shard there is none.
func TestOtherCommitProtocol(t *testing.T) {
	t.Parallel()
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 2}, CommitProtocol: Commit3PC})
	c.start(0, 1)
	c.close(1)
	options := c.options[1]
	options.Cluster.CommitProtocol = Commit2PC
	if _, err := Start(t.Context(), options); err == nil || !errors.Is(err, datadir.ErrOtherCommit) {
		t.Errorf("3pc is started as 2pc: %v", err)
	}
	if got := c.options[0].WithDefaults().Cluster.protocols(); got != "raft, 3pc" {
		t.Errorf("the protocols are shown as %q", got)
	}
	one := Options{}.WithDefaults()
	if got := one.Cluster.protocols(); got != "raft" || one.Cluster.commit() != "" {
		t.Errorf("with one shard the protocols are %q, %q", got, one.Cluster.commit())
	}
}
