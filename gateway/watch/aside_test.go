package watch

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// woken tells whether the dispatcher was woken since the last call.
func (h *Hub) woken() bool {
	select {
	case <-h.wake:
		return true
	default:
		return false
	}
}

// TestResolveWakes: what is kept aside wakes nobody. What closes it does: a decision, whichever it is.
func TestResolveWakes(t *testing.T) {
	for _, aborted := range []bool{false, true} {
		s := newStore(t, 2, Options{})
		s.create(s.stream(), kv.Span{Start: []byte("a"), End: []byte("j")})
		tx := s.prepare([][]change{{{"a", []byte("1")}, {"m", []byte("1")}}})
		s.apply(1, false)
		s.number(tx)
		for s.hub.dispatch() {
		}
		s.hub.woken()
		s.issue(1, []change{{"b", []byte("2")}})
		s.apply(1, false)
		if s.hub.woken() {
			t.Error("a change that may not be told yet wakes the dispatcher")
		}
		tx.aborted = aborted
		s.issueWith(1, []*transaction{tx})
		s.apply(1, false)
		if !s.hub.woken() {
			t.Errorf("a decision, aborted %v, wakes nobody", aborted)
		}
	}
}

// TestAsideCountsAsRing: what is kept aside takes the room of what the ring has, so that all together stay within the bound.
func TestAsideCountsAsRing(t *testing.T) {
	const limit, value = 100_000, 1000
	s := newStore(t, 2, Options{RingBytes: limit})
	put := func(i int) {
		s.issue(1, []change{{fmt.Sprintf("b%d", i%10), make([]byte, value)}})
		s.apply(1, false)
		if used := s.hub.Metrics().RingBytes; used > limit+2*value {
			t.Fatalf("%d bytes are held, and the bound is %d", used, limit)
		}
		if err := s.hub.verify(); err != nil {
			t.Fatal(err)
		}
	}
	ring, aside := &s.hub.Shard(1).ring, &s.hub.Shard(1).aside
	for i := range 2 * limit / value {
		put(i)
	}
	if ring.sizeBytes < limit-2*value {
		t.Fatalf("the ring of the only shard with changes holds %d bytes of %d", ring.sizeBytes, limit)
	}
	tx := s.prepare([][]change{{{"a", []byte("1")}, {"m", []byte("1")}}})
	s.apply(1, false)
	s.number(tx)
	for i := range 40 {
		put(i)
	}
	if aside.changes.size() != 40 || aside.missing > ring.last {
		t.Errorf("%d of 40 changes are kept aside, with %d bytes of a share of %d; missing up to %d", aside.changes.size(), ring.asideBytes, limit/2, aside.missing)
	}
	for i := range 100 {
		put(i)
	}
	if aside.missing <= ring.last {
		t.Error("more than a share is kept aside")
	}
}
