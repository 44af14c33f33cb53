package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// opened is what OpenRange returns.
type opened struct {
	Listing
	err error
}

// open begins a list at a node, while the cluster goes on.
func open(c *cluster, node kv.NodeID, r *kv.RangeRequest) opened {
	result := make(chan opened, 1)
	go func() {
		l, err := c.nodes[node].gateway.OpenRange(context.Background(), &kv.Request{Kind: kv.KindRange, Range: r})
		result <- opened{l, err}
	}()
	for {
		c.deliver()
		for id := kv.NodeID(1); id <= 3; id++ {
			c.nodes[id].apply()
		}
		select {
		case o := <-result:
			return o
		default:
		}
	}
}

// whole reads a list to its end, in random portions.
func whole(t *testing.T, random *rand.Rand, l Listing) *kv.RangeResponse {
	t.Helper()
	all := &kv.RangeResponse{}
	for {
		kvs, err := l.Next(1+random.Int64N(500), nil)
		if err != nil {
			t.Fatal(err)
		}
		all.KVs = append(all.KVs, kvs...)
		ended, err := l.Ended()
		if err != nil {
			t.Fatal(err)
		}
		if ended {
			break
		}
	}
	var err error
	if all.Count, err = l.Count(nil); err != nil {
		t.Fatal(err)
	}
	all.More = l.More()
	return all
}

func putAt1(t *testing.T, c *cluster, key, value string) {
	t.Helper()
	failed := errors.New("not answered")
	c.nodes[1].gateway.Submit(&Call{
		Req:  &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}},
		Done: func(_ *kv.Response, err error) { failed = err },
	})
	c.nodes[1].apply()
	if failed != nil {
		t.Fatal(failed)
	}
}

// TestListsAgainstReads: a list in portions is what a read at once answers, with all its options, at leaders and followers.
func TestListsAgainstReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	c := newCluster(t, Options{Limits: Limits{MaxCalls: 2}})
	c.elect(1)
	c.nodes[1].apply()
	for i := range 60 {
		putAt1(t, c, fmt.Sprintf("k%02d", random.IntN(30)), fmt.Sprint(i))
	}
	ends := [][]byte{[]byte("k2"), []byte("k"), []byte("l"), {0}, []byte("k05")}
	for i := range 300 {
		r := &kv.RangeRequest{
			Span: kv.Span{Start: ends[random.IntN(len(ends))], End: ends[random.IntN(len(ends))]}, KeysOnly: random.IntN(3) == 0,
			Limit: []int64{0, 1, 3, 29, 30, 31, 1<<63 - 1, 1<<63 - 2}[random.IntN(8)], Revision: kv.Revision(random.IntN(65)), Serializable: random.IntN(4) == 0,
		}
		node := kv.NodeID(1 + random.IntN(3))
		l := open(c, node, r)
		want, err := c.nodes[node].Read(&kv.Request{Kind: kv.KindRange, Range: r})
		if !errors.Is(l.err, err) {
			t.Fatalf("%d: %+v at node %d: %v, want %v", i, r, node, l.err, err)
		}
		if err != nil {
			continue
		}
		if got := whole(t, random, l); len(got.KVs)+len(want.Range.KVs) > 0 && !reflect.DeepEqual(got, want.Range) || got.Count != want.Range.Count || l.Revision() != want.Revision {
			t.Fatalf("%d: %+v at node %d, revision %d:\n%+v, want\n%+v", i, r, node, l.Revision(), got, want.Range)
		}
		l.Close()
	}
	// Lists that are open are calls in flight.
	r := &kv.RangeRequest{Span: kv.Span{Start: []byte("k"), End: []byte("l")}, Serializable: true}
	first, second := open(c, 1, r), open(c, 1, r)
	if third := open(c, 1, r); !errors.Is(third.err, kv.ErrTooManyRequests) {
		t.Errorf("a third list of two: %v", third.err)
	}
	first.Close()
	if again := open(c, 1, r); again.err != nil {
		t.Error(again.err)
	} else {
		again.Close()
	}
	second.Close()
	if n := c.nodes[1].gateway.Metrics().CallsInFlight; n != 0 {
		t.Errorf("%d calls are in flight", n)
	}
}

// TestLeaseEndsWhileFreezing: another leader acknowledges a write while the old one freezes its state for a list. The list has the write.
func TestLeaseEndsWhileFreezing(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	for _, n := range c.nodes {
		n.apply()
	}
	putAt1(t, c, "k", "old")
	old, answer := c.nodes[1], ""
	old.onView = func() {
		old.onView = nil
		c.elect(2)
		c.nodes[2].apply()
		c.nodes[2].gateway.Submit(&Call{
			Req:  &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("new")}},
			Done: func(resp *kv.Response, err error) { answer = responseText(resp, err) },
		})
		c.nodes[2].apply()
	}
	result := make(chan opened, 1)
	go func() {
		l, err := old.gateway.OpenRange(context.Background(), &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k"), End: []byte("l")}}})
		result <- opened{l, err}
	}()
	var l opened
	for done := false; !done; {
		select {
		case l = <-result:
			done = true
		default:
			c.deliver()
			old.apply()
		}
	}
	if l.err != nil || answer != "revision 3" {
		t.Fatalf("%v; the write: %q", l.err, answer)
	}
	defer l.Close()
	if all := whole(t, rand.New(rand.NewPCG(1, 1)), l); len(all.KVs) != 1 || string(all.KVs[0].Value) != "new" {
		t.Fatalf("the list is %+v", all)
	}
}
