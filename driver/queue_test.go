package driver

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// TestSmallRequestsOvertake: a small request never waits for more than one large one, each kind keeps its order, and nothing starves.
func TestSmallRequestsOvertake(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		var q requestQueue
		var small, large []int // that wait
		number := 0
		for range 100 {
			for range random.IntN(8) {
				size := 100
				if random.IntN(3) == 0 {
					size = largeBytes + random.IntN(1000)
					large = append(large, number)
				} else {
					small = append(small, number)
				}
				q.push(request{sizeBytes: size, err: errNumber(number)})
				number++
			}
			q.beginRound()
			for bytes, largeTaken := 0, 0; ; {
				r, ok := q.take(bytes < 300)
				if !ok {
					if bytes < 300 && q.len() > 0 || largeTaken == 0 && len(large) > 0 {
						t.Fatalf("seed %d: a round of %d bytes leaves %d small and %d large ones", seed, bytes, len(small), len(large))
					}
					break
				}
				got := int(r.err.(errNumber))
				if r.sizeBytes >= largeBytes {
					if len(small) > 0 && bytes < 300 || got != large[0] {
						t.Fatalf("seed %d: request %d is taken, small ones wait: %v, large ones: %v", seed, got, small, large)
					}
					large, largeTaken = large[1:], largeTaken+1
				} else {
					if got != small[0] {
						t.Fatalf("seed %d: request %d is taken instead of %d", seed, got, small[0])
					}
					small = small[1:]
				}
				bytes += r.sizeBytes
			}
			if q.len() != len(small)+len(large) {
				t.Fatalf("seed %d: %d wait, want %d", seed, q.len(), len(small)+len(large))
			}
		}
		var rest []int
		for q.len() > 0 {
			rest = append(rest, int(q.pop().err.(errNumber)))
		}
		if !slices.Equal(rest, append(small, large...)) {
			t.Fatalf("seed %d: %v are left, want %v and %v", seed, rest, small, large)
		}
	}
}

type errNumber int

func (errNumber) Error() string { return "" }

// TestQueuedBytes: what waits is bounded by its bytes, too; one request may be of any size.
func TestQueuedBytes(t *testing.T) {
	d := &Driver{front: front{opts: Options{MaxQueuedBytes: 10_000, MaxQueued: 100}.WithDefaults(), context: t.Context()}}
	r := &driven{driver: d, Replica: Replica{front: &d.front}}
	r.serving.Store(true)
	var answers []error
	put := func(valueBytes int) {
		req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: make([]byte, valueBytes)}}
		before := len(answers)
		queued, _ := r.enqueue(request{replica: r, req: req, done: func(_ *kv.Response, _ uint64, err error) { answers = append(answers, err) }})
		if answered := len(answers) > before; queued == answered {
			t.Fatalf("queued: %v, answered: %v", queued, answered)
		}
	}
	put(20_000)
	put(1)
	if len(answers) != 1 || !errors.Is(answers[0], kv.ErrTooManyRequests) {
		t.Fatalf("after one that is larger than all may be: %v", answers)
	}
	in := d.inbox.take()
	d.finished = append(d.finished, finished{request: in.requests[0]})
	d.answer()
	for range 4 {
		put(3000 - shard.SizeBytes(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}))
	}
	if len(answers) != 3 || !errors.Is(answers[2], kv.ErrTooManyRequests) || d.queuedBytes.Load() != 9000 {
		t.Fatalf("three of four fit: %v, %d bytes", answers, d.queuedBytes.Load())
	}
	d.abandon(kv.ErrStopped)
	if d.queuedBytes.Load() != 0 || d.queued.Load() != 0 {
		t.Fatalf("%d requests of %d bytes are left", d.queued.Load(), d.queuedBytes.Load())
	}
}

// TestEvaluationLeavesTime: requests that take long are spread over rounds, so that heartbeats go out in between. Each round evaluates one at least.
func TestEvaluationLeavesTime(t *testing.T) {
	b := newBench(make([]shard.Outcome, 5)...)
	d, now, kicks := b.driver, time.Duration(5), 0
	d.clock = func() time.Duration { return now }
	d.opts.Wake = func() { kicks++ }
	b.machine.onEvaluate = func() { now += d.opts.HeartbeatInterval / 3 }
	for round, want := range []int{2, 4, 5} {
		d.beginEvaluating(now)
		for range 3 { // passes
			if err := b.evaluate(now); err != nil {
				t.Fatal(err)
			}
		}
		if evaluated := 5 - b.queue.len(); evaluated != want {
			t.Fatalf("after round %d %d requests are evaluated, want %d", round+1, evaluated, want)
		}
		if kicks == 0 && b.queue.len() > 0 {
			t.Fatal("nobody sees to the next round")
		}
		kicks = 0
	}
}
