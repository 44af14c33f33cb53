package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/quoratedb/quorate/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observer is the twin of one watch: it knows what the watch asked for and checks what it gets against
// the whole history.
type observer struct {
	request CreateRequest
	from    kv.Revision // where it began, before it was resumed for the first time
	next    kv.Revision // first revision that has not been seen completely
	got     []kv.Event
	ended   bool
}

// client is a stream with a consumer that is slow at random, and reconnects.
type client struct {
	w         *world
	random    *rand.Rand
	stream    *Stream
	memory    Memory // nil: nobody counts
	observers map[ID]*observer
	finished  []*observer
	progress  kv.Revision
	done      <-chan struct{} // the writer has finished
	last      kv.Revision     // the last revision of all; set before done is closed
}

// TestRandomSchedules runs a writer with compactions, streams with slow consumers, creations, cancellations and
// reconnections side by side; every watch must get exactly its part of the history.
func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runRandomSchedule(t, seed, nil) })
	}
}

func runRandomSchedule(t *testing.T, seed uint64, memory Memory) {
	random := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t)
	if seed%2 == 1 {
		holes := rand.New(rand.NewPCG(seed, 3))
		w.holes = func() kv.Revision { return kv.Revision(max(0, holes.IntN(6)-2)) }
	}
	hub, err := NewHub(Options{
		Source: w, Encode: encodeText,
		StreamBytes: 300 + random.IntN(5000), RingBytes: 1 + random.IntN(20000),
		ChunkBytes: 1 + random.IntN(500), BatchBytes: 1 + random.IntN(3000), MaxControl: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	done := make(chan struct{})
	clients := make([]*client, 6)
	var wait sync.WaitGroup
	for i := range clients {
		clients[i] = &client{w: w, random: rand.New(rand.NewPCG(seed, uint64(10+i))), observers: map[ID]*observer{}, done: done, memory: memory}
	}
	w.hub = hub
	var last kv.Revision
	var failed atomic.Bool
	if memory != nil {
		defer tickAlways(hub)()
	}
	for _, c := range clients {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if err := c.run(); err != nil {
				failed.Store(true)
				t.Error(err)
			}
		}()
	}
	for range 1500 {
		w.write(random)
		if random.IntN(100) == 0 {
			w.mu.RLock()
			target := w.store.Compacted() + kv.Revision(random.IntN(int(w.store.Revision()-w.store.Compacted())))
			w.mu.RUnlock()
			if target > 0 {
				w.compact(target)
			}
		}
		if random.IntN(20) == 0 {
			if err := hub.verify(); err != nil {
				failed.Store(true)
				t.Error(err)
			}
		}
		if failed.Load() {
			break
		}
	}
	last = w.Revision()
	for _, c := range clients {
		c.last = last
	}
	close(done)
	w.stopWaiting()
	wait.Wait()
	if t.Failed() {
		return
	}
	watches := 0
	for i, c := range clients {
		for _, o := range c.finished {
			watches++
			w.verify(t, fmt.Sprintf("client %d", i), o)
		}
	}
	m := hub.Metrics()
	if watches < 10 || m.Watches != 0 || m.Streams != 0 {
		t.Fatalf("%d watches were checked, left over: %+v", watches, m)
	}
}

// write applies a random entry and tells the hub, unless a snapshot is to have brought it.
func (w *world) write(random *rand.Rand) {
	var revisions [][]change
	for range 1 + random.IntN(3) {
		var changes []change
		used := map[string]bool{}
		for range 1 + random.IntN(4) {
			c := change{key: string(rune('a' + random.IntN(8)))}
			if used[c.key] {
				continue
			}
			used[c.key] = true
			if random.IntN(3) > 0 {
				c.value = fmt.Appendf(nil, "%d", random.IntN(1000))
			}
			changes = append(changes, c)
		}
		revisions = append(revisions, changes)
	}
	applied := w.commit(revisions...)
	if random.IntN(60) > 0 {
		w.hub.Applied(applied)
	} else {
		w.hub.Restored(w.Revision())
	}
	w.news.L.Lock()
	w.news.Broadcast()
	w.news.L.Unlock()
}

// waitFor waits until the revision is applied, or for good when the writer has finished.
func (w *world) waitFor(revision kv.Revision) {
	w.news.L.Lock()
	defer w.news.L.Unlock()
	for !w.quiet && w.Revision() < revision {
		w.news.Wait()
	}
}

func (w *world) stopWaiting() {
	w.news.L.Lock()
	defer w.news.L.Unlock()
	w.quiet = true
	w.news.Broadcast()
}

func (c *client) run() error {
	for {
		over, err := c.connect()
		if err != nil || over {
			return err
		}
	}
}

// connect opens a stream, resumes the watches, and uses it for a while; to the end if the writer has finished.
func (c *client) connect() (over bool, err error) {
	stream, err := c.w.hub.NewStream(nil, c.memory)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	c.stream, c.progress = stream, 0
	c.retire(func(o *observer) bool { return o.next == 0 }) // never confirmed: unknown where it began
	var resume []*observer
	for _, o := range c.observers {
		resume = append(resume, o)
	}
	c.observers = map[ID]*observer{}
	for len(resume) < 2 {
		resume = append(resume, &observer{request: c.request()})
	}
	for _, o := range resume {
		if o.next > 0 {
			o.request.StartRevision = o.next
		}
		if err := c.create(o); err != nil {
			return false, err
		}
	}
	for steps := 20 + c.random.IntN(200); ; steps-- {
		select {
		case <-c.done:
			return true, c.finish()
		default:
		}
		if steps <= 0 {
			return false, nil
		}
		if err := c.step(); err != nil {
			return false, err
		}
	}
}

// retire moves observers to the finished ones.
func (c *client) retire(which func(*observer) bool) {
	for id, o := range c.observers {
		if which(o) {
			c.finished = append(c.finished, o)
			delete(c.observers, id)
		}
	}
}

func (c *client) request() CreateRequest {
	r := CreateRequest{PrevKV: c.random.IntN(2) == 0, Filters: Filter(c.random.IntN(3))}
	r.Span.Start = []byte{byte('a' + c.random.IntN(8))}
	switch c.random.IntN(3) {
	case 0:
		r.Span.End = []byte{r.Span.Start[0] + byte(1+c.random.IntN(4))}
	case 1:
		r.Span.End = []byte{0}
	}
	switch c.random.IntN(3) {
	case 0:
		r.StartRevision = max(1, c.w.Revision()-kv.Revision(c.random.IntN(100)))
	case 1:
		r.StartRevision = c.w.Revision() + kv.Revision(c.random.IntN(5))
	}
	return r
}

// create adds a watch; what it is answered is seen in receive, in the order of creation.
func (c *client) create(o *observer) error {
	for c.controlFull() {
		if err := c.receive(); err != nil {
			return err
		}
	}
	id, err := c.stream.Create(context.Background(), o.request)
	for err == nil && id == NoID && c.memory != nil { // it is refused until there is memory
		if err := c.drainControl(); err != nil {
			return err
		}
		id, err = c.stream.Create(context.Background(), o.request)
	}
	if err != nil || id == NoID {
		return fmt.Errorf("create %+v: id %d, %v", o.request, id, err)
	}
	c.observers[id] = o
	return nil
}

func (c *client) controlFull() bool {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.stream.outbox.control >= c.w.hub.options.MaxControl
}

func (c *client) step() error {
	switch n := c.random.IntN(20); {
	case n == 0 && len(c.observers) < 6:
		return c.create(&observer{request: c.request()})
	case n == 1 && len(c.observers) > 1 && !c.controlFull():
		for id := range c.observers {
			return c.stream.Cancel(context.Background(), id)
		}
	case n == 2 && !c.controlFull():
		return c.stream.RequestProgress(context.Background())
	case n == 3:
		// A while without reading: the writer goes on by some revisions.
		c.w.waitFor(c.w.Revision() + kv.Revision(c.random.IntN(60)))
	default:
		return c.receive()
	}
	return nil
}

// receive takes what there is, without waiting.
func (c *client) receive() error {
	batch, err := c.stream.Poll()
	switch {
	case err != nil:
		return err
	case batch == nil:
		if c.memory == nil { // otherwise there may be one as soon as there is memory
			c.w.waitFor(c.w.Revision() + 1)
		}
		return nil
	}
	return c.take(batch)
}

func (c *client) take(batch *Batch) error {
	for _, id := range batch.IDs {
		o := c.observers[id]
		if o == nil && id != NoID {
			return fmt.Errorf("%s for watch %d, which does not exist", batch.Kind, id)
		}
		switch batch.Kind {
		case KindCreated:
			if o == nil && c.memory != nil && errors.Is(batch.Err, kv.ErrTooManyRequests) {
				continue
			}
			if o == nil {
				return fmt.Errorf("refused: %w", batch.Err)
			}
			o.next = o.request.StartRevision
			if o.next == 0 {
				o.next = batch.Revision + 1
			}
			o.request.StartRevision = o.next
			if o.from == 0 {
				o.from = o.next
			}
		case KindCanceled:
			if batch.CompactRevision != 0 && o.next >= batch.CompactRevision {
				return fmt.Errorf("watch %d needs revision %d and was ended by the compaction at %d", id, o.next, batch.CompactRevision)
			}
			o.ended = true
			c.finished = append(c.finished, o)
			delete(c.observers, id)
		case KindEvents:
			for _, event := range batch.Events {
				if event.Revision() < o.next {
					return fmt.Errorf("watch %d got revision %d again, next is %d", id, event.Revision(), o.next)
				}
				o.got = append(o.got, event.Event(batch.PrevKV))
			}
			o.next = batch.Revision + 1
		case KindProgress:
			if batch.Revision < c.progress {
				return fmt.Errorf("progress went back from %d to %d", c.progress, batch.Revision)
			}
			c.progress = batch.Revision
			for _, o := range c.observers {
				if o.next > 0 {
					o.next = max(o.next, batch.Revision+1)
				}
			}
		}
	}
	return nil
}

// finish reads, waiting with Next, until progress shows that everything has arrived.
func (c *client) finish() error {
	if err := c.create(&observer{request: CreateRequest{Span: kv.Span{Start: []byte("a")}, StartRevision: c.last}}); err != nil {
		return err
	}
	for c.controlFull() {
		if err := c.receive(); err != nil {
			return err
		}
	}
	// Watches of the future never let progress through: they see nothing any more.
	for id, o := range c.observers {
		if o.request.StartRevision > c.last {
			if err := c.drainControl(); err != nil {
				return err
			}
			if err := c.stream.Cancel(context.Background(), id); err != nil {
				return err
			}
		}
	}
	if err := c.drainControl(); err != nil {
		return err
	}
	c.progress = 0 // an answer to an earlier request may have been taken before the creation above was
	if err := c.stream.RequestProgress(context.Background()); err != nil {
		return err
	}
	for c.progress < c.last || c.unconfirmed() {
		if c.unconfirmed() {
			c.progress = 0 // an answer that was in the outbox before a watch was created says nothing about it
		}
		batch, err := c.stream.Next(context.Background())
		if err != nil {
			return err
		}
		if err := c.take(batch); err != nil {
			return err
		}
		if len(c.observers) == 0 {
			return errors.New("no watch is left to be told the progress of")
		}
	}
	for _, o := range c.observers {
		o.next = c.last + 1
	}
	c.retire(func(*observer) bool { return true })
	return nil
}

func (c *client) unconfirmed() bool {
	for _, o := range c.observers {
		if o.next == 0 {
			return true
		}
	}
	return false
}

func (c *client) drainControl() error {
	for c.controlFull() {
		if err := c.receive(); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what a watch got with the history.
func (w *world) verify(t *testing.T, who string, o *observer) {
	t.Helper()
	if o.next == 0 {
		return
	}
	want := w.expect(o.request, o.from, o.next-1)
	if len(want) != len(o.got) {
		t.Fatalf("%s: watch %+v up to %d got %d events instead of %d", who, o.request, o.next-1, len(o.got), len(want))
	}
	for i, event := range o.got {
		if !sameEvent(event, want[i]) {
			t.Fatalf("%s: watch %+v got %q instead of %q", who, o.request, eventText(event), eventText(want[i]))
		}
		if event.Prev == nil {
			if o.request.PrevKV && want[i].Prev != nil && event.KV.ModRevision > w.store.Compacted() {
				t.Fatalf("%s: watch %+v: %q has no previous version", who, o.request, eventText(want[i]))
			}
			continue
		}
		if !o.request.PrevKV || want[i].Prev == nil || string(event.Prev.Value) != string(want[i].Prev.Value) ||
			event.Prev.ModRevision != want[i].Prev.ModRevision {
			t.Fatalf("%s: watch %+v got %q instead of %q", who, o.request, eventText(event), eventText(want[i]))
		}
	}
}

// TestFirstWatchLooksOnce: a change that comes while nobody listens wakes nobody, so whoever begins to listen has the
// dispatcher look once.
func TestFirstWatchLooksOnce(t *testing.T) {
	w := newWorld(t)
	hub, err := newHub(Options{Source: w, Encode: encodeText})
	if err != nil {
		t.Fatal(err)
	}
	s, err := hub.NewStream(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	hub.Applied(w.commit([]change{{"a", []byte("1")}}))
	if len(hub.wake) != 0 {
		t.Fatal("nobody listens, and the dispatcher was woken")
	}
	if _, err := s.Create(t.Context(), CreateRequest{Span: kv.Span{Start: []byte("a")}}); err != nil {
		t.Fatal(err)
	}
	if len(hub.wake) != 1 {
		t.Fatal("the first watch did not wake the dispatcher")
	}
}
