package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// firstByte is a map of shards: the first byte of a key, which is a digit, is the number of its shard.
type firstByte struct{}

func (firstByte) Route(req *kv.Request) (kv.ShardID, error) {
	switch {
	case req.Put != nil:
		return kv.ShardID(req.Put.Key[0] - '0'), nil
	case req.Range != nil && req.Range.Span.Start[0] == 0 || req.Range != nil && len(req.Range.Span.End) == 1 && req.Range.Span.End[0] > req.Range.Span.Start[0]+1:
		return 0, fmt.Errorf("shards 1 and 2: %w", kv.ErrManyShards)
	case req.Range != nil:
		return kv.ShardID(req.Range.Span.Start[0] - '0'), nil
	case req.Txn != nil:
		return 0, fmt.Errorf("a transaction touches two shards: %w", kv.ErrInvalidRequest)
	}
	return kv.SystemShard, nil
}

// Touched implements route.Spread for spans over both shards.
func (firstByte) Touched(*kv.Request) []kv.ShardID { return []kv.ShardID{1, 2} }

// twoShards are clusters of two shards on the same nodes. The first one has the gateways and the frames.
func twoShards(t testing.TB, options Options) (first, second *cluster) {
	first, second = newReplicas(t), newReplicas(t)
	options.Router = firstByte{}
	first.open(func(kv.NodeID) Options { return options }, map[kv.ShardID]*cluster{2: second})
	return first, second
}

// exchangeBoth has everything that is on its way arrive, and be applied in both shards.
func exchangeBoth(first, second *cluster) {
	for range 4 {
		first.exchange()
		for _, n := range second.nodes {
			n.apply()
		}
	}
}

// result is what became of a call.
type result struct {
	resp    *kv.Response
	err     error
	answers int
}

func submit(g *Gateway, req *kv.Request) *result {
	r := &result{}
	g.Submit(&Call{Req: req, Done: func(resp *kv.Response, err error) { r.resp, r.err, r.answers = resp, err, r.answers+1 }})
	return r
}

func get(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
}

// TestShardsAreToldApart: two shards whose links give the same ids to their calls and barriers, led by two nodes or by one. Each call is answered by
// its own shard.
func TestShardsAreToldApart(t *testing.T) {
	for _, leaders := range [][2]kv.NodeID{{1, 1}, {1, 3}, {3, 1}} {
		first, second := twoShards(t, Options{})
		speakNewest(first)
		first.elect(leaders[0])
		second.elect(leaders[1])
		exchangeBoth(first, second)
		for range 5 { // revisions tell the shards apart
			if r := submit(first.nodes[leaders[1]].gateway, put("2z", 1)); r.answers > 0 {
				t.Fatalf("%v", r.err)
			}
		}
		exchangeBoth(first, second)
		at := first.nodes[2].gateway
		one, two := submit(at, put("1a", 1)), submit(at, put("2a", 1))
		getOne, getTwo := submit(at, get("1a")), submit(at, get("2z"))
		exchangeBoth(first, second)
		for what, r := range map[string]struct {
			*result
			revision kv.Revision
			keys     int
		}{"put of shard 1": {one, 2, -1}, "put of shard 2": {two, 7, -1}, "get of shard 1": {getOne, 2, 1}, "get of shard 2": {getTwo, 7, 1}} {
			if r.answers != 1 || r.err != nil || r.resp.Revision != r.revision || r.keys >= 0 && len(r.resp.Range.KVs) != r.keys {
				t.Errorf("leaders %v, %s: %d answers, %v, %+v", leaders, what, r.answers, r.err, r.resp)
			}
		}
		if r := submit(at, writeTxn(putOp("1a"), putOp("2a"))); r.answers != 1 || !errors.Is(r.err, kv.ErrInvalidRequest) {
			t.Errorf("what no shard can answer: %v", r.err)
		}
		if first.nodes[1].gateway.Metrics().RefusedCalls != 0 {
			t.Error("requests were refused")
		}
	}
}

// TestShardNotHere: what is for a shard without a replica here is refused by name, and nothing is touched: requests of clients, watches, frames of
// other nodes. Whoever asked from elsewhere is told.
func TestShardNotHere(t *testing.T) {
	var bad []error
	first := newReplicas(t)
	first.open(func(kv.NodeID) Options {
		return Options{Router: firstByte{}, Listener: Listener{BadMessage: func(_ kv.NodeID, err error) { bad = append(bad, err) }}}
	}, nil)
	first.elect(1)
	first.exchange()
	g := first.nodes[1].gateway
	for what, req := range map[string]*kv.Request{"put": put("2a", 1), "get": get("2a")} {
		if r := submit(g, req); r.answers != 1 || !errors.Is(r.err, kv.ErrShardNotHere) {
			t.Errorf("a client's %s: %d answers, %v", what, r.answers, r.err)
		}
	}
	if _, err := g.OpenRange(context.Background(), get("2a")); !errors.Is(err, kv.ErrShardNotHere) {
		t.Errorf("a list: %v", err)
	}
	before := len(first.log)
	for _, test := range []struct {
		what    string
		payload []byte
		want    error
	}{
		{"a request", requestFrame(2, 5, put("2a", 1)), kv.ErrShardNotHere},
		{"a timed request", timedFrame(2, 5, 1000, put("2a", 1)), kv.ErrShardNotHere},
		{"a request of another shard in the frame of this one", timedFrame(1, 5, 1000, put("2a", 1)), kv.ErrShardNotHere},
		{"a barrier", barrierFrame(2, 5), kv.ErrShardNotHere},
		{"a request of the shard that is here", timedFrame(1, 5, 1000, put("", 1)), nil},
	} {
		bad = nil
		refused := g.Metrics().RefusedCalls
		g.HandleMessage(2, ChannelRequest, test.payload)
		told := first.outcomes(t, 2)
		if len(told) != 1 || told[0].id != 5 || !told[0].head.Numbered || test.want != nil && !errors.Is(told[0].err, test.want) {
			t.Errorf("%s: told %+v", test.what, told)
		}
		if now := g.Metrics().RefusedCalls; now != refused+1 {
			t.Errorf("%s: %d refused", test.what, now-refused)
		}
		if foreign := len(told) == 1 && told[0].head.Shard == 2; foreign != (len(bad) == 1 && errors.Is(bad[0], kv.ErrShardNotHere)) {
			t.Errorf("%s: reported %v", test.what, bad)
		}
	}
	if len(first.log) != before {
		t.Error("something was proposed")
	}
	bad = nil
	head := link.Head{Instance: g.options.Instance, Shard: 2, Numbered: true}
	g.HandleMessage(2, ChannelResponse, link.AppendAnswer(nil, head, 1, link.Outcome{Err: kv.ErrNotLeader}))
	if len(bad) != 1 || !errors.Is(bad[0], kv.ErrShardNotHere) {
		t.Errorf("an answer of a shard that is not here: %v", bad)
	}
	stream, err := g.NewWatchStream("", kv.Credential{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if id, err := stream.Create(context.Background(), watch.CreateRequest{Span: kv.Span{Start: []byte("2a")}}); err != nil || id != watch.NoID {
		t.Errorf("a watch: %v, %v", id, err)
	}
	if batch, err := stream.Poll(); err != nil || batch == nil || !errors.Is(batch.Err, kv.ErrShardNotHere) {
		t.Errorf("a watch: %+v, %v", batch, err)
	}
	g.LeaderChanged(2) // which is nobody's
}

// TestWatched: watches get the changes of the shard that the options name, and no others; the gateway must hold it.
func TestWatched(t *testing.T) {
	first, second := twoShards(t, Options{Watched: 2})
	speakNewest(first)
	first.elect(1)
	second.elect(1)
	exchangeBoth(first, second)
	g := first.nodes[1].gateway
	stream, err := g.NewWatchStream("", kv.Credential{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ctx := context.Background()
	if id, err := stream.Create(ctx, watch.CreateRequest{Span: kv.Span{Start: []byte("1a")}}); err != nil || id != watch.NoID {
		t.Errorf("a watch of a shard that is not watched: %v, %v", id, err)
	}
	if id, err := stream.Create(ctx, watch.CreateRequest{Span: kv.Span{Start: []byte("2a")}}); err != nil || id == watch.NoID {
		t.Errorf("a watch of the shard that is: %v, %v", id, err)
	}
	submit(g, put("1a", 1))
	submit(g, put("2a", 1))
	exchangeBoth(first, second)
	var keys []string
	for events := 0; events == 0; {
		batch, err := stream.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.Events {
			events++
			keys = append(keys, string(e.Event(false).KV.Key))
		}
	}
	if len(keys) != 1 || keys[0] != "2a" {
		t.Errorf("watches got %q", keys)
	}
	if _, err := New(Options{Self: 1, Sender: first.nodes[1], Watched: 3, Shards: map[kv.ShardID]Shard{1: first.nodes[1]}}); err == nil {
		t.Error("a gateway watches a shard that it does not hold")
	}
}

// TestShardGone: the node that leads by all that this one knows has no replica of the shard. Calls and reads hear of it at once.
func TestShardGone(t *testing.T) {
	first, second := newReplicas(t), newReplicas(t)
	delete(second.nodes, 1)
	first.open(func(kv.NodeID) Options { return Options{Router: firstByte{}} }, map[kv.ShardID]*cluster{2: second})
	speakNewest(first)
	second.elect(1)
	for what, req := range map[string]*kv.Request{"put": put("2a", 1), "get": get("2a")} {
		r := submit(first.nodes[2].gateway, req)
		first.exchange()
		if r.answers != 1 || !errors.Is(r.err, kv.ErrShardNotHere) {
			t.Errorf("%s: %d answers, %v", what, r.answers, r.err)
		}
	}
	if m := first.nodes[2].gateway.Metrics(); m.CallsInFlight+int64(m.QueuedCalls+m.SentCalls+m.ForwardedBytes) != 0 {
		t.Errorf("%+v", m)
	}
}

// TestOlderNodes: a node of an older version is sent frames of the old form, which are of the system shard, and none of another one.
func TestOlderNodes(t *testing.T) {
	first, second := twoShards(t, Options{RequestTimeout: time.Second})
	first.elect(1)
	second.elect(1)
	exchangeBoth(first, second)
	for _, dialect := range []Dialect{{}, {Deadlines: true}} {
		first.nodes[2].gateway.PeerUp(1, dialect)
		put1, get1, put2 := submit(first.nodes[2].gateway, put("1a", 1)), submit(first.nodes[2].gateway, get("1a")), submit(first.nodes[2].gateway, put("2a", 1))
		if len(first.frames) != 2 {
			t.Fatalf("%+v: %d frames", dialect, len(first.frames))
		}
		for _, f := range first.frames {
			if q, err := link.DecodeQuestions(f.payload); err != nil || q.Numbered || q.Shard != kv.SystemShard || f.payload[0] > 6 {
				t.Errorf("%+v: a frame of kind %d: %+v, %v", dialect, f.payload[0], q.Head, err)
			}
		}
		exchangeBoth(first, second)
		if put1.err != nil || get1.err != nil || put1.answers+get1.answers != 2 || put2.answers != 0 {
			t.Errorf("%+v: %v, %v; %d answers", dialect, put1.err, get1.err, put2.answers)
		}
		first.tick(2 * time.Second)
		if put2.answers != 1 || !errors.Is(put2.err, kv.ErrTimeout) {
			t.Errorf("%+v: of the other shard: %d answers, %v", dialect, put2.answers, put2.err)
		}
	}
}

// TestCutFrames: whatever is missing at the end of a frame, it is refused as a whole and reported.
func TestCutFrames(t *testing.T) {
	var bad error
	c := newCluster(t, Options{Instance: 5, Listener: Listener{BadMessage: func(_ kv.NodeID, err error) { bad = err }}})
	c.elect(1)
	c.exchange()
	one := timedFrame(1, 1, 1000, put("a", 1))
	two := addItem(bytes.Clone(one), 2, []byte{0xff}) // the second one has no time
	answers := link.AppendAnswer(nil, link.Head{Instance: 5, Shard: 1, Numbered: true}, 1, link.Outcome{Err: kv.ErrNotLeader})
	for _, test := range []struct {
		what    string
		channel byte
		payload []byte
		whole   int // how much of it is a frame without requests or answers: its head
	}{
		{"requests", ChannelRequest, requestFrame(1, 1, put("a", 1)), 10},
		{"requests of the old form", ChannelRequest, requestFrame(0, 1, put("a", 1)), 9},
		{"timed requests", ChannelRequest, timedFrame(1, 1, 1000, put("a", 1)), 10},
		{"one of two", ChannelRequest, two, 10},
		{"barrier", ChannelRequest, barrierFrame(1, 1), -1},
		{"answers", ChannelResponse, answers, 10},
	} {
		for n := range len(test.payload) + 1 {
			if n == len(test.payload) && test.what != "one of two" {
				break
			}
			if n == test.whole || test.what == "one of two" && n == len(one) {
				continue
			}
			bad = nil
			served := c.nodes[1].gateway.Metrics().ServedCalls
			c.nodes[1].gateway.HandleMessage(2, test.channel, test.payload[:n])
			if bad == nil || c.nodes[1].gateway.Metrics().ServedCalls != served || len(c.frames) != 0 {
				t.Errorf("%s cut after %d bytes: reported %v", test.what, n, bad)
			}
		}
	}
	for channel, kind := range map[byte]byte{ChannelRequest: 3, ChannelResponse: 1, 9: 1} {
		bad = nil
		if c.nodes[1].gateway.HandleMessage(2, channel, frameHead(kind, 5, 1)); bad == nil {
			t.Errorf("kind %d on channel %d is not reported", kind, channel)
		}
	}
}

// TestIdleLinks: what happens to a node is looked at for the busy links alone.
func TestIdleLinks(t *testing.T) {
	second := newReplicas(t)
	others := map[kv.ShardID]*cluster{}
	for shard := kv.ShardID(2); shard < 1000; shard++ {
		others[shard] = second
	}
	c := newReplicas(t)
	c.open(func(kv.NodeID) Options { return Options{Router: firstByte{}} }, others)
	speakNewest(c)
	c.elect(1)
	second.elect(1)
	exchangeBoth(c, second)
	g := c.nodes[2].gateway
	if busy := g.links.areBusy(); len(busy) != 0 {
		t.Fatalf("%d links are busy", len(busy))
	}
	calls := []*result{submit(g, put("3a", 1)), submit(g, get("4a")), submit(g, put("3b", 1))}
	if busy := g.links.areBusy(); len(busy) != 2 {
		t.Fatalf("%d links are busy, want 2", len(busy))
	}
	exchangeBoth(c, second)
	for i, r := range calls {
		if r.answers != 1 || r.err != nil {
			t.Errorf("call %d: %d answers, %v", i, r.answers, r.err)
		}
	}
	c.tick(20 * time.Millisecond)
	if busy := g.links.areBusy(); len(busy) != 0 {
		t.Fatalf("afterwards %d links are busy", len(busy))
	}
}

// BenchmarkTick: one operation is a tick of a gateway with so many idle links, and the end and return of a connection.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newReplicas(b)
			others := map[kv.ShardID]*cluster{}
			for shard := range n - 1 {
				others[kv.ShardID(shard+2)] = c
			}
			c.open(func(kv.NodeID) Options { return Options{} }, others)
			c.elect(1)
			g := c.nodes[2].gateway
			for b.Loop() {
				c.now += 20 * time.Millisecond
				g.Tick(c.now)
				g.PeerDown(1)
				g.PeerUp(1, Dialect{Deadlines: true, Shards: true})
			}
		})
	}
}

// TestCatchUp: a replica has caught up when it has applied what the leader of its shard says.
func TestCatchUp(t *testing.T) {
	first, second := twoShards(t, Options{})
	speakNewest(first)
	first.elect(1)
	g := first.nodes[3].gateway
	if err := g.CatchUp(context.Background(), 3); !errors.Is(err, kv.ErrShardNotHere) {
		t.Errorf("a shard that is not here: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- g.CatchUp(context.Background(), 2) }()
	for g.Metrics().CallsInFlight == 0 {
		first.exchange()
	}
	if exchangeBoth(first, second); len(done) > 0 {
		t.Fatal("a shard without a leader")
	}
	second.elect(2)
	for range 100_000 {
		select {
		case err := <-done:
			if err != nil || second.nodes[3].machine.AppliedIndex() == 0 {
				t.Errorf("%v, applied %d", err, second.nodes[3].machine.AppliedIndex())
			}
			return
		default:
			g.LeaderChanged(2)
			exchangeBoth(first, second)
		}
	}
	t.Fatal("never")
}
