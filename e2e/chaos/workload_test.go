package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

const (
	registers = 8
	patience  = 800 * time.Millisecond // of a client with one request
	leaseTTL  = 2                      // seconds

	leasedKeys = 6 // of a client, at a time
)

func registerKey(i int) []byte { return fmt.Appendf(nil, "r/%d", i) }

func registerKeys() (keys []string) {
	for i := range registers {
		keys = append(keys, string(registerKey(i)))
	}
	return keys
}

var registerSpan = kv.Span{Start: []byte("r/"), End: []byte("r0")}

// recorder takes down what clients do. Safe for concurrent use.
type recorder struct {
	began   time.Time
	cluster *cluster
	keys    keyspace
	lease   atomic.Int64

	mu         sync.Mutex
	operations []history.Operation
	revision   atomic.Int64 // the highest that was seen

	positions []*atomic.Int64 // up to where each watcher has delivered
}

func (r *recorder) now() time.Duration { return time.Since(r.began) }

func (r *recorder) add(o history.Operation) {
	if o.Response != nil {
		r.sawRevision(o.Response.Revision)
	}
	r.mu.Lock()
	r.operations = append(r.operations, o)
	r.mu.Unlock()
}

func (r *recorder) sawRevision(seen kv.Revision) {
	for {
		before := r.revision.Load()
		if before >= int64(seen) || r.revision.CompareAndSwap(before, int64(seen)) {
			return
		}
	}
}

// worker is one client: it does one thing after the other, each at some node.
type worker struct {
	*recorder
	number  int
	random  *rand.Rand
	clients []*clientv3.Client // by node
	values  int
	seen    map[string]kv.KeyValue // the last it saw of each register
	leases  []kv.LeaseID           // granted to it, perhaps ended
	think   time.Duration
	avoid   []time.Duration // nodes that failed, until when
}

func newWorker(r *recorder, number int, seed uint64, think time.Duration) (*worker, error) {
	w := &worker{recorder: r, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), seen: map[string]kv.KeyValue{}, think: think,
		avoid: make([]time.Duration, len(r.cluster.nodes))}
	for _, n := range r.cluster.nodes {
		client, err := newClient(n.clientURL)
		if err != nil {
			return nil, err
		}
		w.clients = append(w.clients, client)
	}
	return w, nil
}

func (w *worker) close() {
	for _, c := range w.clients {
		c.Close()
	}
}

// run works until the context ends. What is under way then is finished.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.one()
		if w.think > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(w.random.Int64N(int64(2 * w.think)))):
			}
		}
	}
}

// one does one operation at a random node.
func (w *worker) one() {
	switch n := w.random.IntN(100); {
	case n < 12:
		w.transfer()
	case n < 88:
		w.do(w.request(n))
	case n < 92:
		w.grant()
	case n < 96 && len(w.leases) > 0:
		id := w.anyLease()
		w.do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{
			Key: fmt.Appendf(nil, "l/%d/%d", w.number, w.random.IntN(leasedKeys)), Value: w.value(), Lease: id}})
	case n < 99 && len(w.leases) > 0:
		w.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: w.anyLease()}})
	case len(w.leases) > 0:
		w.do(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: w.anyLease()}})
	}
}

func (w *worker) value() []byte {
	w.values++
	return fmt.Appendf(nil, "w%d-%d", w.number, w.values)
}

func (w *worker) anyLease() kv.LeaseID {
	recent := w.leases[max(0, len(w.leases)-3):]
	return recent[w.random.IntN(len(recent))]
}

func (w *worker) request(n int) *kv.Request {
	key := registerKey(w.random.IntN(registers))
	one := kv.Span{Start: key}
	switch {
	case n < 30:
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: w.value(), PrevKV: n < 20}}
	case n < 45:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: one}}
	case n < 52:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: registerSpan, Serializable: true}}
	case n < 59:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: registerSpan, Limit: int64(w.random.IntN(2) * 3)}}
	case n < 63:
		old := kv.Revision(w.revision.Load()) - kv.Revision(w.random.IntN(20))
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: registerSpan, Revision: max(1, old)}}
	case n < 70:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: one, PrevKV: n < 66}}
	case n < 71:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("r/2"), End: []byte("r/5")}}}
	case n < 74:
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
			Success: []kv.Op{{Range: &kv.RangeRequest{Span: one}}, {Range: &kv.RangeRequest{Span: registerSpan}}}}}
	case n < 80:
		return w.several(key)
	}
	return w.compareAndSwap(key)
}

// several writes more than one key at once, and reads what it wrote.
func (w *worker) several(key []byte) *kv.Request {
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{
		{Put: &kv.PutRequest{Key: key, Value: w.value(), PrevKV: true}},
		{Put: &kv.PutRequest{Key: besideOf(key), Value: w.value()}},
		{Range: &kv.RangeRequest{Span: registerSpan}},
	}}}
}

// besideOf is the key that is written together with a register; of several shards mostly in another one.
func besideOf(register []byte) []byte { return fmt.Appendf(nil, "x/%s", register) }

// compareAndSwap changes a register if it still is as this client saw it last.
func (w *worker) compareAndSwap(key []byte) *kv.Request {
	last := w.seen[string(key)]
	c := kv.Compare{Span: kv.Span{Start: key}, Target: kv.CompareMod, Integer: int64(last.ModRevision)}
	switch w.random.IntN(3) {
	case 0:
		c = kv.Compare{Span: kv.Span{Start: key}, Target: kv.CompareVersion, Integer: last.Version}
	case 1:
		if len(last.Value) > 0 {
			c = kv.Compare{Span: kv.Span{Start: key}, Target: kv.CompareValue, Value: last.Value}
		}
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
		Compare: []kv.Compare{c},
		Success: []kv.Op{{Put: &kv.PutRequest{Key: key, Value: w.value()}}},
		Failure: []kv.Op{{Range: &kv.RangeRequest{Span: kv.Span{Start: key}}}},
	}}
}

func (w *worker) grant() {
	id := kv.LeaseID(w.lease.Add(1) + 1000)
	o := w.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: leaseTTL}})
	if o.Outcome == history.Acknowledged {
		w.leases = append(w.leases, id)
	}
}

// choose picks a node, mostly one that did not disappoint this client a moment ago.
func (w *worker) choose() int {
	at := w.random.IntN(len(w.clients))
	for range 4 {
		if w.now() >= w.avoid[at] || w.random.IntN(20) == 0 {
			break
		}
		at = w.random.IntN(len(w.clients))
	}
	return at
}

// do sends a request to some node and takes down what becomes of it.
func (w *worker) do(r *kv.Request) history.Operation {
	at := w.choose()
	n := w.cluster.nodes[at]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	process := int(n.process.Load())
	o := history.Operation{Client: w.number, Node: at, Request: r, Invoke: w.now()}
	o.Response, o.Err = send(ctx, w.clients[at], r)
	o.Return = w.now()
	if process == int(n.process.Load()) {
		o.Process = process
	}
	switch {
	case o.Err == nil:
		w.learn(&o)
	case refused(o.Err):
		o.Outcome = history.Refused
		if errors.Is(o.Err, rpctypes.ErrLeaseNotFound) {
			o.Err = kv.ErrLeaseNotFound
		}
	default:
		o.Outcome = history.Unknown
		w.avoid[at] = w.now() + 400*time.Millisecond
	}
	w.add(o)
	return o
}

// learn remembers registers for later compares.
func (w *worker) learn(o *history.Operation) {
	note := func(kvs []kv.KeyValue) {
		for _, e := range kvs {
			w.seen[string(e.Key)] = e
		}
	}
	switch o.Request.Kind {
	case kv.KindRange:
		note(o.Response.Range.KVs)
	case kv.KindTxn:
		for _, one := range o.Response.Txn.Responses {
			if one.Range != nil {
				note(one.Range.KVs)
			}
		}
	}
}

func send(ctx context.Context, client *clientv3.Client, r *kv.Request) (*kv.Response, error) {
	answer := &kv.Response{Kind: r.Kind}
	switch r.Kind {
	case kv.KindLeaseGrant:
		return sendGrant(ctx, client, r.LeaseGrant)
	case kv.KindLeaseKeepAlive:
		got, err := client.KeepAliveOnce(ctx, clientv3.LeaseID(r.LeaseKeepAlive.ID))
		if err != nil {
			return nil, err
		}
		answer.Revision = kv.Revision(got.Revision)
		answer.LeaseKeepAlive = &kv.LeaseKeepAliveResponse{ID: kv.LeaseID(got.ID), TTLSeconds: got.TTL}
		return answer, nil
	case kv.KindLeaseRevoke:
		got, err := client.Revoke(ctx, clientv3.LeaseID(r.LeaseRevoke.ID))
		if err != nil {
			return nil, err
		}
		answer.Revision = kv.Revision(got.Header.Revision)
		return answer, nil
	}
	got, err := client.Do(ctx, toOp(r))
	if err != nil {
		return nil, err
	}
	return fromResponse(r.Kind, got), nil
}
