package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func session(t *testing.T, c *clientv3.Client, ttl int) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Holders of a lock add to a counter that nothing else protects.
func TestLocks(t *testing.T) {
	cl := calmCluster(t)
	const holders, rounds = 6, 5
	counter, inside := 0, make(chan struct{}, 1)
	var all sync.WaitGroup
	for i := range holders {
		c := cl.Nodes[i%3].Client(t)
		s := session(t, c, 60)
		all.Go(func() {
			mutex := concurrency.NewMutex(s, "lock")
			for range rounds {
				if err := mutex.Lock(within(t)); err != nil {
					t.Error(err)
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					t.Error("two hold the lock")
				}
				counter++
				<-inside
				if err := mutex.Unlock(within(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	equal(t, "counter", counter, holders*rounds)
}

func TestTryLock(t *testing.T) {
	cl := calmCluster(t)
	first := concurrency.NewMutex(session(t, cl.Nodes[0].Client(t), 60), "try-lock")
	second := concurrency.NewMutex(session(t, cl.Nodes[1].Client(t), 60), "try-lock")
	must(t, first.Lock(within(t)))
	refused(t, "a held lock", second.TryLock(within(t)), concurrency.ErrLocked)
	must(t, first.Unlock(within(t)))
	must(t, second.TryLock(within(t)))
}

// The lock of a session that is lost goes to the next in line.
func TestLockOfALostSession(t *testing.T) {
	cl := calmCluster(t)
	lost := session(t, cl.Nodes[0].Client(t), 2)
	must(t, concurrency.NewMutex(lost, "lost-lock").Lock(within(t)))
	lost.Orphan() // no more renewals
	must(t, concurrency.NewMutex(session(t, cl.Nodes[1].Client(t), 60), "lost-lock").Lock(within(t)))
}

func TestElections(t *testing.T) {
	cl := calmCluster(t)
	first := concurrency.NewElection(session(t, cl.Nodes[0].Client(t), 60), "election")
	second := concurrency.NewElection(session(t, cl.Nodes[1].Client(t), 60), "election")
	observer := concurrency.NewElection(session(t, cl.Nodes[2].Client(t), 60), "election")
	if _, err := observer.Leader(within(t)); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("before the election: %v", err)
	}
	must(t, first.Campaign(within(t), "one"))
	observed := observer.Observe(within(t))
	sees := func(value string) {
		t.Helper()
		response := <-observed
		equal(t, "observed", string(response.Kvs[0].Value), value)
	}
	sees("one")
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(within(t), "two") }()
	must(t, first.Proclaim(within(t), "one again"))
	sees("one again")
	must(t, first.Resign(within(t)))
	must(t, <-elected)
	sees("two")
	equal(t, "leader", string(try(observer.Leader(within(t)))(t).Kvs[0].Value), "two")
	if err := first.Proclaim(within(t), "lost"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("proclaim after resigning: %v", err)
	}
}

// An election whose winner's node dies: the winner keeps its office through another node.
func testElectionOverAKill(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	winner := concurrency.NewElection(session(t, c, 10), "election-kill")
	must(t, winner.Campaign(within(t), "winner"))
	must(t, try(cl.Leader())(t).Kill())
	eventually(t, "the winner after the kill", func(ctx context.Context) error {
		response, err := winner.Leader(ctx)
		if err == nil && string(response.Kvs[0].Value) != "winner" {
			t.Errorf("leader: %v", response)
		}
		return err
	})
	must(t, cl.Start())
	must(t, winner.Resign(within(t)))
}

// Transfers between accounts by software transactional memory keep the sum, at every isolation level that promises it.
func TestSTM(t *testing.T) {
	cl := calmCluster(t)
	const accounts, workers, transfers = 5, 4, 12
	for name, isolation := range map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable, "repeatable reads": concurrency.RepeatableReads,
	} {
		key := func(i int) string { return fmt.Sprintf("stm/%s/%d", name, i) }
		c := cl.Client(t)
		for i := range accounts {
			try(c.Put(within(t), key(i), "100"))(t)
		}
		var all sync.WaitGroup
		for worker := range workers {
			client := cl.Nodes[worker%3].Client(t)
			all.Go(func() {
				for i := range transfers {
					from, to := key((worker+i)%accounts), key((worker+2*i+1)%accounts)
					if from == to {
						continue
					}
					_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
						a, _ := strconv.Atoi(stm.Get(from))
						b, _ := strconv.Atoi(stm.Get(to))
						stm.Put(from, strconv.Itoa(a-1))
						stm.Put(to, strconv.Itoa(b+1))
						return nil
					}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(within(t)))
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		all.Wait()
		sum := 0
		for i := range accounts {
			value, err := strconv.Atoi(string(try(c.Get(within(t), key(i)))(t).Kvs[0].Value))
			must(t, err)
			sum += value
		}
		equal(t, name+": sum", sum, accounts*100)
	}
}

func TestNamespace(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	kv, watcher, leases := namespace.NewKV(c.KV, "space/"), namespace.NewWatcher(c.Watcher, "space/"), namespace.NewLease(c.Lease, "space/")
	watch := watcher.Watch(within(t), "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	lease := try(leases.Grant(within(t), 600))(t)
	try(kv.Put(within(t), "a", "1", clientv3.WithLease(lease.ID)))(t)
	try(c.Put(within(t), "outside-space", "x"))(t)
	try(kv.Txn(within(t)).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(clientv3.OpPut("b", "2")).Commit())(t)
	wantEvents(t, "events", events(t, watch, 2), "put a=1", "put b=2")
	wantEvents(t, "all keys inside", keysOf(try(kv.Get(within(t), "", clientv3.WithFromKey()))(t)), "a", "b")
	wantEvents(t, "the same from outside", keysOf(try(c.Get(within(t), "space/", clientv3.WithPrefix()))(t)), "space/a", "space/b")
	equal(t, "attached", string(try(leases.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys()))(t).Keys[0]), "a")
	equal(t, "deleted", try(kv.Delete(within(t), "", clientv3.WithPrefix()))(t).Deleted, 2)
	equal(t, "what is outside", try(c.Get(within(t), "outside-space"))(t).Count, 1)
}

// The ordering client refuses to go back in time when serializable reads come from different nodes.
func TestOrdering(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	kv := ordering.NewKV(c.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
		return errors.New("the node is behind")
	})
	try(c.Put(within(t), "ordering", "0"))(t)
	ctx := within(t)
	last := int64(0)
	for i := range 50 {
		try(c.Put(ctx, "ordering", strconv.Itoa(i)))(t)
		response, err := kv.Get(ctx, "ordering", clientv3.WithSerializable())
		if err != nil {
			continue // the node was behind: what the package is there for
		}
		if response.Header.Revision < last {
			t.Fatalf("revision %d after %d", response.Header.Revision, last)
		}
		last = response.Header.Revision
	}
	if last == 0 {
		t.Error("no read succeeded")
	}
}

func TestMirror(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	const prefix = "mirror/"
	clean(t, prefix)
	for i := range 30 {
		try(c.Put(within(t), fmt.Sprintf("%s%02d", prefix, i), "base"))(t)
	}
	syncer := mirror.NewSyncer(cl.Nodes[1].Client(t), prefix, 0)
	copied := map[string]string{}
	base, failed := syncer.SyncBase(within(t))
	for response := range base {
		for _, pair := range response.Kvs {
			copied[string(pair.Key)] = string(pair.Value)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	updates := syncer.SyncUpdates(within(t))
	try(c.Delete(within(t), prefix, clientv3.WithRange(prefix+"10")))(t)
	try(c.Put(within(t), prefix+"new", "v"))(t)
	for copied[prefix+"new"] == "" {
		response := <-updates
		must(t, response.Err())
		for _, event := range response.Events {
			if event.Type == mvccpb.DELETE {
				delete(copied, string(event.Kv.Key))
			} else {
				copied[string(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
	}
	want := try(c.Get(within(t), prefix, clientv3.WithPrefix()))(t)
	equal(t, "copied", len(copied), len(want.Kvs))
	for _, pair := range want.Kvs {
		equal(t, string(pair.Key), copied[string(pair.Key)], string(pair.Value))
	}
}

// The leasing client caches keys and must never show an old value.
func TestLeasing(t *testing.T) {
	cl := calmCluster(t)
	var clients []clientv3.KV
	for _, n := range cl.Nodes {
		kv, closeKV, err := leasing.NewKV(n.Client(t), "leasing/owners/", concurrency.WithTTL(60))
		must(t, err)
		t.Cleanup(closeKV)
		clients = append(clients, kv)
	}
	const key = "leasing/key"
	try(clients[0].Put(within(t), key, "first"))(t)
	for round := range 4 {
		for i, writer := range clients {
			for _, reader := range clients {
				try(reader.Get(within(t), key))(t) // takes ownership, fills caches
			}
			value := fmt.Sprintf("%d from %d", round, i)
			try(writer.Put(within(t), key, value))(t)
			for j, reader := range clients {
				got := try(reader.Get(within(t), key))(t)
				equal(t, fmt.Sprintf("what client %d reads", j), string(got.Kvs[0].Value), value)
			}
		}
	}
	try(clients[1].Delete(within(t), key))(t)
	for _, reader := range clients {
		equal(t, "after the deletion", try(reader.Get(within(t), key))(t).Count, 0)
	}
}
