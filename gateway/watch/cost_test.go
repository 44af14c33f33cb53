package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// many is a hub with watches whose number is what a test is about.
type many struct {
	t       testing.TB
	w       *world
	hub     *Hub
	streams []*Stream
}

func newMany(t testing.TB) *many {
	w := newWorld(t)
	hub, err := newHub(Options{Source: w, Encode: encodeText, Jitter: func(int64) int64 { return 0 }, ProgressInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w.hub = hub
	m := &many{t: t, w: w, hub: hub}
	m.put(20)
	return m
}

func (m *many) put(times int) {
	for i := range times {
		m.hub.Applied(m.w.commit([]change{{"key", fmt.Append(nil, i)}}))
		for m.hub.dispatch() {
		}
	}
}

func (m *many) stream() *Stream {
	s, err := m.hub.NewStream(nil, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.streams = append(m.streams, s)
	return s
}

func (m *many) create(s *Stream, request CreateRequest) ID {
	request.Span.Start = []byte("key")
	id, err := s.Create(context.Background(), request)
	if err != nil || id == NoID {
		m.t.Fatalf("create: watch %d, %v", id, err)
	}
	return id
}

func (m *many) cancel(s *Stream, id ID) {
	if err := s.Cancel(context.Background(), id); err != nil {
		m.t.Fatal(err)
	}
}

// drain takes what the stream has for its client.
func (m *many) drain(s *Stream) {
	for {
		batch, err := s.Poll()
		if err != nil {
			m.t.Fatal(err)
		}
		if batch == nil {
			return
		}
	}
}

func (m *many) close() {
	for _, s := range m.streams {
		s.Close()
	}
}

// what each load does with n watches or streams: its cost may grow with n, not with its square.
var loads = []struct {
	name string
	run  func(m *many, n int)
}{
	{"one key, cancelled from the first on", func(m *many, n int) {
		s := m.stream()
		for range n {
			m.create(s, CreateRequest{})
			m.drain(s)
		}
		for id := range n {
			m.cancel(s, ID(id))
			m.drain(s)
		}
	}},
	{"one key, cancelled in any order", func(m *many, n int) {
		s := m.stream()
		for range n {
			m.create(s, CreateRequest{ProgressNotify: true})
			m.drain(s)
		}
		for _, id := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
			m.cancel(s, ID(id))
			m.drain(s)
		}
	}},
	{"one key, ended with the stream", func(m *many, n int) {
		s := m.stream()
		for range n {
			m.create(s, CreateRequest{})
			m.drain(s)
		}
		m.put(3)
		m.drain(s)
	}},
	{"one key, each from a revision of its own in the future", func(m *many, n int) {
		s := m.stream()
		for i := range n {
			m.create(s, CreateRequest{StartRevision: kv.Revision(1_000_000 + i)})
			m.drain(s)
			m.put(1)
		}
		for id := range n {
			m.cancel(s, ID(id))
			m.drain(s)
		}
	}},
	{"one key, in the past, cancelled while behind", func(m *many, n int) {
		s := m.stream()
		var ids []ID
		for i := range n {
			ids = append(ids, m.create(s, CreateRequest{StartRevision: kv.Revision(1 + i%20), Filters: Filter(i % 3)}))
			s.outbox.clear() // the client reads, but never so far that it catches up
		}
		for _, id := range ids {
			m.cancel(s, id)
			s.outbox.clear()
		}
	}},
	{"ended by a compaction", func(m *many, n int) {
		s := m.stream()
		for range n {
			m.create(s, CreateRequest{StartRevision: 2})
			s.outbox.clear()
		}
		m.w.compact(10)
		m.drain(s)
		if left := m.hub.Metrics().Watches; left != 0 {
			m.t.Fatalf("%d watches are left", left)
		}
	}},
	{"progress of a stream with many watches", func(m *many, n int) {
		s := m.stream()
		for range n {
			m.create(s, CreateRequest{})
			m.drain(s)
		}
		for range n {
			if err := s.RequestProgress(context.Background()); err != nil {
				m.t.Fatal(err)
			}
			m.drain(s)
		}
	}},
	{"streams that ask for progress and are behind", func(m *many, n int) {
		for range n {
			s := m.stream()
			m.create(s, CreateRequest{StartRevision: 2})
			if err := s.RequestProgress(context.Background()); err != nil {
				m.t.Fatal(err)
			}
			m.put(1)
		}
	}},
	{"streams that are made and told their progress", func(m *many, n int) {
		for i := range n {
			m.create(m.stream(), CreateRequest{ProgressNotify: true})
			m.hub.Tick(time.Duration(i) * time.Millisecond / 2)
		}
	}},
}

// TestCostIsLinear counts what is looked at one by one, and what is allocated: four times as many watches may cost
// about four times as much.
func TestCostIsLinear(t *testing.T) {
	const few, times = 500, 4
	for _, load := range loads {
		t.Run(load.name, func(t *testing.T) {
			steps, bytes := cost(t, load.run, few)
			moreSteps, moreBytes := cost(t, load.run, few*times)
			if moreSteps > 2*times*max(steps, few) {
				t.Errorf("%d steps for %d, %d for %d", steps, few, moreSteps, few*times)
			}
			if moreBytes > 2*times*bytes {
				t.Errorf("%d bytes allocated for %d, %d for %d", bytes, few, moreBytes, few*times)
			}
		})
	}
}

func cost(t *testing.T, run func(*many, int), n int) (steps int64, bytes uint64) {
	m := newMany(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(m, n)
	if err := m.hub.verify(); err != nil {
		t.Fatal(err)
	}
	m.close()
	runtime.ReadMemStats(&after)
	if err := m.hub.verify(); err != nil {
		t.Fatal(err)
	}
	if left := m.hub.Metrics(); left.Watches != 0 || left.Groups != 0 || left.Streams != 0 || m.hub.asking() != 0 || m.hub.periodic.queue.size() != 0 {
		t.Fatalf("left over: %+v, %d ask, %d are due", left, m.hub.asking(), m.hub.periodic.queue.size())
	}
	return m.hub.Metrics().WalkCount, after.TotalAlloc - before.TotalAlloc
}

// BenchmarkManyWatches: one operation is one watch of one key, made and ended.
func BenchmarkManyWatches(b *testing.B) {
	for _, load := range loads {
		for _, n := range []int{1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", load.name, n), func(b *testing.B) {
				for at := 0; at < b.N; at += n {
					m := newMany(b)
					load.run(m, n)
					m.close()
				}
			})
		}
	}
}
