package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestRandomFaults runs clients on all nodes while leaders change, connections break and frames are lost. Every
// call is answered once; a write takes effect exactly once if it was acknowledged, at most once if its outcome
// is unknown, and never if it was refused; a linearizable read sees everything acknowledged before it began.
func TestRandomFaults(t *testing.T) {
	var unknown int64
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { unknown += runRandomFaults(t, seed, nil) })
		t.Run(fmt.Sprint(seed, " as of revisions"), func(t *testing.T) { unknown += runRandomFaults(t, seed, &appliedAnywhere{}) })
	}
	// How many a single run has depends on how the machine schedules it.
	if unknown == 0 && !t.Failed() {
		t.Error("no run had a write of unknown outcome: the faults do not hit")
	}
}

// appliedAnywhere takes for issued what any node has applied: whatever was answered is, and what is evaluated later gets a higher revision. The one shard
// is clean: whoever has applied that has everything below.
type appliedAnywhere struct {
	cluster *cluster
	answers sync.WaitGroup
}

func (a *appliedAnywhere) Known() (highest kv.Revision) {
	for _, n := range a.cluster.nodes {
		highest = max(highest, n.Revision())
	}
	return highest
}

func (a *appliedAnywhere) Hear(kv.Revision) {}

func (a *appliedAnywhere) Multi(_ []kv.ShardID, got func(kv.Revision, error)) { got(0, kv.ErrStopped) }

func (a *appliedAnywhere) Now() (kv.Present, bool) {
	highest := a.Known()
	return kv.Present{Revision: highest}, highest%2 == 0
}

func (a *appliedAnywhere) Learn(shards []kv.ShardID, got func(kv.Present, error)) {
	a.answers.Go(func() {
		highest := a.Known()
		if highest%16 == 1 {
			got(kv.Present{}, kv.ErrNoLeader)
			return
		}
		got(kv.Present{Revision: highest, Shards: slices.Repeat([]kv.ShardProgress{{Last: highest, Clean: highest%4 != 1}}, len(shards))}, nil)
	})
}

type written struct {
	value   string
	err     error
	answers int
}

// runRandomFaults returns how many writes had an unknown outcome.
func runRandomFaults(t *testing.T, seed uint64, revisions *appliedAnywhere) int64 {
	options := Options{Limits: Limits{MaxFrameBytes: 200}}
	if revisions != nil {
		options.Revisions = revisions
	}
	c := newCluster(t, options)
	if revisions != nil {
		revisions.cluster = c
		speakNewest(c)
		defer revisions.answers.Wait()
	}
	var writes [6][]*written
	var acknowledged, reads, unknown atomic.Int64 // acknowledged: the highest revision so far
	var clients sync.WaitGroup
	for i := range writes {
		clients.Add(1)
		go func() {
			defer clients.Done()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for j := range 150 {
				gateway := c.nodes[kv.NodeID(1+random.IntN(3))].gateway
				if random.IntN(3) > 0 {
					w := &written{value: fmt.Sprintf("%d.%d", i, j)}
					writes[i] = append(writes[i], w)
					resp := call(gateway, &w.answers, &w.err, &kv.Request{Kind: kv.KindPut,
						Put: &kv.PutRequest{Key: []byte("k"), Value: []byte(w.value)}})
					if w.err == nil {
						raise(&acknowledged, int64(resp.Revision))
					} else if errors.Is(w.err, kv.ErrOutcomeUnknown) {
						unknown.Add(1)
					}
					continue
				}
				before := acknowledged.Load()
				var answers int
				var err error
				resp := call(gateway, &answers, &err, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}})
				if err != nil && !errors.Is(err, kv.ErrTimeout) {
					t.Errorf("read: %v", err)
				}
				if err == nil {
					reads.Add(1)
					if int64(resp.Revision) < before {
						t.Errorf("read at revision %d although %d was acknowledged before", resp.Revision, before)
					}
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	c.elect(1)
	misbehave([]*cluster{c}, rand.New(rand.NewPCG(seed, 100)), done)
	if t.Failed() {
		return 0
	}
	c.settle()
	history := c.values(t)
	for _, all := range writes {
		for _, w := range all {
			count := len(history[w.value])
			switch {
			case w.answers != 1:
				t.Fatalf("write %s was answered %d times", w.value, w.answers)
			case w.err == nil && count != 1, count > 1:
				t.Fatalf("write %s (%v) took effect %d times, at %v", w.value, w.err, count, history[w.value])
			case errors.Is(w.err, kv.ErrNotLeader):
				t.Fatalf("write %s ended with %v", w.value, w.err)
			case w.err != nil && !errors.Is(w.err, kv.ErrOutcomeUnknown) && !errors.Is(w.err, kv.ErrTimeout) && count > 0:
				t.Fatalf("write %s (%v) took effect", w.value, w.err)
			}
		}
	}
	if reads.Load() == 0 || acknowledged.Load() < 100 {
		t.Fatalf("too little happened: %d reads, revision %d", reads.Load(), acknowledged.Load())
	}
	for _, n := range c.nodes {
		if m := n.gateway.Metrics(); m.CallsInFlight != 0 || m.QueuedCalls != 0 || m.SentCalls != 0 || m.ForwardedBytes != 0 {
			t.Fatalf("node %d holds calls that have ended: %+v", n.id, m)
		}
	}
	return unknown.Load()
}

func call(g *Gateway, answers *int, err *error, req *kv.Request) *kv.Response {
	answered := make(chan *kv.Response, 2)
	g.Submit(&Call{Req: req, Done: func(resp *kv.Response, e error) {
		*answers++
		*err = e
		answered <- resp
	}})
	return <-answered
}

func raise(to *atomic.Int64, value int64) {
	for {
		have := to.Load()
		if have >= value || to.CompareAndSwap(have, value) {
			return
		}
	}
}

func (c *cluster) tick(by time.Duration) {
	c.now += by
	for id := kv.NodeID(1); id <= 3; id++ {
		c.nodes[id].gateway.Tick(c.now)
	}
}

// settle heals everything and lets it come to rest.
func (c *cluster) settle() {
	c.mu.Lock()
	clear(c.block)
	c.mu.Unlock()
	for range 10 {
		c.deliver()
		for _, node := range c.nodes {
			node.apply()
			node.gateway.reading.wait()
		}
		c.tick(time.Second)
	}
}

// values tells at which revisions each value was written.
func (c *cluster) values(t *testing.T) map[string][]kv.Revision {
	view := c.nodes[1].View()
	defer view.Close()
	out := map[string][]kv.Revision{}
	for revision := kv.Revision(2); revision <= view.Revision(); revision++ {
		row, found, err := view.Get([]byte("k"), revision)
		if err != nil || !found {
			t.Fatalf("revision %d: %v %v", revision, found, err)
		}
		out[string(row.Value)] = append(out[string(row.Value)], row.ModRevision)
	}
	return out
}

// TestWheelAgainstList compares the wheel with looking at every call.
func TestWheelAgainstList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 3))
		var w wheel
		var list []*Call
		now := time.Duration(0)
		for range 300 {
			switch random.IntN(3) {
			case 0:
				c := &Call{expires: now + time.Duration(random.IntN(20_000)-100)*time.Millisecond}
				w.add(c)
				list = append(list, c)
			case 1:
				if len(list) > 0 {
					i := random.IntN(len(list))
					w.remove(list[i])
					w.remove(list[i])
					list = slices.Delete(list, i, i+1)
				}
			case 2:
				now += time.Duration(random.IntN(3000)) * time.Millisecond
				if random.IntN(20) == 0 {
					now += time.Minute
				}
				expired := w.advance(now)
				kept := list[:0]
				for _, c := range list {
					if c.expires <= now != slices.Contains(expired, c) {
						t.Fatalf("seed %d: at %v a call that expires at %v: expired %v", seed, now, c.expires, slices.Contains(expired, c))
					}
					if c.expires > now {
						kept = append(kept, c)
					}
				}
				list = kept
			}
			if len(w.all()) != len(list) {
				t.Fatalf("seed %d: %d calls instead of %d", seed, len(w.all()), len(list))
			}
		}
	}
}

// TestLeaseEndsWhileReading: what was read before the lease was found to be over is not an answer.
func TestLeaseEndsWhileReading(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	for _, n := range c.nodes {
		n.apply()
	}
	old := c.nodes[1]
	var put, got string
	old.onRead = func() {
		// While the old leader reads, another takes over and acknowledges a write.
		old.onRead = nil
		c.elect(2)
		c.nodes[2].apply()
		c.nodes[2].gateway.Submit(&Call{
			Req:  &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("new")}},
			Done: func(resp *kv.Response, err error) { put = responseText(resp, err) },
		})
		c.nodes[2].apply()
	}
	old.gateway.Submit(&Call{
		Req:  &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}},
		Done: func(resp *kv.Response, err error) { got = responseText(resp, err) },
	})
	if put != "revision 2" || got != "" {
		t.Fatalf("put %q, and the read was answered at once with %q", put, got)
	}
	c.deliver()
	old.apply()
	if got != "revision 2: k=new@2" {
		t.Fatalf("read %q", got)
	}
}
