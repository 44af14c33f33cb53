package mvcc

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// room is a Memory with a limit that knows the most that was reserved.
type room struct{ limit, used, most int64 }

func (r *room) Reserve(bytes int64) bool {
	if r.used+bytes > r.limit {
		return false
	}
	r.used += bytes
	r.most = max(r.most, r.used)
	return true
}

func (r *room) Release(bytes int64) { r.used -= bytes }

// TestRangeReserves: a list, of any order, is refused before it is in memory, and holds afterwards what it answers.
func TestRangeReserves(t *testing.T) {
	const n, value, total = 5000, 4 << 10, 5000 * (4 << 10)
	s := storeOf(t, n, value, 1<<10)
	for _, q := range []kv.RangeRequest{
		{}, {Limit: n - 1}, {SortTarget: kv.SortByValue}, {SortTarget: kv.SortByMod, SortOrder: kv.SortDescend}, {MaxMod: n}, {Revision: n},
	} {
		q.Span = benchSpan
		memory := &room{limit: total / 2}
		tally := kv.NewTally(memory)
		if _, err := s.Range(&q, &tally); !errors.Is(err, kv.ErrTooManyRequests) || tally.HeldBytes() != 0 {
			t.Errorf("%+v: %v, %d bytes are held", q, err, tally.HeldBytes())
		}
		tally.Release()
		memory = &room{limit: 2 * total}
		tally = kv.NewTally(memory)
		r, err := s.Range(&q, &tally)
		if err != nil {
			t.Fatal(err)
		}
		if size := kv.MemoryBytes(r.KVs); tally.HeldBytes() != size || memory.used < size-1<<10 || memory.used > size+192<<10 || memory.most > size+4<<20 {
			t.Errorf("%+v: an answer of %d bytes holds %d, %d are reserved, at most %d", q, size, tally.HeldBytes(), memory.used, memory.most)
		}
	}
	// What only looks at keys, or returns few of them, holds little in the end.
	for _, q := range []kv.RangeRequest{{CountOnly: true}, {CountOnly: true, Revision: 3}, {MinMod: n}, {SortTarget: kv.SortByMod, SortOrder: kv.SortDescend, Limit: 1}} {
		q.Span = benchSpan
		memory := &room{limit: 4 << 20}
		tally := kv.NewTally(memory)
		if _, err := s.Range(&q, &tally); err != nil || tally.HeldBytes() > 3*value {
			t.Errorf("%+v: %v, %d bytes are held", q, err, tally.HeldBytes())
		}
	}
}

// TestScanReservesWithinAChunk: long keys are refused while they are collected, not when there are ChunkKeys of them.
func TestScanReservesWithinAChunk(t *testing.T) {
	engine := storage.NewMemory(storage.MemoryOptions{})
	s, err := Open(engine, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const n, long = 300, 100 << 10
	for i := range n {
		putInto(t, s, engine, append(bytes.Repeat([]byte{'k'}, long), benchKey(i)...), nil)
	}
	all := kv.Span{Start: []byte("k"), End: []byte("l")}
	for what, read := range map[string]func(*kv.Tally) error{
		"keys": func(tally *kv.Tally) error {
			_, err := s.Range(&kv.RangeRequest{Span: all, KeysOnly: true}, tally)
			return err
		},
		"an old revision": func(tally *kv.Tally) error {
			_, err := s.Range(&kv.RangeRequest{Span: all, Revision: n}, tally)
			return err
		},
		"an old count": func(tally *kv.Tally) error {
			limits := scanLimits{keys: 1 << 17, bytes: 1 << 40, tally: tally}
			return s.scanAll(all, limits)
		},
		"the first of all": func(tally *kv.Tally) error {
			_, err := s.Range(&kv.RangeRequest{Span: all, Limit: 290}, tally)
			return err
		},
	} {
		memory := &room{limit: 5 << 20}
		tally := kv.NewTally(memory)
		if err := read(&tally); !errors.Is(err, kv.ErrTooManyRequests) {
			t.Errorf("%s: %v", what, err)
		}
		if memory.most < 4<<20 {
			t.Errorf("%s: refused at %d bytes of %d", what, memory.most, memory.limit)
		}
	}
	memory := &room{limit: 5 << 20} // a scan that keeps nothing needs little
	tally := kv.NewTally(memory)
	seen := 0
	if err := s.Scan(all, 0, &tally, func([]byte, Meta) bool { seen++; return true }); err != nil || seen != n || tally.HeldBytes() != 0 {
		t.Errorf("%v: %d keys, %d bytes are held", err, seen, tally.HeldBytes())
	}
}

func (r *Reader) scanAll(span kv.Span, limits scanLimits) error {
	lower, upper := span.Bounds()
	return r.scan(lower, upper, r.revision, limits, func([]item, int64) (bool, error) { return true, nil })
}
