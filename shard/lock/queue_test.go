package lock

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/shard/latch"
)

// list says the same as a queue by looking at all who wait, and at each key.
type list []*Waiter

func (l list) touched(a latch.Access) (places []uint64) {
	for _, w := range l {
		for _, b := range w.accesses {
			common := slices.ContainsFunc(world, func(key string) bool { return a.Span.Contains([]byte(key)) && b.Span.Contains([]byte(key)) })
			if common && (a.Writes || b.Writes) {
				places = append(places, w.Place)
				break
			}
		}
	}
	return places
}

func (l list) behind(w *Waiter, a latch.Access) bool {
	return slices.ContainsFunc(l.touched(a), func(place uint64) bool { return w == nil || place < w.Place })
}

// TestQueueAgainstList: who is touched, behind whom, and free, is what a list says.
func TestQueueAgainstList(t *testing.T) {
	free, behind := 0, 0
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 11))
		var queue Queue
		var all list
		var held Table
		var locks twin
		for step := range 150 {
			if most := 1 + int(seed)%30; random.IntN(2) == 0 && len(all) < most || len(all) == 0 {
				var accesses []latch.Access
				for range random.IntN(4) {
					accesses = append(accesses, randomAccess(random))
				}
				all = append(all, queue.Add(accesses))
			} else {
				i := random.IntN(len(all))
				if got := queue.Remove(all[i]); len(got) != len(all[i].accesses) {
					t.Fatalf("seed %d, step %d: %v is left", seed, step, got)
				}
				all = slices.Delete(all, i, i+1)
			}
			if n := id(uint64(step)); random.IntN(8) == 0 {
				accesses := []latch.Access{randomAccess(random)}
				held.Acquire(n, accesses)
				locks.acquire(n, accesses)
			} else if old := id(uint64(random.IntN(step + 1))); random.IntN(4) == 0 {
				held.Release(old)
				locks.release(old)
			}
			a := randomAccess(random)
			var got []uint64
			queue.Touched(a, func(w *Waiter) { got = append(got, w.Place) })
			slices.Sort(got)
			if got = slices.Compact(got); queue.Len() != len(all) || !slices.Equal(got, all.touched(a)) {
				t.Fatalf("seed %d, step %d: %d wait, touched are %v; want %d, %v", seed, step, queue.Len(), got, len(all), all.touched(a))
			}
			for _, w := range append(all[:len(all):len(all)], nil) {
				if g := queue.Behind(w, a); g != all.behind(w, a) {
					t.Fatalf("seed %d, step %d: behind %+v: %v", seed, step, w, g)
				} else if g {
					behind++
				}
			}
			for _, w := range all {
				want := !slices.ContainsFunc(w.accesses, func(a latch.Access) bool { return all.behind(w, a) || len(locks.conflicts(a)) > 0 })
				if g := queue.Free(w, &held); g != want {
					t.Fatalf("seed %d, step %d: %+v is free: %v", seed, step, w, g)
				} else if g {
					free++
				}
			}
			if err := queue.exclusive.root.check(nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if free == 0 || behind == 0 {
		t.Errorf("%d are free, %d are behind", free, behind)
	}
}
