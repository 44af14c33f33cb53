package kv

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFinished holds what is said against sets of finished transactions. What an anchor says only grows; who hears it in any order, and some of it never, takes for
// finished what is, and forgets nothing that it has taken for finished.
func TestFinished(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const terms, numbers = 3, 6
	var all []TransactionID
	for term := range uint64(terms) {
		for n := range uint64(numbers) {
			all = append(all, TransactionID{Anchor: 7, Term: term + 1, Number: n + 1})
		}
	}
	for range 2000 {
		finished := map[TransactionID]bool{}
		var said []Finished
		for at := 1; at < len(all); at += random.IntN(3) { // what the anchor says in the course of time
			for range random.IntN(4) {
				finished[all[random.IntN(at)]] = true
			}
			f := Finished{At: all[at]}
			for _, id := range all[:at] {
				if !finished[id] {
					f.Open = append(f.Open, id)
				}
			}
			if !f.Valid() {
				t.Fatalf("%+v makes no sense", f)
			}
			said = append(said, f)
		}
		var heard Finished
		for range 2 * len(said) {
			now := said[random.IntN(len(said))]
			next, news := heard.Moved(now)
			for _, id := range all {
				if heard.Covers(id) && !next.Covers(id) {
					t.Fatalf("%v was finished, and is not any more after %+v\nbefore %+v\n after %+v", id, now, heard, next)
				}
				if next.Covers(id) && !finished[id] {
					t.Fatalf("%v is not finished: %+v", id, next)
				}
			}
			if _, again := next.Moved(now); again || !next.Valid() {
				t.Fatalf("%+v makes no sense, or %+v is news twice", next, now)
			}
			if !news && (next.At != heard.At || !slices.Equal(next.Open, heard.Open)) {
				t.Fatal("it has moved, and nothing was news")
			}
			heard = next
		}
		// Whoever hears the last of it knows all.
		last := said[len(said)-1]
		heard, _ = heard.Moved(last)
		for _, id := range all {
			if heard.Covers(id) != last.Covers(id) {
				t.Fatalf("%v: finished %v, said %v", id, heard.Covers(id), last.Covers(id))
			}
		}
	}
}

// TestFinishedOfALiar: whatever is said, what was finished stays so, for its record is gone.
func TestFinishedOfALiar(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var heard Finished
		for range 20 {
			said := Finished{At: TransactionID{Anchor: 7, Term: 1, Number: 2 + random.Uint64N(20)}}
			for n := uint64(1); n < said.At.Number; n++ {
				if random.IntN(3) == 0 {
					said.Open = append(said.Open, TransactionID{Anchor: 7, Term: 1, Number: n})
				}
			}
			next, _ := heard.Moved(said)
			for n := range uint64(25) {
				if id := (TransactionID{Anchor: 7, Term: 1, Number: n}); heard.Covers(id) && !next.Covers(id) {
					t.Fatalf("%v was finished, and is not any more after %+v\nbefore %+v\n after %+v", id, said, heard, next)
				}
			}
			heard = next
		}
	}
}

func TestWrongFinished(t *testing.T) {
	id := func(term, number uint64) TransactionID { return TransactionID{Anchor: 7, Term: term, Number: number} }
	many := Finished{At: id(2, 1)}
	for n := range uint64(MaxOpen + 1) {
		many.Open = append(many.Open, id(1, n+1))
	}
	for what, f := range map[string]Finished{
		"none, with one open":       {Open: []TransactionID{id(1, 1)}},
		"of no anchor":              {At: TransactionID{Term: 1, Number: 1}},
		"at no transaction":         {At: TransactionID{Anchor: 7, Term: 1}},
		"one open that is its own":  {At: id(1, 3), Open: []TransactionID{id(1, 3)}},
		"out of order":              {At: id(1, 3), Open: []TransactionID{id(1, 2), id(1, 1)}},
		"one open twice":            {At: id(1, 3), Open: []TransactionID{id(1, 2), id(1, 2)}},
		"one of another anchor":     {At: id(1, 3), Open: []TransactionID{{Anchor: 6, Term: 1, Number: 1}}},
		"an open one without name":  {At: id(1, 3), Open: []TransactionID{id(0, 0)}},
		"more than may be left out": many,
	} {
		if f.Valid() {
			t.Errorf("%s: valid", what)
		}
	}
	if f := (Finished{}); !f.Valid() || f.Covers(id(1, 1)) {
		t.Error("none is not valid, or covers something")
	}
}
