package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// valueBytes is the size of every value.
const valueBytes = 256

// runWorker does the work that the specification on in asks for, and reports on out.
func runWorker(in io.Reader, out io.Writer) error {
	var spec workSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	w := &worker{spec: spec}
	for i := range spec.Connections {
		client, err := logIn(spec, spec.Endpoints[i%len(spec.Endpoints)])
		if err != nil {
			return err
		}
		defer client.Close()
		w.clients = append(w.clients, client)
	}
	r, err := w.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

type worker struct {
	spec    workSpec
	clients []*clientv3.Client
	events  atomic.Int64
}

// operation does one piece of work; n counts the calls of this client.
type operation func(ctx context.Context, client *clientv3.Client, id, n int, random *rand.Rand) error

func (w *worker) run() (result, error) {
	ctx := context.Background()
	// Connections are made before anything is measured.
	for _, c := range w.clients {
		if _, err := c.Get(ctx, "warm-up"); err != nil {
			return result{}, err
		}
	}
	switch w.spec.Load {
	case "fill":
		return w.fill(ctx)
	case "watch-1", "watch-100", "watch-1000":
		return w.watch(ctx)
	case "watch-spans":
		return w.watchSpans(ctx)
	case "keepalive", "keepalive-all":
		return w.keepAlive(ctx)
	}
	op, ok := w.operations()[w.spec.Load]
	if !ok {
		return result{}, fmt.Errorf("unknown load %q", w.spec.Load)
	}
	return w.measure(ctx, op)
}

func key(n int) string { return fmt.Sprintf("k%07d", n) }

func value(random *rand.Rand) string {
	b := make([]byte, valueBytes)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return string(b)
}

func (w *worker) operations() map[string]operation {
	put := func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
		_, err := c.Put(ctx, key(random.IntN(w.spec.Keys)), sharedValues[random.IntN(len(sharedValues))])
		return err
	}
	get := func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
		_, err := c.Get(ctx, key(random.IntN(w.spec.Keys)))
		return err
	}
	return map[string]operation{
		"put-1": put, "put-leader": put, "put-all": put, "get-leader": get, "get-all": get,
		"get-serial": func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
			_, err := c.Get(ctx, key(random.IntN(w.spec.Keys)), clientv3.WithSerializable())
			return err
		},
		"range-1000": func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
			from := random.IntN(max(1, w.spec.Keys-1000))
			_, err := c.Get(ctx, key(from), clientv3.WithRange(key(from+1000)))
			return err
		},
		"mixed": func(ctx context.Context, c *clientv3.Client, id, n int, random *rand.Rand) error {
			if n%4 == 0 {
				return put(ctx, c, id, n, random)
			}
			return get(ctx, c, id, n, random)
		},
		"txn-cas":      w.compareAndSwap(),
		"txn-transfer": w.transfer(),
		"put-pairs": func(ctx context.Context, c *clientv3.Client, id, n int, random *rand.Rand) error {
			if n%100 != 0 {
				return put(ctx, c, id, n, random)
			}
			_, err := c.Txn(ctx).Then(clientv3.OpPut(key(random.IntN(w.spec.Keys/2)), sharedValues[0]),
				clientv3.OpPut(key(w.spec.Keys/2+random.IntN(w.spec.Keys-w.spec.Keys/2)), sharedValues[0])).Commit()
			return err
		},
		"txn-pair": func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
			first := random.IntN(w.spec.Keys)
			second := (first + 1 + random.IntN(max(1, w.spec.Keys-1))) % w.spec.Keys
			_, err := c.Txn(ctx).Then(clientv3.OpPut(key(first), sharedValues[random.IntN(len(sharedValues))]),
				clientv3.OpPut(key(second), sharedValues[random.IntN(len(sharedValues))])).Commit()
			return err
		},
	}
}

// compareAndSwap lets each client count a key of its own up.
func (w *worker) compareAndSwap() operation {
	revisions := make([]int64, w.spec.Clients)
	return func(ctx context.Context, c *clientv3.Client, id, _ int, random *rand.Rand) error {
		k := fmt.Sprintf("cas-%d", id)
		resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", revisions[id])).
			Then(clientv3.OpPut(k, sharedValues[random.IntN(len(sharedValues))])).
			Else(clientv3.OpGet(k)).Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			revisions[id] = resp.Header.Revision
		} else if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			revisions[id] = kvs[0].ModRevision
		}
		return nil
	}
}

// transferKeys are so few that clients meet.
const transferKeys = 64

// transfer writes two keys if they are as the client saw them last, and again as it sees them then, until it has: that is an operation.
func (w *worker) transfer() operation {
	seen := make([][transferKeys]int64, w.spec.Clients) // the revisions of the keys
	return func(ctx context.Context, c *clientv3.Client, id, _ int, random *rand.Rand) error {
		last := &seen[id]
		from := random.IntN(transferKeys)
		to := (from + 1 + random.IntN(transferKeys-1)) % transferKeys
		for {
			var unchanged []clientv3.Cmp
			var puts, gets []clientv3.Op
			for _, i := range []int{from, to} {
				k := fmt.Sprintf("transfer-%d", i)
				unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(k), "=", last[i]))
				puts = append(puts, clientv3.OpPut(k, sharedValues[random.IntN(len(sharedValues))]))
				gets = append(gets, clientv3.OpGet(k))
			}
			resp, err := c.Txn(ctx).If(unchanged...).Then(puts...).Else(gets...).Commit()
			if err != nil {
				return err
			}
			for at, i := range []int{from, to} {
				if resp.Succeeded {
					last[i] = resp.Header.Revision
				} else if kvs := resp.Responses[at].GetResponseRange().Kvs; len(kvs) > 0 {
					last[i] = kvs[0].ModRevision
				}
			}
			if resp.Succeeded {
				return nil
			}
		}
	}
}

// sharedValues are made once: the client's processor time is part of the comparison.
var sharedValues = func() []string {
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]string, 64)
	for i := range values {
		values[i] = value(random)
	}
	return values
}()

// measure lets all clients repeat the operation for the time of the load.
func (w *worker) measure(ctx context.Context, op operation) (result, error) {
	latencies := make([][]time.Duration, w.spec.Clients)
	var failed atomic.Int64
	var firstErr atomic.Pointer[error]
	var group sync.WaitGroup
	began, cpu := time.Now(), ownCPU()
	deadline := began.Add(time.Duration(w.spec.Seconds * float64(time.Second)))
	for id := range w.spec.Clients {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(id), uint64(began.UnixNano())))
			client := w.clients[id%len(w.clients)]
			for n := 0; ; n++ {
				start := time.Now()
				if start.After(deadline) {
					return
				}
				if err := op(ctx, client, id, n, random); err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, &err)
					time.Sleep(10 * time.Millisecond)
					continue
				}
				latencies[id] = append(latencies[id], time.Since(start))
			}
		})
	}
	group.Wait()
	r := summarize(latencies, time.Since(began), ownCPU()-cpu)
	r.Errors = int(failed.Load())
	if r.Ops == 0 && firstErr.Load() != nil {
		return r, *firstErr.Load()
	}
	return r, nil
}

func summarize(latencies [][]time.Duration, took, cpu time.Duration) result {
	all := slices.Concat(latencies...)
	slices.Sort(all)
	r := result{Ops: len(all)}
	if len(all) == 0 {
		return r
	}
	r.Rate = float64(len(all)) / took.Seconds()
	r.P50 = all[len(all)/2].Seconds() * 1000
	r.P99 = all[len(all)*99/100].Seconds() * 1000
	r.ClientCPU = cpu.Seconds() * 1e6 / float64(len(all))
	return r
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// fill writes every key once, in random order.
func (w *worker) fill(ctx context.Context) (result, error) {
	order := rand.New(rand.NewPCG(7, 7)).Perm(w.spec.Keys)
	latencies := make([][]time.Duration, w.spec.Clients)
	var next atomic.Int64
	var failure atomic.Pointer[error]
	var group sync.WaitGroup
	began, cpu := time.Now(), ownCPU()
	for id := range w.spec.Clients {
		group.Go(func() {
			client := w.clients[id%len(w.clients)]
			random := rand.New(rand.NewPCG(uint64(id), 3))
			for {
				i := next.Add(1) - 1
				if int(i) >= len(order) || failure.Load() != nil {
					return
				}
				start := time.Now()
				v := sharedValues[i%int64(len(sharedValues))]
				if w.spec.Fill {
					v = value(random) // not compressible, so that disk figures mean something
				}
				if _, err := client.Put(ctx, key(order[i]), v); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				latencies[id] = append(latencies[id], time.Since(start))
			}
		})
	}
	group.Wait()
	r := summarize(latencies, time.Since(began), ownCPU()-cpu)
	if failure.Load() != nil {
		return r, *failure.Load()
	}
	return r, nil
}

// watch counts events delivered to many watchers of one prefix while clients write below it.
func (w *worker) watch(ctx context.Context) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	for i := range w.spec.Watchers {
		client := w.clients[i%len(w.clients)]
		ch := client.Watch(ctx, "w", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		select {
		case <-ch: // created
		case <-time.After(30 * time.Second):
			return result{}, fmt.Errorf("watcher %d was not created in 30 s", i)
		}
		group.Go(func() {
			for resp := range ch {
				w.events.Add(int64(len(resp.Events)))
			}
		})
	}
	began, cpu := time.Now(), ownCPU()
	r, err := w.measure(ctx, func(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
		_, err := c.Put(ctx, "w"+key(random.IntN(1000)), "v")
		return err
	})
	if err != nil {
		return r, err
	}
	// What was written is to arrive: wait for the rest, within a bound.
	expected := int64(r.Ops) * int64(w.spec.Watchers)
	for limit := time.Now().Add(30 * time.Second); w.events.Load() < expected && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	events := w.events.Load()
	r.Errors += int(max(0, expected-events))
	r.Ops = int(events)
	r.Rate = float64(events) / time.Since(began).Seconds()
	r.ClientCPU = (ownCPU() - cpu).Seconds() * 1e6 / float64(max(1, events))
	cancel()
	group.Wait()
	return r, nil
}

// keepAlive renews one lease per client as fast as the answers come.
func (w *worker) keepAlive(ctx context.Context) (result, error) {
	streams := make([]pb.Lease_LeaseKeepAliveClient, w.spec.Clients)
	leases := make([]int64, w.spec.Clients)
	for id := range streams {
		client := w.clients[id%len(w.clients)]
		grant, err := client.Grant(ctx, 600)
		if err != nil {
			return result{}, err
		}
		leases[id] = int64(grant.ID)
		if streams[id], err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx); err != nil {
			return result{}, err
		}
	}
	return w.measure(ctx, func(_ context.Context, _ *clientv3.Client, id, _ int, _ *rand.Rand) error {
		if err := streams[id].Send(&pb.LeaseKeepAliveRequest{ID: leases[id]}); err != nil {
			return err
		}
		resp, err := streams[id].Recv()
		if err == nil && resp.TTL <= 0 {
			err = fmt.Errorf("lease %x is gone", leases[id])
		}
		return err
	})
}
