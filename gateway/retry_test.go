package gateway

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// settleAll applies everything everywhere and delivers what is on the way.
func (c *cluster) settleAll() {
	for range 3 {
		for id := kv.NodeID(1); id <= 3; id++ {
			c.nodes[id].apply()
		}
		c.deliver()
	}
}

// lose takes back what the leader proposed last, and has another node lead.
func (c *cluster) lose(next kv.NodeID) {
	c.mu.Lock()
	c.log = c.log[:len(c.log)-1]
	c.mu.Unlock()
	c.elect(next)
}

func (c *cluster) evaluated() (n int) {
	for _, node := range c.nodes {
		n += node.evaluated
	}
	return n
}

var (
	cheapWrite = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}
	dearWrite  = &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{
		{Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}, {Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("a"), End: []byte("z")}}}}}}
)

// TestEvaluationsAreBounded: leaders come and go, each after it evaluated the request and before that was committed. What costs little is
// tried at one more leader, what may cost much at none; the client hears that it had no effect.
func TestEvaluationsAreBounded(t *testing.T) {
	for _, test := range []struct {
		what  string
		req   *kv.Request
		node  kv.NodeID // that has the client; 1 is the first leader
		wants int
	}{
		{"a put at the leader", cheapWrite, 1, 2},
		{"a put elsewhere", cheapWrite, 3, 2},
		{"a transaction that reads a range, at the leader", dearWrite, 1, 1},
		{"a transaction that reads a range, elsewhere", dearWrite, 3, 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := newCluster(t, Options{})
			c.elect(1)
			c.settleAll()
			answers, err := 0, error(nil)
			c.nodes[test.node].gateway.Submit(&Call{Req: test.req, Done: func(_ *kv.Response, failed error) { answers, err = answers+1, failed }})
			for leader := range 6 {
				c.deliver()
				if answers > 0 {
					break
				}
				c.lose(kv.NodeID(2 - leader%2))
				c.settleLeader()
			}
			if answers != 1 || !errors.Is(err, kv.ErrLeaderChanged) {
				t.Fatalf("%d answers, %v", answers, err)
			}
			if n := c.evaluated(); n != test.wants {
				t.Errorf("evaluated %d times, want %d", n, test.wants)
			}
			c.settleAll()
			if revision := c.nodes[2].Revision(); revision != 1 {
				t.Errorf("it had an effect: the store is at revision %d", revision)
			}
		})
	}
}

// settleLeader lets the nodes apply the log, and what they are to do next arrive; what the leader then proposes is not applied.
func (c *cluster) settleLeader() {
	for id := kv.NodeID(1); id <= 3; id++ {
		c.nodes[id].apply()
	}
	c.deliver()
	c.tick(50 * time.Millisecond)
}

// TestLostLeadershipIsTriedOnce: the second leader stays, and the put succeeds there.
func TestLostLeadershipIsTriedOnce(t *testing.T) {
	for _, node := range []kv.NodeID{1, 3} {
		c := newCluster(t, Options{})
		c.elect(1)
		c.settleAll()
		answers, err := 0, error(nil)
		c.nodes[node].gateway.Submit(&Call{Req: cheapWrite, Done: func(_ *kv.Response, failed error) { answers, err = answers+1, failed }})
		c.deliver()
		c.lose(2)
		c.settleLeader()
		c.settleAll()
		if answers != 1 || err != nil || c.evaluated() != 2 {
			t.Errorf("node %d: %d answers, %v, evaluated %d times", node, answers, err, c.evaluated())
		}
	}
}

// TestDeadlineTravels: a request that waits at the leader longer than its client does is not evaluated there, wherever it came from.
func TestDeadlineTravels(t *testing.T) {
	for _, test := range []struct {
		node   kv.NodeID
		timed  bool // its node tells the leader how much time is left
		cancel bool
		wants  int
	}{
		{node: 1, wants: 0},
		{node: 1, cancel: true, wants: 0},
		{node: 3, timed: true, wants: 0},
		{node: 3, timed: false, wants: 1}, // an older leader, or an older node, goes by the longest time that a request has
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			c := newCluster(t, Options{})
			c.elect(1)
			c.settleAll()
			if test.timed {
				c.nodes[3].gateway.PeerUp(1, Dialect{Deadlines: true})
			}
			var held []func()
			c.nodes[1].held = &held
			answers, err := 0, error(nil)
			call := &Call{Req: cheapWrite, Deadline: time.Now().Add(time.Second), Done: func(_ *kv.Response, failed error) { answers, err = answers+1, failed }}
			c.nodes[test.node].gateway.Submit(call)
			c.deliver()
			if len(held) != 1 || answers != 0 {
				t.Fatalf("%d requests wait at the leader, %d answers", len(held), answers)
			}
			wanted := kv.ErrTimeout
			if test.cancel {
				wanted = kv.ErrCanceled
				c.nodes[test.node].gateway.Cancel(call)
			} else {
				c.tick(1500 * time.Millisecond)
			}
			c.nodes[1].held = nil
			held[0]()
			c.settleAll()
			if answers != 1 || !errors.Is(err, wanted) || c.evaluated() != test.wants {
				t.Errorf("%d answers, %v, evaluated %d times", answers, err, c.evaluated())
			}
		})
	}
}

// TestLateRequest: what comes after its deadline is not even begun.
func TestLateRequest(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	c.settleAll()
	for _, req := range []*kv.Request{cheapWrite, {Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}} {
		var err error
		c.nodes[1].onRead = func() { t.Error("it was read") }
		c.nodes[1].gateway.Submit(&Call{Req: req, Deadline: time.Now().Add(-time.Millisecond), Done: func(_ *kv.Response, failed error) { err = failed }})
		if !errors.Is(err, kv.ErrTimeout) || c.evaluated() != 0 {
			t.Errorf("%v, evaluated %d times", err, c.evaluated())
		}
	}
}
