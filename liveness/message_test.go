package liveness

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

func FuzzDecodeMessage(f *testing.F) {
	f.Add(AppendMessage(nil, Message{Kind: KindHeartbeat, Instance: 7, Seq: 300}))
	f.Add(AppendMessage(nil, Message{Kind: KindPromise, Instance: math.MaxUint64, Seq: math.MaxUint64, Epoch: Epoch{1, 2}, Duration: math.MaxInt64}))
	f.Add([]byte{})
	f.Add([]byte{9, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMessage(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v is not ErrMalformed", err)
			}
			return
		}
		again, err := DecodeMessage(AppendMessage(nil, m))
		if err != nil || again != m {
			t.Fatalf("%v became %v, %v", m, again, err)
		}
		// Whatever comes must not break the core.
		c, err := New(Options{Self: 1, Instance: 7, Peers: []kv.NodeID{2}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.Advance(0)
		if err := c.Receive(time.Millisecond, 2, m); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTruncatedMessages(t *testing.T) {
	for _, m := range []Message{
		{Kind: KindHeartbeat, Instance: 1, Seq: 200},
		{Kind: KindPromise, Instance: 1, Seq: 200, Epoch: Epoch{3, 4}, Duration: time.Second},
	} {
		whole := AppendMessage([]byte("x"), m)[1:]
		if got, err := DecodeMessage(whole); err != nil || got != m {
			t.Fatalf("%v became %v, %v", m, got, err)
		}
		for n := range whole {
			if _, err := DecodeMessage(whole[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d of %d bytes were understood", n, len(whole))
			}
		}
		if _, err := DecodeMessage(append(bytes.Clone(whole), 0)); !errors.Is(err, ErrMalformed) {
			t.Fatal("a byte too many was not noticed")
		}
	}
}

func TestReceiveFromStrangers(t *testing.T) {
	c, err := New(Options{Self: 1, Instance: 7, Peers: []kv.NodeID{2}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Receive(0, 3, Message{Kind: KindHeartbeat, Seq: 1, Instance: 1}); !errors.Is(err, ErrUnknownNode) {
		t.Fatalf("got %v", err)
	}
	if err := c.Receive(0, 2, Message{Kind: 77}); !errors.Is(err, ErrMalformed) {
		t.Fatalf("got %v", err)
	}
	// A promise nobody asked for.
	if err := c.Receive(0, 2, Message{Kind: KindPromise, Instance: 7, Seq: 1, Epoch: Epoch{1, 1}, Duration: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, until := c.Support(2); until != 0 {
		t.Fatalf("counted on until %v", until)
	}
}

// A supporter that restarts with shorter promises: what its earlier process promised does not count in
// the new epoch, and a promise longer than our own counts as our own.
func TestDurationsDiffer(t *testing.T) {
	c, err := New(Options{Self: 1, Instance: 7, Peers: []kv.NodeID{2}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct{ duration, until time.Duration }{
		{10 * time.Second, 380 * time.Millisecond},
		{200 * time.Millisecond, 280 * time.Millisecond},
	} {
		now := time.Duration(i) * 100 * time.Millisecond
		c.Advance(now)
		promise := Message{Kind: KindPromise, Instance: 7, Seq: uint64(i + 1), Epoch: Epoch{uint64(i + 1), 1}, Duration: step.duration}
		if err := c.Receive(now, 2, promise); err != nil {
			t.Fatal(err)
		}
		if _, until := c.Support(2); until != step.until {
			t.Fatalf("promise %d counts until %v", i, until)
		}
	}
}

func TestOptions(t *testing.T) {
	good := Options{Self: 1, Instance: 1, Peers: []kv.NodeID{2, 3}}
	if err := good.WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no self":              func(o *Options) { o.Self = 0 },
		"no instance":          func(o *Options) { o.Instance = 0 },
		"self among peers":     func(o *Options) { o.Peers = []kv.NodeID{1} },
		"a peer twice":         func(o *Options) { o.Peers = []kv.NodeID{2, 2} },
		"short promise":        func(o *Options) { o.PromiseDuration = 150 * time.Millisecond },
		"margin of everything": func(o *Options) { o.DriftMargin = 400 * time.Millisecond },
		"early suspicion":      func(o *Options) { o.SuspectAfter = 399 * time.Millisecond },
		"short startup":        func(o *Options) { o.StartupWait = 399 * time.Millisecond },
		"negative interval":    func(o *Options) { o.HeartbeatInterval = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad, 0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
