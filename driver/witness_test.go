package driver

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestLossWithoutWitnesses: two of three nodes come back from old copies, or with nothing, while the third, which knows better, is away. Nobody who
// is there can tell, so acknowledged keys are gone; the nodes say who might know better.
func TestLossWithoutWitnesses(t *testing.T) {
	for _, empty := range []bool{false, true} {
		w := newWorld(t, worldOptions{seed: 1, nodes: 3})
		startAll(t, w)
		if !w.run(5*time.Second, w.whole) {
			t.Fatalf("the cluster does not begin: %v", w.err)
		}
		w.run(2*time.Second, nil)
		var images []*memoryDisks
		for _, n := range w.nodes[:2] {
			disks := n.disks.(*memoryDisks)
			images = append(images, &memoryDisks{n, disks.log.Image(), disks.engine.Image(diskFiles{})})
		}
		done := false
		put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}
		w.leader().replica.Propose(put, nil, func(_ *kv.Response, _ uint64, err error) { done = err == nil })
		if !w.run(2*time.Second, func() bool { return done }) {
			t.Fatal("a write is not answered")
		}
		w.run(2*time.Second, nil)
		told := map[kv.NodeID]string{}
		w.nodes[2].crash()
		for i, n := range w.nodes[:2] {
			if empty {
				n.wipe(false)
			} else {
				n.crash()
				n.disks = images[i]
			}
		}
		for _, n := range w.nodes[:2] {
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			n.driver.opts.Listener.Unwitnessed = func(missing []kv.NodeID) { told[n.id] = fmt.Sprint(missing) }
		}
		// The oracle finds the loss, of course.
		for steps, end := 0, w.now+10*time.Second; w.now < end && steps < 100_000 && len(told) < 2; steps++ {
			w.err = nil
			w.run(10*time.Millisecond, nil)
		}
		w.err = nil
		want := fmt.Sprint([]kv.NodeID{3})
		for _, n := range w.nodes[:2] {
			if told[n.id] != want || fmt.Sprint(n.driver.Unwitnessed()) != want {
				t.Errorf("empty %v: node %d is told %q, says %v", empty, n.id, told[n.id], n.driver.Unwitnessed())
			}
		}
	}
}
