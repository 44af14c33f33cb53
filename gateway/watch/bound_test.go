package watch

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/kv"
)

// TestLargeWatchKeys: watches whose keys are large are refused when the client has no memory left, as those beyond MaxWatches are;
// what ends makes room.
func TestLargeWatchKeys(t *testing.T) {
	_, hub := newMetered(t, Options{})
	memory := &countedMemory{t: t, limit: 128 << 20}
	s := newTestStream(t, hub, memory)
	key := bytes.Repeat([]byte("k"), 1_900_000)
	var ids []ID
	refused := 0
	for i := range 2000 {
		id := create(t, s, CreateRequest{Span: kv.Span{Start: append(fmt.Appendf(nil, "%d", i), key...)}})
		if b := poll(t, s); b.Kind != KindCreated || (id == NoID) != errors.Is(b.Err, kv.ErrTooManyRequests) {
			t.Fatalf("watch %d: %+v", id, b)
		}
		if id == NoID {
			refused++
			continue
		}
		ids = append(ids, id)
	}
	var heap runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&heap)
	t.Logf("%d watches, %d refused, %d MiB reserved, %d MiB in use", len(ids), refused, memory.used>>20, heap.HeapAlloc>>20)
	if len(ids) < 20 || len(ids) > 24 || heap.HeapAlloc > 200<<20 {
		t.Errorf("%d watches fit into %d bytes, and %d are in use", len(ids), memory.limit, heap.HeapAlloc)
	}
	if err := s.Cancel(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if id := create(t, s, CreateRequest{Span: kv.Span{Start: key}}); id == NoID {
		t.Error("a watch was cancelled, and there is no room for another one")
	}
	if s.Close(); memory.used != 0 {
		t.Errorf("%d bytes are left over", memory.used)
	}
}

// TestWatchCosts holds what is reserved for watches against what they take.
func TestWatchCosts(t *testing.T) {
	const n = 20_000
	for _, test := range []struct {
		name string
		span func(i int) kv.Span
	}{
		{"one key", func(int) kv.Span { return kv.Span{Start: []byte("key")} }},
		{"different keys", func(i int) kv.Span { return kv.Span{Start: fmt.Appendf(nil, "%d", i)} }},
		{"different ranges", func(i int) kv.Span { return kv.Span{Start: fmt.Appendf(nil, "%d", i), End: []byte("k")} }},
		{"one long key of each", func(i int) kv.Span { return kv.Span{Start: fmt.Appendf(nil, "%0500d", i)} }},
	} {
		for _, start := range []kv.Revision{0, 1, 1 << 40} {
			t.Run(fmt.Sprintf("%s from %d", test.name, start), func(t *testing.T) {
				_, hub := newMetered(t, Options{})
				memory := &countedMemory{t: t, limit: 1 << 40}
				s := newTestStream(t, hub, memory)
				before := heapInUse()
				for i := range n {
					create(t, s, CreateRequest{Span: test.span(i), StartRevision: start, ProgressNotify: true, PrevKV: true})
					s.outbox.pop()
					s.outbox.passedOn()
				}
				taken := heapInUse() - before
				t.Logf("a watch takes %d bytes, and reserves %d", taken/n, memory.used/n)
				if taken > memory.used || memory.used > 5*taken {
					t.Errorf("%d watches take %d bytes, and %d are reserved", n, taken, memory.used)
				}
				s.Close()
			})
		}
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyCatchUp: a thousand streams of one client catch up with a long history, want previous versions, and take nothing of what they
// get. They hold what their account allows, and somebody else's events come at once.
func TestManyCatchUp(t *testing.T) {
	for _, valueBytes := range []int{10, 1000, 100_000} {
		t.Run(fmt.Sprintf("values of %d", valueBytes), func(t *testing.T) { manyCatchUp(t, valueBytes) })
	}
}

func manyCatchUp(t *testing.T, valueBytes int) {
	const limit = 128 << 20
	w, hub := newMetered(t, Options{})
	for i := range min(100_000_000/valueBytes, 60_000) {
		w.put(fmt.Sprint(i%100), bytes.Repeat([]byte{byte(i)}, valueBytes))
	}
	all, err := budget.New(budget.Limits{TotalBytes: 2 * limit, AccountBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	account := all.NewAccount()
	other := newTestStream(t, hub, all.NewAccount())
	create(t, other, CreateRequest{Span: kv.Span{Start: []byte("live")}})
	poll(t, other)
	before := heapInUse()
	var batches []*Batch
	waiting := 0
	for range 1000 {
		s := newTestStream(t, hub, account)
		defer s.Close()
		create(t, s, CreateRequest{Span: kv.Everything(), StartRevision: 2, PrevKV: true})
		poll(t, s)
		b := poll(t, s)
		if b == nil {
			waiting++
			continue
		}
		for _, e := range b.Events {
			e.Encoded(true)
		}
		if batches = append(batches, b); account.UsedBytes() > limit {
			t.Fatalf("%d bytes are reserved", account.UsedBytes())
		}
		w.put("live", nil)
		w.put("live", []byte("now"))
		if b := poll(t, other); b == nil || b.Revision < w.Revision()-1 {
			t.Fatalf("another client's event does not come while %d bytes are reserved: %+v", account.UsedBytes(), b)
		}
	}
	heap := heapInUse() - before
	t.Logf("%d streams got something and %d wait; %d MiB are reserved, %d MiB in use", len(batches), waiting, account.UsedBytes()>>20, heap>>20)
	if len(batches) < 100 || account.UsedBytes() < limit/2 || heap > account.UsedBytes()*5/4+10<<20 {
		t.Errorf("%d streams got something and %d wait; %d bytes are reserved, %d in use", len(batches), waiting, account.UsedBytes(), heap)
	}
	runtime.KeepAlive(batches)
}

// TestRingKeepsNoLargePreviousVersions: deletions are small, so the ring holds many; what they deleted is not kept with them.
func TestRingKeepsNoLargePreviousVersions(t *testing.T) {
	w, hub := newMetered(t, Options{})
	const n, valueBytes = 200, 200_000
	for i := range n {
		w.put(fmt.Sprint(i), make([]byte, valueBytes))
	}
	s := newTestStream(t, hub, nil)
	create(t, s, CreateRequest{Span: kv.Everything(), PrevKV: true})
	poll(t, s)
	before := heapInUse()
	for i := range n {
		w.put(fmt.Sprint(i), nil)
		b := poll(t, s)
		if e := b.Events[0].Event(true); e.Prev == nil || len(e.Prev.Value) != valueBytes || len(b.Events[0].Encoded(true)) < valueBytes {
			t.Fatalf("%+v", e)
		}
	}
	if more := heapInUse() - before; more > n*valueBytes/4 {
		t.Errorf("%d bytes are kept for %d deletions", more, n)
	}
	s.Close()
}
