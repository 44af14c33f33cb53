package gateway

import (
	"slices"
	"testing"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// TestWatchOverShards: a watch gets what all shards of its span apply on this node, and is refused if one of them is not here.
func TestWatchOverShards(t *testing.T) {
	learn := func(_ []kv.ShardID, got func(kv.Present, error)) { got(kv.Present{}, kv.ErrNoLeader) }
	shards := func(span kv.Span) []kv.ShardID {
		switch {
		case !span.Single():
			return []kv.ShardID{1, 2}
		case span.Start[0] == '3':
			return []kv.ShardID{3}
		}
		return []kv.ShardID{kv.ShardID(span.Start[0] - '0')}
	}
	known := func() kv.Revision { return 1 }
	first, second := twoShards(t, Options{Watch: watch.Options{Shards: shards, Known: known, Learn: learn, Wake: func() {}}})
	first.elect(1)
	second.elect(1)
	exchangeBoth(first, second)
	g := first.nodes[1].gateway
	stream, err := g.NewWatchStream("", kv.Credential{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, span := range []kv.Span{{Start: []byte("2a")}, {Start: []byte("1"), End: []byte("3")}, {Start: []byte("3a")}} {
		if _, err := stream.Create(t.Context(), watch.CreateRequest{Span: span}); err != nil {
			t.Fatal(err)
		}
	}
	submit(g, put("1a", 1))
	submit(g, put("2a", 1)) // each shard counts its revisions alone here: both are 2
	exchangeBoth(first, second)
	for g.DispatchWatches() {
	}
	got, refused := map[watch.ID][]string{}, 0
	for {
		batch, err := stream.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if batch == nil {
			break
		}
		if batch.Err != nil {
			refused++
		}
		for _, event := range batch.Events {
			got[batch.IDs[0]] = append(got[batch.IDs[0]], string(event.Key()))
		}
	}
	if slices.Sort(got[1]); !slices.Equal(got[0], []string{"2a"}) || !slices.Equal(got[1], []string{"1a", "2a"}) || refused != 1 {
		t.Errorf("%d were refused, and the others got %v", refused, got)
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
}
