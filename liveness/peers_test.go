package liveness

import (
	"errors"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// A node that is a peer no more is neither heard nor told anything, and what was promised to it binds until it has ended. One that is new is one like any other.
func TestPeersChange(t *testing.T) {
	const start, promise = time.Second, 300 * time.Millisecond
	c, err := New(Options{Self: 1, Instance: 10, Peers: []kv.NodeID{3}, HeartbeatInterval: 100 * time.Millisecond, PromiseDuration: promise}, start)
	if err != nil {
		t.Fatal(err)
	}
	beats := func(at time.Duration) (to []kv.NodeID) {
		c.Advance(at)
		for _, m := range c.Ready().Messages {
			if m.Message.Kind == KindHeartbeat {
				to = append(to, m.To)
			}
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		return to
	}
	hear := func(at time.Duration, from kv.NodeID, seq uint64) error {
		return c.Receive(at, from, Message{Kind: KindHeartbeat, Instance: 30, Seq: seq})
	}
	if got := beats(start); len(got) != 1 || got[0] != 3 {
		t.Fatalf("heartbeats to %v", got)
	}
	if err := hear(start, 3, 1); err != nil {
		t.Fatal(err)
	}
	c.SetPeers(start+50*time.Millisecond, []kv.NodeID{2})
	if got := beats(start + 100*time.Millisecond); len(got) != 1 || got[0] != 2 {
		t.Errorf("heartbeats to %v, and node 2 is the only peer", got)
	}
	if err := hear(start+100*time.Millisecond, 3, 2); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("who is no peer is heard: %v", err)
	}
	if err := hear(start+100*time.Millisecond, 2, 1); err != nil {
		t.Errorf("who is new is not heard: %v", err)
	}
	for _, at := range []time.Duration{start + promise - 1, start + promise} {
		beats(at)
		if bound := c.Supporting(at, 3, 30); bound != (at < start+promise) {
			t.Errorf("at %v it is bound to what was promised: %v", at, bound)
		}
	}
	if c.peer(3) != nil {
		t.Error("who is gone is never forgotten")
	}
	if !c.Alive(2) || c.Alive(3) {
		t.Error("alive is who was removed, or not who was added")
	}
}
