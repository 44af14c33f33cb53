package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// checkList: the portions make what the model lists, whatever their sizes, and what Measure sees at some point is what comes after it.
func (w *world) checkList(r *Reader, q *kv.RangeRequest, now moment) {
	w.t.Helper()
	what := fmt.Sprintf("list %+v of %+v", q, now)
	l, err := r.NewList(q)
	if InKeyOrder(q) == q.CountOnly {
		w.t.Fatalf("%s is in key order: %v", what, InKeyOrder(q))
	}
	if q.CountOnly {
		if !errors.Is(err, kv.ErrInvalidRequest) {
			w.t.Fatalf("%s: %v", what, err)
		}
		return
	}
	want, wantErr := w.model.rangeOf(now, q)
	if !errors.Is(err, wantErr) {
		w.t.Fatalf("%s: %v, want %v", what, err, wantErr)
	}
	if wantErr != nil {
		return
	}
	memory := &room{limit: 1 << 30}
	tally := kv.NewTally(memory)
	measureAt := int(w.byte() % 4)
	var got []kv.KeyValue
	for portion := 0; ; portion++ {
		if portion == measureAt {
			w.checkMeasure(l, what, want, want.KVs[len(got):], &tally)
		}
		if w.byte()%4 == 0 {
			got = append(got, w.checkRefusal(l, what)...)
		}
		chunkBytes := int64(w.byte()) * 2
		held := tally.HeldBytes()
		kvs, err := l.Next(chunkBytes, &tally)
		w.must(err)
		if kvs == nil {
			break
		}
		if tally.HeldBytes()-held != kv.MemoryBytes(kvs) {
			w.t.Fatalf("%s: %d bytes count for %d", what, tally.HeldBytes()-held, kv.MemoryBytes(kvs))
		}
		if short := kv.MemoryBytes(kvs[:len(kvs)-1]); len(kvs) > 1 && short >= chunkBytes {
			w.t.Fatalf("%s: a portion of %d bytes has %d without its last key", what, chunkBytes, short)
		}
		got = append(got, kvs...)
		ended, err := l.Ended()
		w.must(err)
		if ended != (len(got) == len(want.KVs)) {
			w.t.Fatalf("%s: after %d of %d keys it has ended: %v", what, len(got), len(want.KVs), ended)
		}
	}
	w.sameKVs(what, got, want.KVs)
	w.checkEnd(l, what, want, &tally)
	if more, err := l.Next(1, nil); more != nil || err != nil {
		w.t.Fatalf("%s: behind its end there is %v, %v", what, more, err)
	}
}

func (w *world) checkEnd(l *List, what string, want *kv.RangeResponse, tally *kv.Tally) {
	w.t.Helper()
	for range 2 {
		count, err := l.Count(tally)
		w.must(err)
		if count != want.Count || l.More() != want.More {
			w.t.Fatalf("%s: count %d more %v, want %d %v", what, count, l.More(), want.Count, want.More)
		}
	}
}

func (w *world) checkMeasure(l *List, what string, all *kv.RangeResponse, rest []kv.KeyValue, tally *kv.Tally) {
	w.t.Helper()
	held, n := tally.HeldBytes(), 0
	w.must(l.Measure(tally, func(key []byte, m Meta) error {
		if n == len(rest) {
			w.t.Fatalf("%s: measured %q, there is nothing more", what, key)
		}
		x := rest[n]
		if !bytes.Equal(key, x.Key) || m.At.Rev != x.ModRevision || m.Create != x.CreateRevision || m.Version != x.Version || m.Lease != x.Lease ||
			int(m.ValueLen) != len(x.Value) && !l.keysOnly {
			w.t.Fatalf("%s: measured %q %+v, which is %+v", what, key, m, x)
		}
		n++
		return nil
	}))
	if n != len(rest) || tally.HeldBytes() != held {
		w.t.Fatalf("%s: measured %d of %d, %d bytes count on", what, n, len(rest), tally.HeldBytes()-held)
	}
	w.checkEnd(l, what, all, tally)
	failure := errors.New("enough")
	if err := l.Measure(nil, func([]byte, Meta) error { return failure }); len(rest) > 0 && err != failure {
		w.t.Fatalf("%s: measuring ended with %v", what, err)
	}
}

// checkRefusal: a portion for which there is little room comes, or there is an error, nothing counts afterwards, and the list stays where it was.
func (w *world) checkRefusal(l *List, what string) []kv.KeyValue {
	w.t.Helper()
	memory := &room{}
	tally := kv.NewTally(memory)
	w.must(tally.Add(1<<10 - 4*int64(w.byte())))
	held := tally.HeldBytes()
	kvs, err := l.Next(100, &tally)
	if err == nil {
		return kvs
	}
	if !errors.Is(err, kv.ErrTooManyRequests) || kvs != nil || tally.HeldBytes() != held || memory.used != 0 {
		w.t.Fatalf("%s: without room: %d keys, %v; a refusal holds %d bytes, %d are reserved", what, len(kvs), err, tally.HeldBytes()-held, memory.used)
	}
	w.counts["refusal"]++
	return nil
}

// storeOf makes a store of n keys with values of so many bytes in memory; copies says up to which size values are kept in key order.
func storeOf(t testing.TB, n, valueBytes, copies int) *Store {
	engine := storage.NewMemory(storage.MemoryOptions{})
	s, err := Open(engine, Options{ByKeyBytes: copies})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		putInto(t, s, engine, benchKey(i), bytes.Repeat([]byte{byte(random.Uint32())}, valueBytes))
	}
	return s
}

func putInto(t testing.TB, s *Store, engine storage.Engine, key, value []byte) {
	b := engine.NewBatch()
	defer b.Close()
	at := Locator{Rev: s.Revision() + 1}
	e := Effect{Key: key, Value: value, At: at, Create: at.Rev, Version: 1}
	if m, found, err := s.Meta(key); err != nil {
		t.Fatal(err)
	} else if found {
		e.Prev, e.PrevLive, e.Create, e.Version = m.At, true, m.Create, m.Version+1
	}
	s.Apply(b, []Effect{e}, at.Rev)
	if err := engine.Apply(b); err != nil {
		t.Fatal(err)
	}
}

// TestListHoldsAPortion: whatever the sizes of values, at the revision and now, a list reserves about a portion at a time.
func TestListHoldsAPortion(t *testing.T) {
	const n, portion = 4000, 64 << 10
	for name, value := range map[string]int{"small": 10, "copied": 900, "large": 5000} {
		s := storeOf(t, n, value, 0)
		old := s.Revision()
		for i := range n { // the newest values, by which a scan measures, are empty
			putInto(t, s, s.engine, benchKey(i), nil)
		}
		for _, at := range []kv.Revision{0, old} {
			memory := &room{limit: 1 << 40}
			tally := kv.NewTally(memory)
			l, err := s.NewList(&kv.RangeRequest{Span: benchSpan, Revision: at})
			if err != nil {
				t.Fatal(err)
			}
			keys, portions, looked := 0, 0, 0
			for {
				kvs, err := l.Next(portion, &tally)
				if err != nil {
					t.Fatal(err)
				}
				if kvs == nil {
					break
				}
				keys += len(kvs)
				portions++
				looked += min(l.aheadKeys, n) // for the next one
				tally.Release()
			}
			if keys != n || memory.used != 0 {
				t.Errorf("%s at %d: %d keys, %d bytes are left", name, at, keys, memory.used)
			}
			// Beside the portion: items, twice while their list grows, and what is reserved ahead.
			if memory.most > 6*portion+1<<20 {
				t.Errorf("%s at %d: %d bytes were held for portions of %d", name, at, memory.most, portion)
			}
			if value > 1000 && at == old && looked > 4*n {
				t.Errorf("%s: %d keys were looked at to return %d", name, looked, n)
			}
			if want := 2 + n*(80+32+value)/portion; at == old && portions > 2*want {
				t.Errorf("%s: %d portions, want about %d", name, portions, want)
			}
		}
	}
}

// TestStreamHoldsTwoChunks: a stream of any length reserves what two chunks take; what fn has let go does not count.
func TestStreamHoldsTwoChunks(t *testing.T) {
	const n, value, chunk = 10_000, 2 << 10, 256 << 10
	s := storeOf(t, n, value, 1<<10)
	memory := &room{limit: 1 << 40}
	tally := kv.NewTally(memory)
	keys := 0
	last, err := s.RangeStream(&kv.RangeRequest{Span: benchSpan}, chunk, &tally, func(kvs []kv.KeyValue) error { keys += len(kvs); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if keys += len(last.KVs); keys != n || tally.HeldBytes() != kv.MemoryBytes(last.KVs) || memory.most > 3*chunk+256<<10 {
		t.Errorf("%d keys, %d bytes are held, at most %d were", keys, tally.HeldBytes(), memory.most)
	}
	tally.Release()
	failure := errors.New("the client is gone")
	_, err = s.RangeStream(&kv.RangeRequest{Span: benchSpan}, chunk, &tally, func([]kv.KeyValue) error { return failure })
	if err != failure || tally.HeldBytes() != 0 {
		t.Errorf("%v, %d bytes are held", err, tally.HeldBytes())
	}
}

// TestListRefusals: what a list cannot be is refused at its beginning, with the errors of Range.
func TestListRefusals(t *testing.T) {
	s := storeOf(t, 10, 1, 1)
	b := s.engine.NewBatch()
	defer b.Close()
	s.SetCompacted(b, 5)
	for name, c := range map[string]struct {
		q    kv.RangeRequest
		want error
	}{
		"newest":      {kv.RangeRequest{}, nil},
		"ascending":   {kv.RangeRequest{SortOrder: kv.SortAscend, Limit: 1, KeysOnly: true}, nil},
		"compacted":   {kv.RangeRequest{Revision: 4}, kv.ErrCompacted},
		"future":      {kv.RangeRequest{Revision: s.Revision() + 1}, kv.ErrFutureRevision},
		"descending":  {kv.RangeRequest{SortOrder: kv.SortDescend}, kv.ErrInvalidRequest},
		"by value":    {kv.RangeRequest{SortTarget: kv.SortByValue}, kv.ErrInvalidRequest},
		"count":       {kv.RangeRequest{CountOnly: true}, kv.ErrInvalidRequest},
		"min mod":     {kv.RangeRequest{MinMod: 2}, kv.ErrInvalidRequest},
		"max created": {kv.RangeRequest{MaxCreate: 2}, kv.ErrInvalidRequest},
	} {
		c.q.Span = benchSpan
		l, err := s.NewList(&c.q)
		if !errors.Is(err, c.want) || (l == nil) != (c.want != nil) || InKeyOrder(&c.q) == errors.Is(c.want, kv.ErrInvalidRequest) {
			t.Errorf("%s: %v, want %v; in key order: %v", name, err, c.want, InKeyOrder(&c.q))
		}
	}
	empty, err := s.NewList(&kv.RangeRequest{Span: kv.Span{Start: []byte("b"), End: []byte("a")}})
	if err != nil {
		t.Fatal(err)
	}
	kvs, err := empty.Next(1, nil)
	count, countErr := empty.Count(nil)
	if kvs != nil || err != nil || count != 0 || countErr != nil || empty.More() {
		t.Errorf("an empty span: %v, %v, %d, %v, more: %v", kvs, err, count, countErr, empty.More())
	}
}

// iterators counts how many are opened.
type iterators struct {
	storage.Reader
	opened int
}

func (i *iterators) NewIterator(lower, upper []byte) storage.Iterator {
	i.opened++
	return i.Reader.NewIterator(lower, upper)
}

// TestManyKeysOfLater: keys that came after the revision are passed in large steps, however few keys are asked for.
func TestManyKeysOfLater(t *testing.T) {
	const later = 20_000
	s := storeOf(t, 10, 10, 1<<10)
	old := s.Revision()
	for i := range later {
		putInto(t, s, s.engine, benchKey(1000+i), nil)
	}
	source := &iterators{Reader: s.source}
	s.source = source
	portions := func(q *kv.RangeRequest) (n int, err error) {
		l, err := s.NewList(q)
		if err != nil {
			return 0, err
		}
		for {
			kvs, err := l.Next(1, nil)
			if kvs == nil || err != nil {
				return n, err
			}
			if n += len(kvs); n == 10 {
				if ended, err := l.Ended(); err != nil || !ended {
					return n, fmt.Errorf("it has ended: %v, %w", ended, err)
				}
			}
		}
	}
	for name, read := range map[string]func(limit int64) (int, error){
		"range": func(limit int64) (int, error) {
			r, err := s.Range(&kv.RangeRequest{Span: benchSpan, Revision: old, Limit: limit}, nil)
			return len(r.KVs), err
		},
		"portions": func(limit int64) (int, error) {
			return portions(&kv.RangeRequest{Span: benchSpan, Revision: old, Limit: limit})
		},
	} {
		for _, limit := range []int64{0, 10, 100} {
			source.opened = 0
			if n, err := read(limit); err != nil || n != 10 || source.opened > 100 {
				t.Errorf("%s, limit %d: %d keys, %v, %d iterators", name, limit, n, err, source.opened)
			}
		}
	}
}
