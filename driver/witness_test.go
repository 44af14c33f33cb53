package driver

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// TestLossWithoutWitnesses: two of three nodes come back from old copies, or with nothing, while the third, which knows better, is away. Nobody who
// is there can tell, so acknowledged keys are gone; the nodes say who might know better.
func TestLossWithoutWitnesses(t *testing.T) {
	for _, empty := range []bool{false, true} {
		c := servingCluster(t, 3, false, time.Millisecond, nil)
		c.run(2*time.Second, nil)
		type image struct {
			log    *storage.MemoryLog
			memory *storage.Memory
		}
		var images []image
		for _, n := range c.nodes[:2] {
			images = append(images, image{n.log.Image(), n.memory.Image(diskFiles{})})
		}
		done := false
		put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}
		c.leader().replica.Propose(put, nil, func(_ *kv.Response, _ uint64, err error) { done = err == nil })
		c.await("a write", func() bool { return done })
		c.run(2*time.Second, nil)
		told := map[kv.NodeID]string{}
		for _, n := range c.nodes {
			n.crash()
		}
		for i, n := range c.nodes[:2] {
			if empty {
				n.empty()
				n.disk += 10
			} else {
				n.log, n.memory = images[i].log, images[i].memory
			}
		}
		for _, n := range c.nodes[:2] {
			n.start(func(o *Options) {
				o.Listener.Unwitnessed = func(missing []kv.NodeID) { told[n.id] = fmt.Sprint(missing) }
			})
		}
		c.await("that both are told", func() bool { return len(told) == 2 })
		want := fmt.Sprint([]kv.NodeID{3})
		for _, n := range c.nodes[:2] {
			if told[n.id] != want || fmt.Sprint(n.driver.Unwitnessed()) != want {
				t.Errorf("empty %v: node %d is told %q, says %v", empty, n.id, told[n.id], n.driver.Unwitnessed())
			}
			if resp, err := n.replica.Read(rangeRequest("k")); err != nil || len(resp.Range.KVs) > 0 {
				t.Errorf("empty %v: the write is not lost at node %d: %v, %v", empty, n.id, resp, err)
			}
		}
	}
}
