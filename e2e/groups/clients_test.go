package groups

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

const (
	keysPerGroup = 6
	patience     = time.Second
	leaseSeconds = 600 // longer than a run: no lease ends by itself
)

// recorder takes down what the clients of all groups asked and were answered.
type recorder struct {
	cluster *cluster
	began   time.Time

	mu         sync.Mutex
	operations map[consensus.GroupID][]history.Operation
	answered   map[consensus.GroupID]int
	changed    chan struct{} // closed, and replaced, when there is one more
}

func newRecorder(c *cluster) *recorder {
	return &recorder{cluster: c, began: time.Now(), operations: make(map[consensus.GroupID][]history.Operation), answered: make(map[consensus.GroupID]int), changed: make(chan struct{})}
}

func (r *recorder) now() time.Duration { return time.Since(r.began) }

func (r *recorder) add(group consensus.GroupID, o history.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations[group] = append(r.operations[group], o)
	if o.Outcome == history.Acknowledged {
		r.answered[group]++
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// progress waits until every group has had so many more requests answered.
func (r *recorder) progress(ctx context.Context, more int) error {
	r.mu.Lock()
	want := make(map[consensus.GroupID]int)
	for _, group := range r.cluster.processes[0].config.Groups {
		want[group] = r.answered[group] + more
	}
	r.mu.Unlock()
	for {
		r.mu.Lock()
		changed := r.changed
		for group := range want {
			if r.answered[group] >= want[group] {
				delete(want, group)
			}
		}
		r.mu.Unlock()
		if len(want) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("groups that got no %d more answers, and how many they wait for in all: %v", more, want)
		}
	}
}

// client is one client of a group, which does one thing after the other, each at some node. The clients of all groups use the same keys and
// the same IDs of leases: whatever comes from another group shows.
type client struct {
	*recorder
	group  consensus.GroupID
	number int
	random *rand.Rand
	leases *atomic.Int64 // IDs that were taken, of the group
	own    []kv.LeaseID
	seen   map[string]kv.KeyValue
	values int
	node   int
}

// run works until the context ends; what is under way then is finished.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.cluster.await(ctx)
		c.do(c.request())
	}
}

func (c *client) value() []byte {
	c.values++
	return fmt.Appendf(nil, "g%d-%d-%d", c.group, c.number, c.values)
}

func allKeys() kv.Span { return kv.Span{Start: []byte("k"), End: []byte("l")} }

func (c *client) request() *kv.Request {
	key := fmt.Appendf(nil, "k%d", c.random.IntN(keysPerGroup))
	one := kv.Span{Start: key}
	switch n := c.random.IntN(100); {
	case n < 30:
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: c.value(), PrevKV: n < 10}}
	case n < 45:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: one}}
	case n < 50:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: allKeys(), Serializable: n < 47}}
	case n < 60:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: one, PrevKV: true}}
	case n < 62:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("k1"), End: []byte("k3")}}}
	case n < 70:
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{
			{Put: &kv.PutRequest{Key: key, Value: c.value()}}, {Put: &kv.PutRequest{Key: []byte("x"), Value: c.value()}}, {Range: &kv.RangeRequest{Span: allKeys()}}}}}
	case n < 88 || len(c.own) == 0 && n < 98:
		return c.compareAndSwap(key)
	case n < 96:
		key[0] = 'l' // registers end by nobody's lease
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: c.value(), Lease: c.own[c.random.IntN(len(c.own))]}}
	case n < 98:
		lease := c.own[0]
		c.own = c.own[1:]
		return &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: lease}}
	}
	return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: kv.LeaseID(c.leases.Add(1)), TTLSeconds: leaseSeconds}}
}

// compareAndSwap changes a key if it still is as this client saw it last.
func (c *client) compareAndSwap(key []byte) *kv.Request {
	last := c.seen[string(key)]
	compare := kv.Compare{Span: kv.Span{Start: key}, Target: kv.CompareMod, Integer: int64(last.ModRevision)}
	if len(last.Value) > 0 && c.random.IntN(2) == 0 {
		compare = kv.Compare{Span: kv.Span{Start: key}, Target: kv.CompareValue, Value: last.Value}
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
		Compare: []kv.Compare{compare},
		Success: []kv.Op{{Put: &kv.PutRequest{Key: key, Value: c.value()}}},
		Failure: []kv.Op{{Range: &kv.RangeRequest{Span: kv.Span{Start: key}}}},
	}}
}

// do sends a request to some node and takes down what becomes of it.
func (c *client) do(request *kv.Request) {
	if c.random.IntN(20) == 0 {
		c.move()
	}
	p := c.cluster.processes[c.node]
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	start := p.starts.Load()
	o := history.Operation{Client: c.number, Node: c.node, Request: request, Invoke: c.now()}
	o.Response, o.Err = p.do(ctx, c.group, request)
	o.Return = c.now()
	if start == p.starts.Load() {
		o.Process = int(start)
	}
	if o.Outcome = history.OutcomeOf(o.Err); o.Err == nil {
		c.learn(&o)
	} else {
		c.move()
	}
	if errors.Is(o.Err, errNotRunning) {
		return // nothing was asked
	}
	c.add(c.group, o)
}

// move turns to another node.
func (c *client) move() { c.node = (c.node + 1 + c.random.IntN(size-1)) % size }

// learn remembers what may be compared later, and leases.
func (c *client) learn(o *history.Operation) {
	note := func(r *kv.RangeResponse) {
		for i := range r.KVs {
			c.seen[string(r.KVs[i].Key)] = r.KVs[i]
		}
	}
	switch o.Request.Kind {
	case kv.KindRange:
		note(o.Response.Range)
	case kv.KindTxn:
		for _, one := range o.Response.Txn.Responses {
			if one.Range != nil {
				note(one.Range)
			}
		}
	case kv.KindLeaseGrant:
		c.own = append(c.own, o.Request.LeaseGrant.ID)
	}
}
