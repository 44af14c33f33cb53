package gateway

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// A keep-alive that the log has covered is answered by the leader without it, for its own clients and for those of other nodes, but only while
// nobody else can lead.
func TestRenewalsWithoutTheLog(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	c.exchange()
	do := func(at kv.NodeID, req *kv.Request) *kv.Response {
		t.Helper()
		var got *kv.Response
		var failed error
		answered := false
		c.nodes[at].gateway.Submit(&Call{Req: req, Done: func(resp *kv.Response, err error) { got, failed, answered = resp, err, true }})
		c.exchange()
		if !answered || failed != nil {
			t.Fatalf("answered: %v, error %v", answered, failed)
		}
		return got
	}
	keepAlive := &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 7}}
	do(1, &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: 7, TTLSeconds: 10}})
	c.lease = false
	do(1, keepAlive) // in the log, ahead of time
	do(2, put("k", 1))

	for _, test := range []struct {
		at      kv.NodeID
		lease   bool
		entries int
	}{{1, true, 0}, {2, true, 0}, {1, false, 1}, {2, false, 1}, {3, true, 0}} {
		c.lease = test.lease
		before := len(c.log)
		resp := do(test.at, keepAlive)
		if resp.LeaseKeepAlive.TTLSeconds != 10 || resp.LeaseKeepAlive.ID != 7 || resp.Revision != 2 {
			t.Errorf("%+v: answered %+v at revision %d", test, resp.LeaseKeepAlive, resp.Revision)
		}
		if got := len(c.log) - before; got != test.entries {
			t.Errorf("%+v: %d entries", test, got)
		}
	}
	if n := c.nodes[1].gateway.Metrics().LocalRenewals; n != 3 {
		t.Errorf("%d renewals without the log, want 3", n)
	}
}
