package liveness

import (
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Two processes of node 2 run at the same time and speak to node 1 in turn. Node 1 is bound to the first until its promise has ended,
// whatever the second one says, and no epoch spans both.
func TestTwoProcessesOfOneNode(t *testing.T) {
	core := func(self, peer kv.NodeID, instance uint64) *Core {
		c, err := New(Options{Self: self, Instance: instance, Peers: []kv.NodeID{peer}, HeartbeatInterval: 100 * time.Millisecond, PromiseDuration: 300 * time.Millisecond}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	supporter, first, second := core(1, 2, 10), core(2, 1, 20), core(2, 1, 30)
	beat := func(holder *Core, at time.Duration) {
		holder.Advance(at)
		for _, m := range holder.Ready().Messages {
			if err := supporter.Receive(at, 2, m.Message); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range supporter.Ready().Messages {
			if m.Message.Kind == KindPromise {
				if err := holder.Receive(at, 1, m.Message); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := supporter.Check(); err != nil {
			t.Fatal(err)
		}
	}
	restarted := func(at time.Duration) bool {
		supporter.Advance(at)
		return slices.Contains(supporter.Ready().Restarted, 2)
	}
	const start = time.Second
	beat(first, start)
	epoch, until := first.Support(1)
	for at := start + 50*time.Millisecond; at < start+time.Second; at += 50 * time.Millisecond {
		beat(second, at)
		bound, counts := supporter.Supporting(at, 2, 20), at < until
		if counts && !bound || bound != (at < start+300*time.Millisecond) {
			t.Fatalf("at %v: the first process counts on the promise: %v; node 1 is bound to it: %v", at, counts, bound)
		}
		if !supporter.Supporting(at, 2, 30) || !supporter.Supporting(at, 2, 0) {
			t.Fatalf("at %v node 1 is not bound to the second process", at)
		}
		if got := restarted(at); got != (at == start+300*time.Millisecond) {
			t.Fatalf("at %v: the restart is reported: %v", at, got)
		}
	}
	beat(first, start+time.Second)
	if again, _ := first.Support(1); again == epoch {
		t.Fatalf("the promise after the second process was heard is of the epoch of the one before, %v", epoch)
	}
}
