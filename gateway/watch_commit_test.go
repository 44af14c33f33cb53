package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// newWatchedStore is newStore, with watches over both shards. What they ask is answered at once.
func newWatchedStore(t *testing.T) (first, second *cluster, c *counter) {
	c = &counter{last: 1, issued: map[kv.ShardID]kv.Revision{1: 1, 2: 1}, unclean: map[kv.ShardID]bool{}, issuer: 1}
	first, second = newReplicasOf(t, shard.Options{Sequenced: true}), newReplicasOf(t, shard.Options{Sequenced: true, Shard: 2})
	first.counter, second.counter, first.shard, second.shard = c, c, 1, 2
	options := Options{Router: firstByte{}, Gather: joined{}}
	options.Watch.Known = func() kv.Revision { return c.last }
	options.Watch.Learn = func(shards []kv.ShardID, got func(kv.Present, error)) { got(c.present(shards), nil) }
	options.Watch.Wake = func() {}
	options.Watch.Encode = func(dst []byte, _ *kv.Event, _ bool) []byte { return dst }
	options.Watch.Shards = func(span kv.Span) (ids []kv.ShardID) {
		lower, upper := span.Bounds()
		for id, from := range []string{"1", "2"} {
			if (upper == nil || from < string(upper)) && string(lower) < string(rune(from[0]+1)) {
				ids = append(ids, kv.ShardID(id+1))
			}
		}
		return ids
	}
	first.open(func(kv.NodeID) Options { return options }, map[kv.ShardID]*cluster{2: second})
	speakNewest(first)
	first.elect(1)
	second.elect(2)
	exchangeBoth(first, second)
	return first, second, c
}

// participate has the leader of a shard answer a request about a transaction.
func participate(t *testing.T, first, second *cluster, leader *node, kind kv.Kind, body *kv.CommitRequest) *kv.CommitResponse {
	t.Helper()
	r := &result{}
	leader.Propose(&kv.Request{Kind: kind, Commit: body}, anyone{}, func(resp *kv.Response, _ uint64, err error) {
		r.resp, r.err, r.answers = resp, err, r.answers+1
	})
	exchangeBoth(first, second)
	if r.answers != 1 || r.err != nil || r.resp.Commit == nil {
		t.Fatalf("%d answers to a request of kind %d: %+v, %v", r.answers, kind, r.resp, r.err)
	}
	return r.resp.Commit
}

// events are what a stream has got, in words.
func events(t *testing.T, g *Gateway, s *watch.Stream) (got []string) {
	t.Helper()
	for range 8 { // an answer may close shards, so that more can be handed out
		for g.DispatchWatches() {
		}
	}
	for {
		b, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return got
		}
		for _, e := range b.Events {
			ev, what := e.Event(true), "put"
			if ev.Type == kv.EventDelete {
				what = "delete"
			}
			text := fmt.Sprintf("%d %s %s", ev.KV.ModRevision, what, ev.KV.Key)
			if ev.Prev != nil {
				text += fmt.Sprintf(" (%s@%d)", ev.Prev.Value, ev.Prev.ModRevision)
			}
			got = append(got, text)
		}
	}
}

// TestWatchesOfATransaction has real shards resolve a transaction, the second one late. Its events come as one revision, in the order of one store, with those
// above it behind; whether a watch got them live or from history.
func TestWatchesOfATransaction(t *testing.T) {
	first, second, c := newWatchedStore(t)
	for _, key := range []string{"1a", "2a", "2b"} {
		writeKey(t, first, second, key, "old")
	}
	g := first.nodes[3].gateway
	watchFrom := func(span kv.Span, from kv.Revision) *watch.Stream {
		s, err := g.NewWatchStream("", kv.Credential{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), watch.CreateRequest{Span: span, StartRevision: from, PrevKV: true}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	two, both := watchFrom(kv.Span{Start: []byte("2"), End: []byte("3")}, 0), watchFrom(kv.Everything(), 0)

	id := kv.TransactionID{Anchor: 1, Term: 1, Number: 1}
	body := func(of kv.ShardID) *kv.CommitRequest {
		return &kv.CommitRequest{ID: id, Shard: of, Participants: []kv.ShardID{1, 2}}
	}
	put := func(place uint32, key string) kv.PlacedOp {
		return kv.PlacedOp{Place: place, Op: kv.Op{Put: &kv.PutRequest{Key: []byte(key), Value: []byte("new")}}}
	}
	remove := kv.PlacedOp{Place: 1, Op: kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("1a"), End: []byte("2x")}}}}
	leaders := map[kv.ShardID]*node{1: first.nodes[1], 2: second.nodes[2]}
	for of, ops := range map[kv.ShardID][]kv.PlacedOp{1: {put(0, "1!"), remove, put(3, "1b")}, 2: {remove, put(2, "2a")}} {
		prepare := body(of)
		prepare.Share = &kv.Share{Ops: ops}
		if got := participate(t, first, second, leaders[of], kv.KindTxnPrepare, prepare); got.Standing != kv.StandingPrepared || !got.Writes {
			t.Fatalf("shard %d: %+v", of, got)
		}
	}
	c.last++
	revision := c.last
	c.issued[1], c.issued[2] = revision, revision
	writeKey(t, first, second, "2z", "later")
	expect := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s got %q, want %q", what, got, want)
		}
	}
	expect("a watch over a shard in which a transaction is prepared", events(t, g, two))
	past := watchFrom(kv.Span{Start: []byte("2"), End: []byte("3")}, 2)
	expect("a watch from the past", events(t, g, past), "3 put 2a", "4 put 2b")
	closed := first.nodes[3].gateway.links.byShard[2].local.Revision()

	decision := func(of kv.ShardID) *kv.CommitRequest {
		r := body(of)
		r.Decision = kv.Decision{Verdict: kv.Commit, Revision: revision}
		return r
	}
	participate(t, first, second, leaders[1], kv.KindTxnDecide, decision(1))
	expect("a watch over both shards", events(t, g, both))
	participate(t, first, second, leaders[2], kv.KindTxnResolve, decision(2))

	of2 := []string{"5 delete 2a (old@3)", "5 delete 2b (old@4)", "5 put 2a", "6 put 2z"}
	all := []string{"5 put 1!", "5 delete 1a (old@2)", "5 delete 2a (old@3)", "5 delete 2b (old@4)", "5 put 2a", "5 put 1b", "6 put 2z"}
	expect("a watch over the second shard", events(t, g, two), of2...)
	expect("a watch over both shards", events(t, g, both), all...)
	expect("a watch that was behind", events(t, g, past), of2...)
	expect("a watch from the past over both", events(t, g, watchFrom(kv.Everything(), 5)), all...)
	if now := first.nodes[3].gateway.links.byShard[2].local.Revision(); closed != 4 || now != 6 {
		t.Errorf("the second shard was closed at %d, and is at %d", closed, now)
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
}
