package statespace

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// grid is a space of two numbers, which grow by steps of 1 up to a border.
type grid struct {
	border int
	bad    func(x, y int) bool
}

type point struct{ x, y int }

func (g grid) space() Space[point, byte] {
	return Space[point, byte]{Actions: g.actions, Do: g.do, Key: func(p point) uint64 { return uint64(1000*p.x + p.y) }}
}

func (g grid) actions(p point) (all []byte) {
	if p.x < g.border {
		all = append(all, 'x')
	}
	if p.y < g.border {
		all = append(all, 'y')
	}
	return append(all, 'n') // nothing
}

func (g grid) do(p point, a byte) (point, bool, *Violation) {
	switch a {
	case 'x':
		p.x++
	case 'y':
		p.y++
	}
	if g.bad != nil && g.bad(p.x, p.y) {
		return p, true, &Violation{Invariant: "good", What: "it is bad"}
	}
	return p, a != 'n', nil
}

func TestSearchIsComplete(t *testing.T) {
	r := Search(grid{border: 9}.space(), point{}, Limits{States: 1000})
	if r.States != 100 || r.Depth != 18 || !r.Complete || r.Violation != nil {
		t.Errorf("%+v", r)
	}
	r = Search(grid{border: 99}.space(), point{}, Limits{States: 1000, Seed: 1})
	if r.States < 1000 || r.States > 1010 || r.Complete || r.Walks == 0 {
		t.Errorf("%+v", r)
	}
}

func TestSearchFindsTheShortestWay(t *testing.T) {
	r := Search(grid{border: 9, bad: func(x, y int) bool { return x >= 2 && y >= 3 }}.space(), point{}, Limits{States: 1000})
	slices.Sort(r.Way)
	if r.Violation == nil || r.Violation.Error() != "good: it is bad" || string(r.Way) != "xxyyy" || r.Complete {
		t.Errorf("%+v", r)
	}
}

// TestWaysOfWalksAreMadeShort: what a walk finds far out loses the actions that it does not need.
func TestWaysOfWalksAreMadeShort(t *testing.T) {
	r := Search(grid{border: 99, bad: func(x, _ int) bool { return x >= 20 }}.space(), point{}, Limits{States: 160, Seed: 1})
	if r.Violation == nil || r.Walks == 0 && len(r.Way) > 20 || string(r.Way) != "xxxxxxxxxxxxxxxxxxxx" {
		t.Errorf("%+v", r)
	}
}

func TestFingerprint(t *testing.T) {
	type inner struct{ n int }
	type core struct {
		table map[string]*inner
		list  []byte
		any   any
		skip  *point
	}
	make2 := func(n int, list string) core {
		return core{map[string]*inner{"a": {1}, "b": {n}}, []byte(list), inner{n}, &point{n, n}}
	}
	var f Fingerprinter
	same := f.Of(make2(2, "x"), true)
	if same != f.Of(make2(2, "x"), true) {
		t.Error("equal values differ")
	}
	for i, other := range []uint64{f.Of(make2(3, "x"), true), f.Of(make2(2, "y"), true), f.Of(make2(2, "x"), false), f.Of(make2(2, "x"))} {
		if other == same {
			t.Errorf("difference %d is not seen", i)
		}
	}
}

// counter is a machine that can be copied at multiples of ten only.
type counter struct{ n int }

var counters = Machine[*counter, int, int, int]{
	Take: func(m *counter, in int, _ bool) int {
		m.n = (m.n + in) % 50
		return m.n
	},
	Look:     func(m *counter) int { return m.n },
	Identity: func(_ *counter, n int) uint64 { return uint64(n) },
	Copy:     func(m *counter) (*counter, bool) { return &counter{m.n}, m.n%10 == 0 },
}

// TestAutomaton: however its states are visited, machines are what they were.
func TestAutomaton(t *testing.T) {
	a := NewAutomaton(counters)
	at := a.Enter(&counter{})
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := a.View(at)
		for _, in := range []int{3, 7} {
			if got := a.Do(at, in); got.Effect != (n+in)%50 || a.View(got.After) != got.Effect || got.Before != at {
				t.Fatalf("%d and %d: %+v", n, in, got)
			}
		}
		at = a.Do(at, []int{3, 7}[rng.IntN(2)]).After
		if m := a.Materialize(at); m.n != a.View(at) {
			t.Fatalf("%d, not %d", m.n, a.View(at))
		}
	}
	if a.States() != 50 || a.Transitions() != 100 {
		t.Errorf("%d states, %d transitions", a.States(), a.Transitions())
	}
}
