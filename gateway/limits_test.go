package gateway

import (
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// room is a Space with a limit.
type room struct {
	limit, held int64
	refused     []func() // who waits to be refused
	wait        bool     // let them wait
}

func (r *room) Admit(bytes int64) bool {
	if r.held+bytes > r.limit {
		return false
	}
	r.held += bytes
	return true
}

func (r *room) Answered(bytes int64) { r.held -= bytes }

func (r *room) Refuse(refuse func()) {
	if r.wait {
		r.refused = append(r.refused, refuse)
		return
	}
	refuse()
}

// TestLimitsOfTheLeader: nodes that were told different limits. A request keeps those of the node that takes it, and those of the leader.
func TestLimitsOfTheLeader(t *testing.T) {
	type limits struct {
		ops, bytes int
		room       int64
	}
	wide, narrow := limits{100, 100_000, 1 << 30}, limits{2, 3000, 2000}
	three := writeTxn(putOp("a"), putOp("b"), putOp("c"))
	remove := &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("k")}}}
	grant := func(id kv.LeaseID) *kv.Request {
		return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: 10}}
	}
	for _, test := range []struct {
		what         string
		req          *kv.Request
		taker, wants limits // of node 2, which takes it, and of node 1, which leads
		err          error
	}{
		{"operations", three, wide, wide, nil},
		{"operations", three, wide, narrow, kv.ErrTooManyOps},
		{"operations", three, narrow, wide, kv.ErrTooManyOps},
		{"size", put("k", 5000), wide, wide, nil},
		{"size", put("k", 5000), wide, narrow, kv.ErrRequestTooLarge},
		{"size", put("k", 5000), narrow, wide, kv.ErrRequestTooLarge},
		{"room", put("k", 2500), wide, wide, nil},
		{"room", put("k", 2500), wide, narrow, kv.ErrNoSpace},
		{"room", put("k", 2500), narrow, wide, kv.ErrNoSpace},
		{"room for a lease", grant(7), wide, limits{100, 100_000, 10}, kv.ErrNoSpace},
		{"deleting takes no room", remove, wide, limits{100, 100_000, 0}, nil},
		{"room for little", put("k", 10), wide, narrow, nil},
	} {
		c := newReplicas(t)
		rooms := map[kv.NodeID]*room{}
		c.open(func(id kv.NodeID) Options {
			l := test.taker
			if id == 1 {
				l = test.wants
			}
			rooms[id] = &room{limit: l.room}
			valid := shard.Limits{MaxTxnOps: l.ops, MaxRequestBytes: l.bytes}
			return Options{
				ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, valid) },
				Limits:          Limits{MaxTxnOps: l.ops}, Space: rooms[id],
			}
		}, nil)
		speakNewest(c)
		c.elect(1)
		c.exchange()
		before := len(c.log)
		r := submit(c.nodes[2].gateway, test.req)
		c.exchange()
		if r.answers != 1 || !errors.Is(r.err, test.err) {
			t.Errorf("%s, %v at %v: %d answers, %v, want %v", test.what, test.taker, test.wants, r.answers, r.err, test.err)
		}
		if proposed := len(c.log) > before; proposed != (test.err == nil) && test.req != remove { // there is nothing to be removed
			t.Errorf("%s, %v at %v: proposed %v", test.what, test.taker, test.wants, proposed)
		}
		if rooms[1].held != 0 || rooms[2].held != 0 {
			t.Errorf("%s: %d and %d bytes are held for what is answered", test.what, rooms[1].held, rooms[2].held)
		}
		refused := c.nodes[1].gateway.Metrics().RefusedCalls
		if byLeader := test.err != nil && test.wants != wide; (refused == 1) != byLeader {
			t.Errorf("%s, %v at %v: the leader refused %d", test.what, test.taker, test.wants, refused)
		}
	}
}

// TestRefusedForRoomLater: the leader refuses once the cluster has heard that there is no room. Until then the call holds what calls of its node may
// hold there, and its answer comes.
func TestRefusedForRoomLater(t *testing.T) {
	c := newReplicas(t)
	full := &room{wait: true}
	c.open(func(id kv.NodeID) Options {
		if id == 1 {
			return Options{Space: full, Limits: Limits{MaxCalls: 1}}
		}
		return Options{}
	}, nil)
	c.elect(1)
	c.exchange()
	first := submit(c.nodes[2].gateway, put("k", 1))
	c.exchange()
	second := submit(c.nodes[2].gateway, put("k", 1))
	c.exchange()
	if first.answers != 0 || second.answers != 1 || !errors.Is(second.err, kv.ErrTooManyRequests) || len(full.refused) != 1 {
		t.Fatalf("%d answers, %d answers, %v; %d wait", first.answers, second.answers, second.err, len(full.refused))
	}
	full.refused[0]()
	c.exchange()
	if first.answers != 1 || !errors.Is(first.err, kv.ErrNoSpace) {
		t.Fatalf("%d answers, %v", first.answers, first.err)
	}
	full.limit = 1 << 20
	third := submit(c.nodes[2].gateway, put("k", 1))
	c.exchange()
	if third.answers != 1 || third.err != nil || full.held != 0 {
		t.Fatalf("afterwards: %d answers, %v, %d held", third.answers, third.err, full.held)
	}
}
