package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// TestListsTakeTurns: as many lists read at the same time as there may be readers. A list whose client takes its time is not one of them, a long one lets
// others read in between, and whoever does not wait any more is not waited for.
func TestListsTakeTurns(t *testing.T) { synctest.Test(t, listsTakeTurns) }

func listsTakeTurns(t *testing.T) {
	c := newCluster(t, Options{Limits: Limits{MaxReaders: 1}})
	c.elect(1)
	c.nodes[1].apply()
	const keys = 2*keysPerTurn + 10
	for i := range keys {
		putAt1(t, c, fmt.Sprintf("k%05d", i), "")
	}
	g := c.nodes[1].gateway
	list := func(ctx context.Context) Listing {
		all := &kv.RangeRequest{Span: kv.Everything(), Serializable: true}
		l, err := g.OpenRange(ctx, &kv.Request{Kind: kv.KindRange, Range: all})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	impatient, leave := context.WithCancel(t.Context())
	defer leave()
	long, other, third := list(t.Context()), list(t.Context()), list(impatient)
	var mu sync.Mutex
	var order []string
	note := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			what += ": " + err.Error()
		}
		order = append(order, what)
	}
	measured := 0
	note("measured", long.Measure(nil, func([]byte, mvcc.Meta) error {
		switch measured++; measured {
		case 10: // these come while it has the turn
			go func() { _, err := other.Next(1, nil); note("next", err) }()
			synctest.Wait()
			go func() { _, err := third.Count(nil); note("third", err) }()
			synctest.Wait()
			leave()
			synctest.Wait()
		case keysPerTurn - 1:
			note("most of a turn", nil)
		case keysPerTurn:
			synctest.Wait() // whoever has given the turn back may not have said so yet
			note("its next turn", nil)
		}
		return nil
	}))
	synctest.Wait()
	if got, want := fmt.Sprint(order), "[third: context canceled most of a turn next its next turn measured]"; got != want || measured != keys {
		t.Errorf("%v, %d keys measured; want %v, %d", got, measured, want, keys)
	}
	if len(g.turns) != 0 {
		t.Errorf("%d turns were not given back", len(g.turns))
	}
}

// TestStreamsGiveTheirTurnBack: a stream holds no turn while its client is sent a chunk, and none when it has ended, however it ends.
func TestStreamsGiveTheirTurnBack(t *testing.T) {
	c := newCluster(t, Options{Limits: Limits{MaxReaders: 1}})
	c.elect(1)
	c.nodes[1].apply()
	for i := range 8 {
		putAt1(t, c, fmt.Sprintf("k%d", i), string(make([]byte, streamChunkBytes/4)))
	}
	g := c.nodes[1].gateway
	request := func() *kv.Request {
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything(), Serializable: true}}
	}
	gone := errors.New("the client is gone")
	for _, breaks := range []int{0, 1, 2} {
		chunks := 0
		err := g.RangeStream(t.Context(), request(), func(*kv.Response, bool) error {
			if len(g.turns) != 0 {
				t.Error("a turn is held while the client is sent a chunk")
			}
			if chunks++; chunks == breaks {
				return gone
			}
			return nil
		})
		if want := map[bool]error{true: gone}[breaks > 0]; !errors.Is(err, want) || chunks < 2 && breaks == 0 {
			t.Errorf("%d chunks, then %v; want %v", chunks, err, want)
		}
		if len(g.turns) != 0 {
			t.Fatalf("a stream that ended with %v kept its turn", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.turns <- struct{}{} // somebody reads
	if err := g.RangeStream(ctx, request(), func(*kv.Response, bool) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream whose client does not wait any more: %v", err)
	}
}
