package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// newMetered is a world with a hub of which the test calls dispatch.
func newMetered(t *testing.T, options Options) (*world, *Hub) {
	w := newWorld(t)
	options.Source, options.Encode = w, encodeText
	hub, err := newHub(options)
	if err != nil {
		t.Fatal(err)
	}
	w.hub = hub
	return w, hub
}

func (w *world) put(key string, value []byte) { w.entry([]change{{key, value}}) }

// entry applies an entry of one revision and has it dispatched.
func (w *world) entry(changes []change) {
	w.hub.Applied(w.commit(changes))
	for w.hub.dispatch() {
	}
}

func newTestStream(t *testing.T, hub *Hub, memory Memory) *Stream {
	s, err := hub.NewStream(nil, memory)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Stream, request CreateRequest) ID {
	t.Helper()
	id, err := s.Create(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// poll returns what there is; nil: nothing.
func poll(t *testing.T, s *Stream) *Batch {
	t.Helper()
	b, err := s.Poll()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// events polls until there is nothing, and returns the revisions of the events.
func events(t *testing.T, s *Stream) (revisions []kv.Revision) {
	t.Helper()
	for b := poll(t, s); b != nil; b = poll(t, s) {
		for _, e := range b.Events {
			revisions = append(revisions, e.Revision())
		}
	}
	return revisions
}

func wantRevisions(t *testing.T, got []kv.Revision, first, last kv.Revision) {
	t.Helper()
	for i := range got {
		if got[i] != first+kv.Revision(i) {
			t.Fatalf("got %v, want %d..%d", got, first, last)
		}
	}
	if len(got) != int(last-first+1) {
		t.Fatalf("got %v, want %d..%d", got, first, last)
	}
}

// TestMemoryIsGivenBack does random things to a few streams of one account and holds, after each, what is reserved against what
// is there.
func TestMemoryIsGivenBack(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 7))
		w, hub := newMetered(t, Options{
			StreamBytes: 3000 + random.IntN(100_000), RingBytes: 1 + random.IntN(300_000),
			ChunkBytes: 1 + random.IntN(60_000), BatchBytes: 1 + random.IntN(30_000), ProgressInterval: time.Second,
		})
		memory := &countedMemory{t: t, limit: 100_000 + random.Int64N(400_000), random: random, refuse: 3 + random.IntN(20)}
		streams := make([]*Stream, 3)
		for step := range 600 {
			at := random.IntN(len(streams))
			s := streams[at]
			if s == nil {
				streams[at] = newTestStream(t, hub, memory)
				continue
			}
			switch n := random.IntN(20); {
			case n < 3:
				if s.outbox.control < freeAnswers {
					c := client{w: w, random: random}
					r := c.request()
					r.Fragment, r.ProgressNotify = n == 0, n == 1
					create(t, s, r)
				}
			case n == 3:
				for id := range s.watchers {
					if s.outbox.control < freeAnswers {
						if err := s.Cancel(t.Context(), id); err != nil {
							t.Fatal(err)
						}
					}
					break
				}
			case n == 4:
				w.compact(w.Compacted() + kv.Revision(random.IntN(int(w.Revision()-w.Compacted()))))
			case n == 5:
				hub.Tick(time.Duration(step) * 20 * time.Millisecond)
			case n == 6 && random.IntN(5) == 0:
				s.Close()
				streams[at] = nil
			case n < 14:
				poll(t, s)
			default:
				var changes []change
				for range 1 + random.IntN(3) {
					c := change{key: string(rune('a' + random.IntN(8)))}
					if random.IntN(3) > 0 {
						c.value = bytes.Repeat([]byte("v"), random.IntN(1+random.IntN(20_000)))
					}
					changes = append(changes, c)
				}
				w.entry(changes[:1])
			}
			if err := hub.verify(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			sum := int64(0)
			for _, s := range streams {
				if s == nil {
					continue
				}
				sum += s.meter.reserved + s.meter.watches
				// Answers are held whatever the memory says; all else was reserved before.
				if short := s.outbox.heldBytes - freeBytes - s.meter.reserved; s.meter.aside != 0 || short > 100*batchCost(1) {
					t.Fatalf("seed %d step %d: %d bytes are held, %+v", seed, step, s.outbox.heldBytes, s.meter)
				}
				if s.outbox.heldBytes == 0 && s.meter.reserved > smallBytes {
					t.Fatalf("seed %d step %d: nothing is held, %+v", seed, step, s.meter)
				}
			}
			if sum != memory.used {
				t.Fatalf("seed %d step %d: %d bytes are reserved, the streams have %d", seed, step, memory.used, sum)
			}
		}
		hub.Close()
		if memory.used != 0 || memory.refused == 0 {
			t.Fatalf("seed %d: %d bytes are left over, %d refused", seed, memory.used, memory.refused)
		}
	}
}

// TestLiveFeedWithoutMemory: a stream without memory leaves the feed, waits, and gets everything when there is memory again.
func TestLiveFeedWithoutMemory(t *testing.T) {
	w, hub := newMetered(t, Options{})
	memory := &countedMemory{t: t, limit: 64 << 10}
	s := newTestStream(t, hub, memory)
	create(t, s, CreateRequest{Span: kv.Everything()})
	poll(t, s)
	first := w.Revision() + 1
	for i := range 100 {
		w.put("a", bytes.Repeat([]byte{byte(i)}, 1000))
	}
	if m := hub.Metrics(); m.Groups != 0 || m.LaggingCount != 1 || memory.used > memory.limit {
		t.Fatalf("%+v, %d bytes are reserved", m, memory.used)
	}
	got := events(t, s)
	wantRevisions(t, got, first, w.Revision())
	// Somebody else takes everything: the stream waits, and is woken by the tick that finds memory.
	rest := memory.limit - memory.bytes()
	memory.Reserve(rest)
	first = w.Revision() + 1
	w.put("a", make([]byte, 10_000))
	if got := events(t, s); got != nil {
		t.Fatalf("got %v without memory", got)
	}
	hub.Tick(0)
	select {
	case <-s.wake:
	default:
		t.Fatal("a tick does not wake who waits")
	}
	if got := events(t, s); got != nil || len(hub.starved.streams) != 1 {
		t.Fatalf("got %v without memory; %d streams wait", got, len(hub.starved.streams))
	}
	memory.Release(rest)
	done := make(chan *Batch)
	go func() {
		b, err := s.Next(context.Background())
		if err != nil {
			t.Error(err)
		}
		done <- b
	}()
	hub.Tick(0)
	if b := <-done; b.Revision != first {
		t.Fatalf("%+v, want revision %d", b, first)
	}
	s.Close()
	if memory.used != 0 {
		t.Errorf("%d bytes are left over", memory.used)
	}
}

// TestLargeRevisions: a revision that is larger than a step passes whole, when there is memory; one that never
// fits ends the stream with an error that says so.
func TestLargeRevisions(t *testing.T) {
	for _, ringBytes := range []int{1, 8 << 20} {
		t.Run(fmt.Sprintf("ring of %d", ringBytes), func(t *testing.T) {
			w, hub := newMetered(t, Options{RingBytes: ringBytes})
			large := func(n int) {
				var changes []change
				for i := range n {
					changes = append(changes, change{fmt.Sprint(i), make([]byte, 100_000)})
				}
				w.entry(changes)
			}
			large(20) // 2 MB, and again with the encoding
			for range 3 {
				w.put("a", []byte("small")) // the ring always holds the newest
			}
			memory := &countedMemory{t: t, limit: 5 << 20}
			s := newTestStream(t, hub, memory)
			create(t, s, CreateRequest{Span: kv.Everything(), StartRevision: 2})
			poll(t, s)
			other := memory.limit - 3<<20
			memory.Reserve(other)
			if b := poll(t, s); b != nil {
				t.Fatalf("%d events without the memory for them", len(b.Events))
			}
			hub.Tick(patience - 1)
			reads := hub.Metrics().HistoryReadCount
			for range 10 {
				if b := poll(t, s); b != nil {
					t.Fatalf("%d events without the memory for them", len(b.Events))
				}
			}
			if again := hub.Metrics().HistoryReadCount - reads; again != 0 {
				t.Errorf("history was read %d times for what does not fit", again)
			}
			memory.Release(other)
			if b := poll(t, s); b == nil || len(b.Events) < 20 {
				t.Fatalf("%+v, want a batch with the whole revision", b)
			}
			wantRevisions(t, events(t, s), 3, 5)

			large(30) // 6 MB with the encoding
			for range 3 {
				w.put("a", []byte("small"))
			}
			if b := poll(t, s); b != nil {
				t.Fatalf("%d events that do not fit", len(b.Events))
			}
			hub.Tick(patience - 1 + patience)
			_, err := s.Poll()
			if !errors.Is(err, kv.ErrTooManyRequests) || !strings.Contains(fmt.Sprint(err), "revision 6 ") {
				t.Fatalf("%v, want an error that names the revision", err)
			}
			s.Close()
			if memory.used != 0 {
				t.Errorf("%d bytes are left over", memory.used)
			}
		})
	}
}

// TestPreviousVersionsCount: deletions are small and what they delete is not. A batch ends where there is no memory for more, and
// goes on there.
func TestPreviousVersionsCount(t *testing.T) {
	w, hub := newMetered(t, Options{})
	memory := &countedMemory{t: t, limit: 1 << 20}
	for i := range 40 {
		w.put(fmt.Sprint(i), make([]byte, 100_000))
	}
	s := newTestStream(t, hub, memory)
	create(t, s, CreateRequest{Span: kv.Everything(), PrevKV: true})
	poll(t, s)
	first := w.Revision() + 1
	for i := range 40 {
		w.put(fmt.Sprint(i), nil)
	}
	var got []kv.Revision
	batches := 0
	for b := poll(t, s); b != nil; b = poll(t, s) {
		batches++
		held := 0
		for _, e := range b.Events {
			got = append(got, e.Revision())
			held += 2 * len(e.Event(true).Prev.Value)
		}
		if int64(held) > memory.bytes()+freeBytes {
			t.Fatalf("a batch holds %d bytes, and %d are reserved", held, memory.bytes())
		}
		if err := hub.verify(); err != nil {
			t.Fatal(err)
		}
	}
	if wantRevisions(t, got, first, w.Revision()); batches < 8 {
		t.Errorf("%d batches", batches)
	}
	// What does not fit alone is waited for, and not for ever.
	w.put("a", make([]byte, 700_000))
	poll(t, s)
	w.put("a", nil)
	if got := events(t, s); len(got) > 0 {
		t.Fatalf("got %v, with a previous version for which there is no memory", got)
	}
	rows := w.rows.Load()
	if poll(t, s); w.rows.Load() != rows {
		t.Error("a previous version for which there was no memory is looked up again")
	}
	if err := hub.verify(); err != nil {
		t.Fatal(err)
	}
	hub.Tick(patience)
	if _, err := s.Poll(); !errors.Is(err, kv.ErrTooManyRequests) {
		t.Fatalf("%v, want an error", err)
	}
	s.Close()
	if memory.used != 0 {
		t.Errorf("%d bytes are left over", memory.used)
	}
}

// TestAnswersWaitForMemory: who asks and never reads is not answered beyond a few times.
func TestAnswersWaitForMemory(t *testing.T) {
	_, hub := newMetered(t, Options{})
	memory := &countedMemory{t: t}
	s := newTestStream(t, hub, memory)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // whoever would wait is told
	asked := 0
	for err := error(nil); err == nil && asked < 1000; asked++ {
		_, err = s.Create(ctx, CreateRequest{Span: kv.Everything()})
	}
	if asked <= freeAnswers || asked > 2*freeAnswers+1 || s.outbox.heldBytes > freeBytes {
		t.Errorf("%d answers wait and take %d bytes without memory", asked-1, s.outbox.heldBytes)
	}
	poll(t, s)
	poll(t, s) // the first one has been passed on
	if err := s.waitForRoom(ctx); err != nil {
		t.Errorf("an answer was taken, and there is no room for another one: %v", err)
	}
	s.Close()
}

// TestSharedEventsCountOnce: an event that many watches of a stream hold counts once, until the last of them has passed it on.
func TestSharedEventsCountOnce(t *testing.T) {
	w, hub := newMetered(t, Options{StreamBytes: 1 << 30})
	memory := &countedMemory{t: t, limit: 2 << 20}
	s := newTestStream(t, hub, memory)
	const watches = 300
	for i := range watches { // each wants something else
		create(t, s, CreateRequest{Span: kv.Span{Start: []byte("a"), End: fmt.Appendf(nil, "b%d", i)}})
		poll(t, s)
	}
	poll(t, s)
	before := memory.bytes()
	w.put("a", make([]byte, 200_000))
	for i := range watches {
		if b := poll(t, s); b == nil || len(b.Events) != 1 || memory.bytes()-before < 400_000 || memory.bytes()-before > 600_000 {
			t.Fatalf("batch %d: %+v, with %d bytes reserved", i, b, memory.bytes()-before)
		}
	}
	if b := poll(t, s); b != nil || memory.bytes() != before {
		t.Fatalf("%+v; %d bytes are reserved for nothing", b, memory.bytes()-before)
	}
	s.Close()
}
