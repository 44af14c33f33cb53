package link

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestForwarderAgainstList compares the forwarder's queue with a list from which calls are deleted at once.
func TestForwarderAgainstList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		f := &forwarder{leader: 2, sent: map[uint64]*Item{}}
		var list, sent []*Item
		for range 500 {
			switch n := random.IntN(10); {
			case n < 4:
				c := &Item{SizeBytes: 1 + random.IntN(9)}
				f.enqueue(c)
				list = append(list, c)
			case n < 7 && len(list) > 0:
				at := random.IntN(len(list))
				f.remove(list[at])
				list = slices.Delete(list, at, at+1)
			case n < 8:
				here := random.IntN(5) == 0 // the leader is: nothing flies
				calls := f.take(1+random.IntN(20), here)
				if !slices.Equal(calls, list[:len(calls)]) || len(list) > 0 && len(calls) == 0 && len(f.queue) == f.gaps {
					t.Fatalf("seed %d: took %v of %v", seed, calls, list)
				}
				list = list[len(calls):]
				if here {
					continue
				}
				sent = append(sent, calls...)
				if random.IntN(3) == 0 {
					f.unsent(calls)
					f.held = false
					list, sent = append(slices.Clone(calls), list...), sent[:len(sent)-len(calls)]
				}
			case len(sent) > 0:
				c := sent[0]
				if f.answered(c.id, 2) != c {
					t.Fatalf("seed %d: nobody waits for call %d", seed, c.id)
				}
				sent = sent[1:]
			}
			size := 0
			for _, c := range slices.Concat(list, sent) {
				size += c.SizeBytes
			}
			if err := f.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if f.queued() != len(list) || f.sizeBytes != size || len(f.queue) > 2*len(list)+1 {
				t.Fatalf("seed %d: %d queued in %d places of %d bytes, want %d of %d", seed, f.queued(), len(f.queue), f.sizeBytes, len(list), size)
			}
		}
	}
}

// TestBarriersAgainstLists compares the barriers' lists with slices from which calls are deleted at once.
func TestBarriersAgainstLists(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 2))
		b := &barriers{}
		waiting, asked := map[*Item]bool{}, map[*Item]bool{}
		any := func(of map[*Item]bool, list []*Item) *Item { // by the list, so that the seed decides
			if len(of) == 0 {
				return nil
			}
			return list[random.IntN(len(list))]
		}
		for range 500 {
			switch random.IntN(6) {
			case 0, 1, 2:
				c := &Item{}
				b.add(c)
				waiting[c] = true
			case 3:
				for _, list := range []struct {
					of   map[*Item]bool
					from []*Item
				}{{waiting, b.waiting}, {asked, b.asked}} {
					if c := any(list.of, list.from); c != nil {
						b.remove(c)
						delete(list.of, c)
					}
				}
			case 4:
				if _, _, ok := b.start(2, 0); ok {
					waiting, asked = map[*Item]bool{}, waiting
				}
			case 5:
				if random.IntN(2) == 0 {
					calls := b.done(b.id, 2)
					if len(calls) != len(asked) {
						t.Fatalf("seed %d: %d calls were served, want %d", seed, len(calls), len(asked))
					}
				} else {
					b.failed(b.id, 2, false)
					for c := range asked {
						waiting[c] = true
					}
				}
				asked = map[*Item]bool{}
			}
			for i, list := range [][]*Item{b.waiting, b.asked} {
				of := []map[*Item]bool{waiting, asked}[i]
				for at, c := range list {
					if !of[c] || int(c.at) != at || c.asked != (i == 1) {
						t.Fatalf("seed %d: a call at %d of list %d believes to be at %d", seed, at, i, c.at)
					}
				}
				if len(list) != len(of) {
					t.Fatalf("seed %d: %d calls in list %d, want %d", seed, len(list), i, len(of))
				}
			}
		}
	}
}
