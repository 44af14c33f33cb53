package watch

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

func (s *store) stream() *Stream {
	stream, err := s.hub.NewStream(nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}

func (s *store) create(stream *Stream, span kv.Span) {
	if id, err := stream.Create(s.t.Context(), CreateRequest{Span: span}); err != nil || id == NoID {
		s.t.Fatalf("watch %d, %v", id, err)
	}
}

// put writes to the shard, has that dispatched, and answers what is asked.
func (s *store) put(id kv.ShardID, i int) {
	s.clock += time.Millisecond
	s.issue(id, []change{{string(rune(s.parts[id].first)), fmt.Append(nil, i)}})
	s.apply(id, false)
	for again := true; again; {
		for s.hub.dispatch() {
		}
		select {
		case <-s.hub.wake: // an answer came at once
			s.clock += inquiryInterval
		default:
			again = false
		}
	}
}

// TestManyWatchesOneMerger: a thousand clients that watch everything cost one merge; watches over one shard cost no other shard anything, and
// nobody is asked a question for them.
func TestManyWatchesOneMerger(t *testing.T) {
	s := newStore(t, 3, Options{})
	s.atOnce = true
	for range 10 {
		s.create(s.stream(), kv.Span{Start: []byte("a")})
	}
	for i := range 30 {
		s.put(kv.ShardID(1+i%3), i)
	}
	if m := s.hub.Metrics(); m.EventCount != 10 || m.QuestionCount != 0 || m.Mergers != 0 {
		t.Fatalf("watches over one shard looked at changes of others, or asked: %+v", m)
	}
	for range 1000 {
		s.create(s.stream(), kv.Everything())
	}
	s.put(3, 0) // and all shards are closed at it
	before := s.hub.Metrics()
	for i := range 30 {
		s.put(kv.ShardID(1+i%3), i)
	}
	m := s.hub.Metrics()
	if got := m.EventCount - before.EventCount; m.Mergers != 1 || got != 40 {
		t.Errorf("%d mergers, and 30 changes were looked at %d times", m.Mergers, got)
	}
	if got := m.DeliveryCount - before.DeliveryCount; got != 30*1000+10*10 {
		t.Errorf("%d deliveries", got)
	}
	if got := m.QuestionCount - before.QuestionCount; got != 30 {
		t.Errorf("%d questions for 30 changes", got)
	}
	if err := s.hub.verify(); err != nil {
		t.Fatal(err)
	}
}

// TestSeatCosts holds what is reserved for a stream's seats against what they take.
func TestSeatCosts(t *testing.T) {
	const n = 2000
	s := newStore(t, 3, Options{})
	memory := &countedMemory{t: t, limit: 1 << 40}
	streams := make([]*Stream, n)
	for i := range streams {
		streams[i] = newTestStream(t, s.hub, memory)
		s.create(streams[i], kv.Span{Start: []byte("a")})
		streams[i].outbox.clear()
	}
	before, reserved := heapInUse(), memory.used
	for _, stream := range streams {
		for _, span := range []kv.Span{{Start: []byte("j")}, {Start: []byte("s")}, {Start: []byte("a"), End: []byte("k")}, {Start: []byte("k"), End: []byte("z")}, kv.Everything()} {
			s.create(stream, span)
			stream.outbox.clear()
		}
	}
	taken := heapInUse() - before
	reserved = memory.used - reserved
	t.Logf("a watch with its seat takes %d bytes, and reserves %d", taken/n/5, reserved/n/5)
	if taken > reserved || reserved > 5*taken {
		t.Errorf("they take %d bytes, and %d are reserved", taken, reserved)
	}
	for _, stream := range streams {
		stream.Close()
	}
	if m := s.hub.Metrics(); memory.used != 0 || m.Mergers != 0 {
		t.Errorf("%d bytes and %d mergers are left over", memory.used, m.Mergers)
	}
}
