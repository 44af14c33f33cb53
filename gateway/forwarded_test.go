package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// forward has node 1, the leader, take a request in node 2's name, as whoever reaches its port could send it, and returns the answer.
func forward(t *testing.T, c *cluster, from kv.NodeID, req *kv.Request) (answered bool, err error) {
	t.Helper()
	c.nodes[1].gateway.HandleMessage(from, ChannelRequest, requestFrame(0, 1, req))
	for range 2 {
		c.nodes[1].apply()
	}
	for _, o := range c.outcomes(t, from) {
		if answered || o.id != 1 || o.barrier {
			t.Fatalf("answered before: %v; now %+v", answered, o)
		}
		answered, err = true, o.err
	}
	return answered, err
}

func put(key string, valueBytes int) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: bytes.Repeat([]byte("v"), valueBytes)}}
}

func writeTxn(ops ...kv.Op) *kv.Request {
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: ops}}
}

func putOp(key string) kv.Op { return kv.Op{Put: &kv.PutRequest{Key: []byte(key)}} }

// What a node forwards is held to the limits and rules that a client's request is held to where it arrives.
func TestForwardedRequestsAreValidated(t *testing.T) {
	limits := shard.Limits{MaxTxnOps: 4, MaxRequestBytes: 1000}
	c := newCluster(t, Options{
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, limits) },
		Limits:          Limits{MaxTxnOps: limits.MaxTxnOps},
	})
	c.elect(1)
	c.nodes[1].apply()
	for _, test := range []struct {
		what string
		req  *kv.Request
		want error
	}{
		{"a put", put("k", 10), nil},
		{"a key of 20 MiB", put(string(make([]byte, 20<<20)), 0), kv.ErrRequestTooLarge},
		{"a put without a key", put("", 1), kv.ErrEmptyKey},
		{"duplicate keys", writeTxn(putOp("a"), putOp("a")), kv.ErrDuplicateKey},
		{"an empty operation in a put's place", writeTxn(kv.Op{Put: &kv.PutRequest{}}), kv.ErrEmptyKey},
		{"too many operations", writeTxn(putOp("a"), putOp("b"), putOp("c"), putOp("d"), putOp("e")), kv.ErrTooManyOps},
		{"a read", &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}, kv.ErrInvalidRequest},
		{"a transaction that reads", writeTxn(kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}), kv.ErrInvalidRequest},
		{"a disk for another node", &kv.Request{Kind: kv.KindAssignReplica, AssignReplica: &kv.AssignReplicaRequest{Node: 3, Disk: 9, First: 3}}, kv.ErrInvalidRequest},
		{"a roster", &kv.Request{Kind: kv.KindSetRoster, SetRoster: &kv.Roster{Version: 1, Seats: []kv.Seat{{Node: 1, Role: kv.SeatVoter}}}}, kv.ErrInvalidRequest},
		{"another node's record", &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: 3}}, kv.ErrInvalidRequest},
		{"its own record", &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: 2}}, nil},
		{"leases", &kv.Request{Kind: kv.KindLeaseLeases}, nil},
	} {
		before := len(c.log)
		answered, err := forward(t, c, 2, test.req)
		if !answered || !errors.Is(err, test.want) {
			t.Errorf("%s: answered: %v, %v, want %v", test.what, answered, err, test.want)
		}
		if test.want != nil && len(c.log) != before {
			t.Errorf("%s was proposed", test.what)
		}
	}
	if got := c.nodes[1].gateway.Metrics().RefusedCalls; got != 10 {
		t.Errorf("%d requests were counted as refused", got)
	}
}

// A node has as much in flight at the leader as it may take from its own clients, and no node takes another's share.
func TestForwardedRequestsAreLimited(t *testing.T) {
	for _, test := range []struct {
		what   string
		limits Limits
	}{
		{"calls", Limits{MaxCalls: 3}},
		{"bytes", Limits{MaxForwardedBytes: 3500}},
	} {
		c := newCluster(t, Options{Limits: test.limits})
		c.elect(1)
		c.nodes[1].apply()
		send := func(from kv.NodeID, id uint64) {
			c.nodes[1].gateway.HandleMessage(from, ChannelRequest, requestFrame(0, id, put(fmt.Sprint("k", id), 1000)))
		}
		for id := range uint64(5) {
			send(2, id)
		}
		send(3, 1)
		if got := c.nodes[1].gateway.Metrics(); got.ServedCalls != 4 || got.RefusedCalls != 2 {
			t.Errorf("%s: of 5 and 1 requests %d were served and %d refused", test.what, got.ServedCalls, got.RefusedCalls)
		}
		c.nodes[1].apply()
		send(2, 6)
		if got := c.nodes[1].gateway.Metrics(); got.ServedCalls != 5 {
			t.Errorf("%s: after the answers there is no room again: %d were served", test.what, got.ServedCalls)
		}
	}
}

// purse is a kv.Memory that counts.
type purse struct{ used, most, limit int64 }

func (p *purse) Reserve(bytes int64) bool {
	if p.used+bytes > p.limit {
		return false
	}
	p.used += bytes
	p.most = max(p.most, p.used)
	return true
}

func (p *purse) Release(bytes int64) {
	if p.used -= bytes; p.used < 0 {
		panic("more is given back than was taken")
	}
}

// What another node's requests hold here is paid for by that node, within a limit for each request, and given back with the answer.
func TestForwardedRequestsArePaidFor(t *testing.T) {
	node2 := &purse{limit: 1 << 20}
	c := newCluster(t, Options{
		Limits: Limits{MaxAnswerBytes: 64 << 10},
		GuestMemory: func(node kv.NodeID) kv.Memory {
			if node == 2 {
				return node2
			}
			return &purse{}
		},
	})
	c.elect(1)
	c.nodes[1].apply()
	many := func(n int) *kv.Request {
		r := writeTxn()
		for i := range n {
			r.Txn.Success = append(r.Txn.Success, putOp(fmt.Sprint("k", i)))
		}
		return r
	}
	for _, test := range []struct {
		what  string
		from  kv.NodeID
		limit int64
		req   *kv.Request
		want  error
	}{
		{"a transaction", 2, 1 << 20, many(200), nil},
		{"one that is larger than the node's memory", 2, 1 << 20, many(5000), kv.ErrTooManyRequests},
		{"one for which the node has no memory left", 2, 10 << 10, many(200), kv.ErrTooManyRequests},
		{"a small one of a node without any", 3, 0, many(1), nil},
		{"a larger one of a node without any", 3, 0, many(200), kv.ErrTooManyRequests},
	} {
		node2.limit, node2.most = test.limit, 0
		before := len(c.log)
		answered, err := forward(t, c, test.from, test.req)
		if !answered || !errors.Is(err, test.want) {
			t.Errorf("%s: answered: %v, %v, want %v", test.what, answered, err, test.want)
		}
		if test.want != nil && len(c.log) != before {
			t.Errorf("%s was proposed", test.what)
		}
		if node2.used != 0 || node2.most > 1<<20 || test.from == 2 && test.want == nil && node2.most == 0 {
			t.Errorf("%s: %d bytes were reserved at most, %d still are", test.what, node2.most, node2.used)
		}
	}
	large := put("large", 100_000)
	large.Put.PrevKV = true
	node2.limit = 1 << 20
	for _, want := range []error{nil, kv.ErrOutcomeUnknown} { // an answer that is larger than any may be
		if answered, err := forward(t, c, 2, large); !answered || !errors.Is(err, want) {
			t.Errorf("a large put: answered: %v, %v, want %v", answered, err, want)
		}
	}
	if got := c.largest; got > 70_000 {
		t.Errorf("%d bytes were encoded", got)
	}
	l := &loan{lender: node2}
	l.repay()
	if l.Release(5); l.Reserve(1) || node2.used != 0 {
		t.Error("a request that is answered goes on reserving")
	}
}

// An answer that comes from the leader is paid for by its call, like one that is made here.
func TestAnswersOfTheLeaderArePaidFor(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	c.exchange()
	do := func(req *kv.Request) (err error) {
		c.nodes[2].gateway.Submit(&Call{Req: req, Done: func(_ *kv.Response, failed error) { err = failed }})
		c.deliver()
		c.exchange()
		return err
	}
	memory := &purse{limit: 10_000}
	replace := put("k", 5000)
	replace.Put.PrevKV, replace.Memory = true, memory
	for _, want := range []error{nil, nil, kv.ErrOutcomeUnknown} { // without a previous value, with one, and with another for which there is no room
		if err := do(replace); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if memory.used < 5000 {
		t.Errorf("%d bytes are reserved", memory.used)
	}
}
