package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// TestFormerProcessEnds: when a promise to an earlier process of a node ends, only who followed that one lets go. Nodes of an older version
// do not say which process leads; what this node has promised to the present one it keeps.
func TestFormerProcessEnds(t *testing.T) {
	const promise = 300 * time.Millisecond
	for _, test := range []struct {
		name         string
		followsFirst bool // before the second process was heard
		followed     kv.NodeID
	}{
		{"the first process led", true, 0},
		{"the second process leads", false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Second
			live, err := liveness.New(liveness.Options{Self: 1, Peers: []kv.NodeID{2}, Instance: 1, HeartbeatInterval: 100 * time.Millisecond,
				PromiseDuration: promise, SuspectAfter: time.Second}, now)
			if err != nil {
				t.Fatal(err)
			}
			b := newBench()
			s := b.store
			s.opts.Rand = rand.New(rand.NewPCG(1, 1))
			s.live, s.order, s.clock = live, []*Replica{b.Replica}, func() time.Duration { return now }
			b.role.Role, b.leading = 0, false
			hear := func(instance, seq uint64) {
				t.Helper()
				if err := live.Receive(now, 2, liveness.Message{Kind: liveness.KindHeartbeat, Instance: instance, Seq: seq}); err != nil {
					t.Fatal(err)
				}
			}
			follow := func() { b.followed, b.followedInstance, b.followedBeat = 2, 0, live.Instance(2) }
			hear(7, 1)
			if test.followsFirst {
				follow()
			}
			now += 50 * time.Millisecond
			hear(8, 1)
			if !test.followsFirst {
				follow()
			}
			now += promise - 50*time.Millisecond // since the first process was heard
			hear(8, 2)
			live.Advance(now)
			restarted := live.Ready().Restarted
			if len(restarted) != 1 || restarted[0] != 2 {
				t.Fatalf("restarted: %v", restarted)
			}
			s.nodeLost(now, 2, true)
			if b.followed != test.followed {
				t.Fatalf("node %d is followed, want %d", b.followed, test.followed)
			}
		})
	}
}
