package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestForwarderAgainstList compares the forwarder's queue with a list from which calls are deleted at once.
func TestForwarderAgainstList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		f := &forwarder{leader: 2, sent: map[uint64]*Call{}}
		var list, sent []*Call
		for range 500 {
			switch n := random.IntN(10); {
			case n < 4:
				c := &Call{sizeBytes: 1 + random.IntN(9)}
				f.enqueue(c)
				list = append(list, c)
			case n < 7 && len(list) > 0:
				at := random.IntN(len(list))
				list[at].answered.Store(true)
				f.remove(list[at])
				list = slices.Delete(list, at, at+1)
			case n < 8:
				_, calls := f.take(1 + random.IntN(20))
				if !slices.Equal(calls, list[:len(calls)]) || len(list) > 0 && len(calls) == 0 && len(f.queue) == f.gaps {
					t.Fatalf("seed %d: took %v of %v", seed, calls, list)
				}
				list, sent = list[len(calls):], append(sent, calls...)
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
				size += c.sizeBytes
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
		waiting, asked := map[*Call]bool{}, map[*Call]bool{}
		any := func(of map[*Call]bool, list []*Call) *Call { // by the list, so that the seed decides
			if len(of) == 0 {
				return nil
			}
			return list[random.IntN(len(list))]
		}
		for range 500 {
			switch random.IntN(6) {
			case 0, 1, 2:
				c := &Call{}
				b.add(c)
				waiting[c] = true
			case 3:
				for _, list := range []struct {
					of   map[*Call]bool
					from []*Call
				}{{waiting, b.waiting}, {asked, b.asked}} {
					if c := any(list.of, list.from); c != nil {
						b.remove(c)
						delete(list.of, c)
					}
				}
			case 4:
				if _, ok := b.start(2, 0); ok {
					waiting, asked = map[*Call]bool{}, waiting
				}
			case 5:
				if random.IntN(2) == 0 {
					calls := b.done(b.id, 2)
					if len(calls) != len(asked) {
						t.Fatalf("seed %d: %d calls were served, want %d", seed, len(calls), len(asked))
					}
				} else {
					b.failed(b.id, false)
					for c := range asked {
						waiting[c] = true
					}
				}
				asked = map[*Call]bool{}
			}
			for i, list := range [][]*Call{b.waiting, b.asked} {
				of := []map[*Call]bool{waiting, asked}[i]
				for at, c := range list {
					if !of[c] || c.at != at || c.asked != (i == 1) {
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

// BenchmarkGiveUp: one operation is a call that waits, as writes or reads do without a leader, and ends.
func BenchmarkGiveUp(b *testing.B) {
	write, read := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}
	for what, req := range map[string]*kv.Request{"write": write, "read": read} {
		for _, waiting := range []int{1000, 16_000} {
			b.Run(fmt.Sprintf("%s/%d", what, waiting), func(b *testing.B) {
				c := newCluster(b, Options{})
				for at := 0; at < b.N; at += waiting {
					calls := make([]*Call, waiting)
					for i := range calls {
						calls[i] = &Call{Req: req, Done: func(*kv.Response, error) {}}
						c.nodes[1].gateway.Submit(calls[i])
					}
					for _, call := range calls {
						c.nodes[1].gateway.Cancel(call)
					}
				}
			})
		}
	}
}
