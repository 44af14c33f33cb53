package txn

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestTimers: a heap gives what a map would.
func TestTimers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	heap, twin := timers{places: map[timer]int{}}, map[timer]time.Duration{}
	now, fired := time.Duration(0), 0
	for range 20_000 {
		what := timer{number: 1 + random.Uint64N(40)}
		switch random.IntN(4) {
		case 0, 1:
			at := now + time.Duration(random.IntN(50))
			heap.set(what, at)
			twin[what] = at
		case 2:
			heap.stop(what)
			delete(twin, what)
		case 3:
			now += time.Duration(random.IntN(10))
			last := time.Duration(0)
			for _, what := range heap.due(now) {
				at, ok := twin[what]
				if !ok || at > now || at < last {
					t.Fatalf("%+v fires at %d, in the twin: %v, %d", what, now, ok, at)
				}
				last, fired = at, fired+1
				delete(twin, what)
			}
			if late := slices.Sorted(maps.Values(twin)); len(late) > 0 && late[0] <= now {
				t.Fatalf("at %d what was due at %d has not fired", now, late[0])
			}
		}
		if len(heap.heap) != len(twin) || len(heap.places) != len(twin) {
			t.Fatalf("%d timers, %d places, want %d", len(heap.heap), len(heap.places), len(twin))
		}
	}
	if fired < 1000 {
		t.Errorf("only %d fired", fired)
	}
}
