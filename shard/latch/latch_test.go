package latch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func span(start, end string) kv.Span {
	s := kv.Span{Start: []byte(start)}
	if end != "" {
		s.End = []byte(end)
	}
	return s
}

func reads(start, end string) Access  { return Access{Span: span(start, end)} }
func writes(start, end string) Access { return Access{Span: span(start, end), Writes: true} }

// A reader and a writer of the same keys follow each other in the order in which they came, and a reader that comes after a
// waiting writer waits for it, although it could have gone with the reader before: otherwise readers could keep a writer waiting for ever.
func TestOrderOfArrival(t *testing.T) {
	var table Table
	first := table.Add([]Access{reads("a", "m")})
	writer := table.Add([]Access{writes("c", "")})
	second := table.Add([]Access{reads("b", "d")})
	other := table.Add([]Access{writes("m", "\x00")})
	expect := func(when string, want ...ID) {
		t.Helper()
		var granted []ID
		for _, id := range []ID{first, writer, second, other} {
			if table.Granted(id) {
				granted = append(granted, id)
			}
		}
		if !slices.Equal(granted, want) {
			t.Errorf("%s: operations %v have their latches, want %v", when, granted, want)
		}
	}
	expect("at first", first, other)
	if table.Conflicts(reads("e", "f")) || !table.Conflicts(writes("e", "f")) || !table.Conflicts(reads("c", "")) || table.Conflicts(writes("", "a")) {
		t.Error("who is not in the table waits for the wrong ones")
	}
	remove(t, &table, first)
	expect("after the first reader", writer, other)
	remove(t, &table, writer)
	expect("after the writer", second, other)
	if table.Remove(writer) == nil || table.Close(writer) == nil {
		t.Error("an operation ended twice")
	}
	remove(t, &table, second)
	remove(t, &table, other)
	if table.Len() != 0 || table.Conflicts(writes("", "\x00")) {
		t.Error("an empty table makes somebody wait")
	}
}

func remove(t *testing.T, table *Table, id ID) {
	t.Helper()
	if err := table.Remove(id); err != nil {
		t.Fatal(err)
	}
}

// twin says the same by looking at each key of a small world.
type twin struct {
	ids      []ID
	accesses [][]Access
	open     map[ID]bool
}

// told are the accesses of operations that are not open.
func (w *twin) told() *twin {
	closed := &twin{}
	for i, id := range w.ids {
		if !w.open[id] {
			closed.ids, closed.accesses = append(closed.ids, id), append(closed.accesses, w.accesses[i])
		}
	}
	return closed
}

var world = []string{"", "a", "a\x00", "b", "ba", "c", "\x00", "\xff"}

func (w *twin) conflict(upTo int, a Access) bool {
	for _, list := range w.accesses[:upTo] {
		for _, b := range list {
			for _, key := range world {
				if (a.Writes || b.Writes) && a.Span.Contains([]byte(key)) && b.Span.Contains([]byte(key)) {
					return true
				}
			}
		}
	}
	return false
}

func randomAccess(random *rand.Rand) Access {
	pick := func() string { return world[random.IntN(len(world))] }
	a := Access{Span: span(pick(), ""), Writes: random.IntN(2) == 0}
	if random.IntN(3) > 0 {
		a.Span.End = []byte(pick())
	}
	return a
}

// Conflicts and grants are those of a twin that knows keys only. Spans whose common keys are all outside the twin's world cannot be drawn: each bound is a
// key of it.
func TestTwin(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var table Table
		w := &twin{open: map[ID]bool{}}
		for range 60 {
			if n := len(w.ids); n > 0 && random.IntN(8) == 0 {
				id := w.ids[random.IntN(n)]
				if err := table.Close(id); err != nil {
					t.Fatal(err)
				}
				delete(w.open, id)
			} else if random.IntN(3) > 0 || n == 0 {
				accesses := make([]Access, 1+random.IntN(3))
				for i := range accesses {
					accesses[i] = randomAccess(random)
				}
				add, open := table.Add, random.IntN(4) == 0
				if open {
					add = table.AddOpen
				}
				id := add(accesses)
				w.ids, w.accesses, w.open[id] = append(w.ids, id), append(w.accesses, accesses), open
			} else {
				i := random.IntN(len(w.ids))
				remove(t, &table, w.ids[i])
				w.ids, w.accesses = slices.Delete(w.ids, i, i+1), slices.Delete(w.accesses, i, i+1)
			}
			a := randomAccess(random)
			if got, want := table.Conflicts(a), w.told().conflict(len(w.told().ids), a); got != want {
				t.Fatalf("seed %d: does %v conflict? %v, want %v, with %v", seed, a, got, want, w.accesses)
			}
			for i, id := range w.ids {
				want := !slices.ContainsFunc(w.accesses[i], func(a Access) bool { return w.conflict(i, a) })
				if got := table.Granted(id); got != want {
					t.Fatalf("seed %d: operation %d granted: %v, want %v", seed, id, got, want)
				}
			}
		}
	}
}

// What many accesses touch, the few that are made of them touch too.
func TestMergeCoversAll(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		many := make([]Access, maxAccesses+1+random.IntN(10))
		for i := range many {
			many[i] = randomAccess(random)
		}
		few := Merge(many)
		if len(few) > 2 {
			t.Fatalf("%d accesses are left", len(few))
		}
		for _, a := range many {
			for _, key := range world {
				covered := slices.ContainsFunc(few, func(b Access) bool { return b.Writes == a.Writes && b.Span.Contains([]byte(key)) })
				if a.Span.Contains([]byte(key)) && !covered {
					t.Fatalf("seed %d: key %q of %v is in none of %v", seed, key, a, few)
				}
			}
		}
	}
	few := []Access{reads("a", ""), writes("b", "c")}
	if got := fmt.Sprint(Merge(few)); got != fmt.Sprint(few) {
		t.Errorf("few accesses were merged to %s", got)
	}
}
