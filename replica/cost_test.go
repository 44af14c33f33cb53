package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// cost is what a write takes in the steady state, of the whole cluster.
type cost struct {
	Frames, FrameBytes, Syncs float64
	Latency                   time.Duration // on the network of the fixture
}

// writeCost measures writes that come one after the other.
func writeCost(t *testing.T, o worldOptions) (c cost) {
	w := newWorld(t, o)
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	if !w.run(5*time.Second, func() bool { return w.leader() != nil && w.leader().replica.LeaseValid() }) {
		t.Fatal("nobody leads: ", w.describe())
	}
	w.net.jitter = 1
	w.run(time.Second, nil)
	leader := w.leader()
	syncs := func() (sum float64) {
		for _, n := range w.nodes {
			sum += float64(n.store.metrics.syncs.Load())
		}
		return sum
	}
	const puts = 100
	w.net.counted, w.net.countedBytes = 0, 0
	before, began := syncs(), w.now
	for i := range puts {
		answered := false
		leader.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: fmt.Appendf(nil, "%0256d", i)}}, nil,
			func(_ *kv.Response, _ uint64, err error) {
				if err != nil {
					t.Fatal(err)
				}
				answered = true
			})
		for limit := w.now + time.Second; !answered && w.now < limit && w.err == nil; {
			w.step(100 * time.Microsecond)
		}
		if w.err != nil || !answered {
			t.Fatal("a put was not answered: ", w.err, w.describe())
		}
	}
	c.Latency = (w.now - began) / puts
	w.run(500*time.Millisecond, nil) // notices that follow
	c.Frames, c.FrameBytes, c.Syncs = float64(w.net.counted)/puts, float64(w.net.countedBytes)/puts, (syncs()-before)/puts
	return c
}

// TestPaxosCostsWhatRaftDoes: in the steady state both need one round trip and one sync on each node, and no more
// messages or bytes than the other.
func TestPaxosCostsWhatRaftDoes(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		raft := writeCost(t, worldOptions{seed: 1, nodes: nodes, inflight: 1})
		paxos := writeCost(t, worldOptions{seed: 1, nodes: nodes, inflight: 1, paxos: &paxosQuorums{}})
		t.Logf("%d nodes: raft %+v, paxos %+v", nodes, raft, paxos)
		if paxos.Frames > 1.05*raft.Frames || paxos.FrameBytes > 1.05*raft.FrameBytes || paxos.Syncs > 1.05*raft.Syncs || paxos.Latency > raft.Latency+raft.Latency/20 {
			t.Errorf("%d nodes: a write costs %+v with Paxos and %+v with Raft", nodes, paxos, raft)
		}
		if most := float64(nodes) * 1.05; paxos.Syncs > most || raft.Syncs > most {
			t.Errorf("%d nodes: %.2f and %.2f syncs a write", nodes, raft.Syncs, paxos.Syncs)
		}
	}
}
