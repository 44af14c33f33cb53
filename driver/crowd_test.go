package driver

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestCrowdedGroupsHaveOneRoundEach: a group that is alone has two rounds in flight; one that comes beside it has one, until nobody else has any.
func TestCrowdedGroupsHaveOneRoundEach(t *testing.T) {
	c := idleCluster(t, 9, false)
	n := c.leader()
	var led []*driven
	for _, r := range n.driver.order {
		if r.leading {
			led = append(led, r)
		}
	}
	if len(led) < 2 {
		t.Fatalf("the node leads %d groups", len(led))
	}
	first, second := led[0], led[1]
	asked, answered := 0, 0
	put := func(r *driven, inflight, queued int) {
		t.Helper()
		asked++
		r.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, nil, func(_ *kv.Response, _ uint64, err error) {
			if err != nil {
				t.Error(err)
			}
			answered++
		})
		for n.driver.Round() {
		}
		if err := n.driver.Check(); err != nil {
			t.Fatal(err)
		}
		if r.inflight != inflight || r.queue.len() != queued {
			t.Fatalf("%d rounds are in flight and %d requests queued, not %d and %d", r.inflight, r.queue.len(), inflight, queued)
		}
	}
	c.latency = time.Second // nothing is answered meanwhile
	put(first, 1, 0)
	put(first, 2, 0)
	put(first, 2, 1)
	put(second, 1, 0)
	put(second, 1, 1)
	c.latency = 0
	for end := c.now + 10*time.Second; answered < asked && c.now < end; {
		c.step(time.Millisecond)
	}
	if answered != asked {
		t.Fatalf("%d of %d were answered", answered, asked)
	}
	c.latency = time.Second
	put(second, 1, 0)
	put(second, 2, 0)
}

// TestCrowdedGroupsGather: what clients of several groups bring as soon as they are answered goes into one entry of each group, with what was queued meanwhile.
func TestCrowdedGroupsGather(t *testing.T) {
	for _, groups := range []int{1, 2} {
		c := idleCluster(t, 9, false)
		n := c.leader()
		var led []*driven
		for _, r := range n.driver.order {
			if r.leading && len(led) < groups {
				led = append(led, r)
			}
		}
		c.latency = 100 * time.Microsecond
		before, answered := n.driver.metrics.proposals.Load(), 0
		for _, r := range led {
			var put func()
			put = func() {
				r.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, nil, func(_ *kv.Response, _ uint64, err error) {
					if err != nil {
						t.Error(err)
					}
					if answered++; answered < 1000*groups {
						put()
					}
				})
			}
			put()
			for n.driver.Round() {
			}
			for range 9 {
				put()
			}
		}
		for end := c.now + 10*time.Second; answered < 1000*groups && c.now < end; {
			c.step(50 * time.Microsecond)
		}
		perEntry := float64(answered) / float64(n.driver.metrics.proposals.Load()-before)
		t.Logf("%d groups: %.2f puts an entry", groups, perEntry)
		if groups > 1 && perEntry < 9 {
			t.Errorf("%d groups with 10 clients each: %.2f puts an entry", groups, perEntry)
		}
	}
}
