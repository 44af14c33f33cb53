package connlimit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// twin is the stupid gate: a list in the order of arrival.
type twin []*seen

type seen struct {
	conn  int
	until time.Duration
	spoke bool
}

func (t *twin) remove(conn int) {
	*t = slices.DeleteFunc(*t, func(s *seen) bool { return s.conn == conn })
}

// TestGateAgainstList compares the gate with a list of all connections.
func TestGateAgainstList(t *testing.T) {
	const limit, patience = 5, 10 * time.Second
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		g := NewGate[int](limit, patience)
		var all twin
		now := time.Duration(0)
		for conn := range 300 {
			now += time.Duration(random.IntN(3000)) * time.Millisecond
			switch random.IntN(5) {
			case 0, 1:
				entered, out, dropped := g.Enter(conn, now)
				oldest := slices.IndexFunc(all, func(s *seen) bool { return !s.spoke })
				full := len(all) >= limit
				if entered != (!full || oldest >= 0) || dropped != (full && oldest >= 0) || dropped && out != all[oldest].conn {
					t.Fatalf("seed %d: %d entered: %v, instead of %d: %v", seed, conn, entered, out, dropped)
				}
				if dropped {
					all.remove(out)
				}
				if entered {
					all = append(all, &seen{conn: conn, until: now + patience})
				}
			case 2:
				if len(all) > 0 {
					s := all[random.IntN(len(all))]
					s.spoke = true
					g.Spoke(s.conn)
				}
			case 3:
				gone := random.IntN(conn + 1)
				g.Leave(gone)
				all.remove(gone)
			case 4:
				out, next := g.Expired(now)
				var wanted []int
				first := time.Duration(0)
				for _, s := range slices.Clone(all) {
					switch {
					case s.spoke:
					case s.until <= now:
						wanted = append(wanted, s.conn)
						all.remove(s.conn)
					case first == 0:
						first = s.until
					}
				}
				if !slices.Equal(out, wanted) || next != first {
					t.Fatalf("seed %d: expired at %v are %v, next at %v; want %v and %v", seed, now, out, next, wanted, first)
				}
			}
			silent := len(slices.DeleteFunc(slices.Clone(all), func(s *seen) bool { return s.spoke }))
			if g.Held() != len(all) || g.silent.Len() != silent || g.Held() > limit {
				t.Fatalf("seed %d: %d held, %d silent; want %d and %d", seed, g.Held(), g.silent.Len(), len(all), silent)
			}
		}
	}
}
