package raft

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// given is a slice that somebody got, and what was in it then.
type given struct {
	slice, copied []consensus.Entry
	library       []*raftpb.Entry
}

// TestRecent compares recent with a list that is copied at every turn. Whatever was given out stays as it was.
func TestRecent(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var r recent
		var log []consensus.Entry // everything that was written
		applied, term, found := consensus.Index(0), consensus.Term(1), 0
		var out []given
		for range 300 {
			switch last := consensus.Index(len(log)); rng.IntN(6) {
			case 0, 1, 2: // more entries, now and then in place of some
				if rng.IntN(8) == 0 && last > applied {
					term++
					log = slices.Clone(log[:applied+consensus.Index(rng.Uint64N(uint64(last-applied+1)))])
				}
				more := entriesAfter(rng, consensus.Index(len(log)), term)
				library := toEntries(more)
				entries := r.add(library)
				equal(t, "added", entries, more)
				out = append(out, given{slice: entries, copied: slices.Clone(entries), library: library})
				log = append(log, more...)
			case 3:
				applied += consensus.Index(rng.Uint64N(uint64(last-applied) + 1))
				r.forget(applied)
			default:
				if last == 0 {
					continue
				}
				lo := 1 + consensus.Index(rng.Uint64N(uint64(last)))
				hi := lo + consensus.Index(rng.Uint64N(uint64(last-lo)+2))
				limit := rng.IntN(2000)
				library := r.slice(lo, hi, limit)
				if len(library) == 0 {
					continue
				}
				found++
				want := limited(log[lo-1:hi-1], limit)
				entries, ok := r.converted(library)
				if !ok {
					t.Fatalf("seed %d: entries from %d to %d are there, but not converted", seed, lo, hi)
				}
				equal(t, "found", entries, want)
				out = append(out, given{slice: entries, copied: slices.Clone(entries), library: library})
			}
			if len(r.entries) > 2*(recentKept+8)+recentEntries+8 {
				t.Fatalf("seed %d: it holds %d entries", seed, len(r.entries))
			}
		}
		for _, g := range out {
			equal(t, "given out long ago", g.slice, g.copied)
			equal(t, "given out long ago to the library", fromAll(g.library), g.copied)
		}
		if found == 0 {
			t.Fatalf("seed %d: nothing was ever found", seed)
		}
	}
}

// TestRecentLetsGo: what is applied does not stay in memory because an array is.
func TestRecentLetsGo(t *testing.T) {
	var r recent
	for i := range consensus.Index(40) {
		r.add(toEntries([]consensus.Entry{{Index: i + 1, Term: 1, Data: make([]byte, 8<<10)}}))
		r.forget(i + 1)
		if r.bytes > recentIdle {
			t.Fatalf("%d bytes are held and none needed", r.bytes)
		}
	}
	for i := range consensus.Index(200) {
		r.add(toEntries([]consensus.Entry{{Index: 41 + i, Term: 1, Data: make([]byte, 8<<10)}}))
		if most := recentBytes + 9<<10; r.bytes > most {
			t.Fatalf("%d bytes are held, more than %d", r.bytes, most)
		}
	}
}

func entriesAfter(rng *rand.Rand, last consensus.Index, term consensus.Term) (entries []consensus.Entry) {
	for i := range 1 + rng.IntN(5) {
		e := consensus.Entry{Index: last + 1 + consensus.Index(i), Term: term}
		switch rng.IntN(8) {
		case 0:
			e.Kind = consensus.EntryBarrier
		case 1:
			e.Kind, e.Data = consensus.EntryConfig, consensus.AppendConfig(nil, consensus.Config{Voters: []consensus.ReplicaID{1, 2}})
		default:
			e.Data = fmt.Appendf(nil, "%0*d", 1+rng.IntN(600), rng.Uint32())
		}
		entries = append(entries, e)
	}
	return entries
}

// limited is what a log returns of the entries.
func limited(entries []consensus.Entry, maxBytes int) []consensus.Entry {
	size := 0
	for i := range entries {
		if size += entries[i].SizeBytes(); size > maxBytes && i > 0 {
			return entries[:i]
		}
	}
	return entries
}

func fromAll(library []*raftpb.Entry) (entries []consensus.Entry) {
	for _, pb := range library {
		entries = append(entries, fromEntry(pb))
	}
	return entries
}

func equal(t *testing.T, what string, got, want []consensus.Entry) {
	t.Helper()
	same := func(a, b consensus.Entry) bool {
		return a.Index == b.Index && a.Term == b.Term && a.Kind == b.Kind && bytes.Equal(a.Data, b.Data)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("%s: %d entries %.200v instead of %d entries %.200v", what, len(got), fmt.Sprint(got), len(want), fmt.Sprint(want))
	}
}
