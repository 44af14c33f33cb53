package gateway

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestEveryCallIsAnsweredOnce: calls for two shards, of which many are canceled while they wait, are sent or are answered, or have deadlines that pass,
// while leaders change, connections break, come back with another version, and frames are lost. Every call is answered once, and at the end nothing
// is counted that is not there. It is for the race detector, too.
func TestEveryCallIsAnsweredOnce(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { everyCallIsAnsweredOnce(t, seed) })
	}
}

// counted is a call whose answers are counted.
type counted struct {
	Call
	at      *Gateway
	answers atomic.Int32
	done    chan struct{}
}

func everyCallIsAnsweredOnce(t *testing.T, seed uint64) {
	rooms := &sharedRoom{}
	first, second := twoShards(t, Options{
		Limits: Limits{MaxFrameBytes: 200, MaxForwardedBytes: 4000}, LeaderGrace: 40 * time.Millisecond, RequestTimeout: time.Second, Space: rooms,
	})
	first.elect(1)
	second.elect(2)
	var clients sync.WaitGroup
	var calls [8][]*counted
	for i := range calls {
		clients.Go(func() { calls[i] = first.submitMany(rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	misbehave([]*cluster{first, second}, rand.New(rand.NewPCG(seed, 100)), done)
	for range 12 {
		clear(first.block)
		exchangeBoth(first, second)
		for _, n := range first.nodes {
			n.gateway.reading.wait()
		}
		first.tick(time.Second)
	}
	for _, list := range calls {
		for _, c := range list {
			if n := c.answers.Load(); n != 1 {
				t.Fatalf("a call of kind %d was answered %d times", c.Req.Kind, n)
			}
		}
	}
	for id, n := range first.nodes {
		if err := n.gateway.Check(); err != nil {
			t.Error(err)
		}
		m := n.gateway.Metrics()
		if m.CallsInFlight != 0 || m.QueuedCalls != 0 || m.SentCalls != 0 || m.ForwardedBytes != 0 {
			t.Errorf("node %d holds calls that have ended: %+v", id, m)
		}
		if busy := n.gateway.links.areBusy(); len(busy) != 0 {
			t.Errorf("node %d: %d links are busy", id, len(busy))
		}
		for other, g := range n.gateway.guests.nodes {
			if g != (guest{}) {
				t.Errorf("node %d serves %+v for node %d", id, g, other)
			}
		}
		if all := n.gateway.deadlines.wheel.all(); len(all) != 0 {
			t.Errorf("node %d: %d deadlines are left", id, len(all))
		}
	}
	if held := rooms.held.Load(); held != 0 {
		t.Errorf("%d bytes of room are held for what is answered", held)
	}
}

// sharedRoom is a Space that is full now and then.
type sharedRoom struct{ held, asked atomic.Int64 }

func (r *sharedRoom) Admit(bytes int64) bool {
	if r.asked.Add(1)%7 == 0 {
		return false
	}
	r.held.Add(bytes)
	return true
}

func (r *sharedRoom) Answered(bytes int64) { r.held.Add(-bytes) }
func (r *sharedRoom) Refuse(refuse func()) { refuse() }

// submitMany brings calls to all nodes, a few at a time, and cancels some of them.
func (c *cluster) submitMany(random *rand.Rand) (all []*counted) {
	var cancels sync.WaitGroup
	for i := range 300 {
		one := &counted{at: c.nodes[kv.NodeID(1+random.IntN(3))].gateway, done: make(chan struct{})}
		one.Req = randomRequest(random)
		one.Done = func(*kv.Response, error) {
			if one.answers.Add(1) == 1 {
				close(one.done)
			}
		}
		one.RequireLeader, one.MoreFollow = random.IntN(10) == 0, random.IntN(2) == 0
		if random.IntN(5) == 0 {
			one.Deadline = time.Now().Add(time.Duration(random.IntN(100)) * time.Millisecond)
		}
		one.at.Submit(&one.Call)
		if random.IntN(3) == 0 {
			cancels.Go(func() { one.at.Cancel(&one.Call) })
		}
		all = append(all, one)
		if i >= 8 {
			oldest := all[i-8]
			if random.IntN(4) == 0 {
				oldest.at.Cancel(&oldest.Call)
			}
			<-oldest.done
		}
	}
	for _, one := range all {
		<-one.done
	}
	cancels.Wait()
	return all
}

func randomRequest(random *rand.Rand) *kv.Request {
	key := fmt.Sprint(1+random.IntN(2), "k")
	switch random.IntN(8) {
	case 0, 1, 2:
		return put(key, random.IntN(300))
	case 3, 4:
		return get(key)
	case 5:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key), End: []byte(key + "z")}}}
	case 6:
		return &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 1}}
	}
	return &kv.Request{Kind: kv.KindLeaseLeases}
}

// misbehave is time, the network and consensus of shards 1, 2 and so on until the clients have finished.
func misbehave(shards []*cluster, random *rand.Rand, done chan struct{}) {
	first := shards[0] // has the frames
	for {
		select {
		case <-done:
			return
		default:
		}
		id, shard := kv.NodeID(1+random.IntN(3)), shards[random.IntN(len(shards))]
		g := first.nodes[id].gateway
		switch n := random.IntN(200); {
		case n < 2:
			shard.elect(kv.NodeID(random.IntN(4)))
		case n == 2:
			first.drop(id)
		case n == 3:
			shard.mu.Lock()
			shard.lease = !shard.lease
			shard.mu.Unlock()
		case n == 4:
			first.mu.Lock()
			first.block[id] = !first.block[id]
			first.mu.Unlock()
		case n < 10:
			g.PeerUp(kv.NodeID(1+random.IntN(3)), Dialect{Deadlines: true, Shards: random.IntN(4) > 0, Revisions: true})
		case n < 13:
			g.LeaderChanged(kv.ShardID(1 + random.IntN(len(shards))))
			_ = g.Metrics()
		case n < 30:
			first.tick(time.Duration(random.IntN(60)) * time.Millisecond)
		case n < 90:
			shard.nodes[id].applyOne()
		default:
			first.deliver()
			for _, node := range shard.nodes {
				if random.IntN(3) > 0 {
					node.apply()
				}
			}
		}
	}
}

// TestEndedWhilePutIn: a call ends, and is looked for in its link, just before it is put in there. Nobody looks for it again, so it must not stay.
func TestEndedWhilePutIn(t *testing.T) {
	for what, req := range map[string]*kv.Request{"write": put("k", 1), "read": get("k")} {
		c := newCluster(t, Options{})
		g := c.nodes[1].gateway
		l := g.links.byShard[kv.SystemShard]
		one := &Call{Req: req, Done: func(*kv.Response, error) {}}
		submitted := make(chan struct{})
		l.mu.Lock()
		go func() { g.Submit(one); close(submitted) }()
		for tracked := false; !tracked; {
			g.deadlines.mu.Lock()
			tracked = len(g.deadlines.wheel.all()) == 1
			g.deadlines.mu.Unlock()
		}
		one.finish(nil, kv.ErrCanceled)
		l.mu.Unlock()
		<-submitted
		c.tick(20 * time.Millisecond)
		if m := g.Metrics(); m.QueuedCalls != 0 || m.ForwardedBytes != 0 || len(g.links.areBusy()) != 0 {
			t.Errorf("%s: %d calls of %d bytes are queued, %d links are busy", what, m.QueuedCalls, m.ForwardedBytes, len(g.links.areBusy()))
		}
	}
}
