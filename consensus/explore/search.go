package explore

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Result is what an exploration saw.
type Result struct {
	States      int  // of the group
	Depth       int  // events from the beginning to the farthest state
	Complete    bool // every state within the bounds was visited
	Local       int  // states of single replicas
	Transitions int  // inputs in different states
	Walks       int  // random walks beyond what was visited in order
	// Violation is the first broken invariant found, Trace the events that lead to it.
	Violation *Violation
	Trace     []string // in the scenario language
}

// Limits bound an exploration.
type Limits struct {
	// States is how many are visited at most, most of them breadth first and, if there are more, some on random walks.
	States int
	// Steps bounds a walk. Default 60.
	Steps int
	Seed  uint64
}

// visited is a state with the way to it.
type visited struct {
	parent int32
	action action
}

// search is an exploration under way.
type search struct {
	*universe
	seen   map[uint64]struct{}
	ways   []visited
	queue  []waiting // to be expanded, breadth first
	result Result
	begin  []action
}

// waiting is a state that was visited and not yet expanded.
type waiting struct {
	world *world
	way   int32
	depth int
}

// Explore visits the states of a setting until there are no more, a limit is reached, or an invariant is broken. Only those invariants
// are judged for which judge, if not nil, is true.
func Explore(p Protocol, s Setting, fault Fault, judge func(Invariant) bool, limits Limits) Result {
	if judge == nil {
		judge = func(Invariant) bool { return true }
	}
	if limits.Steps == 0 {
		limits.Steps = 60
	}
	e := &search{universe: newUniverse(p, s, fault, judge), seen: make(map[uint64]struct{})}
	start, done, violation := e.universe.begin()
	e.begin = done
	if violation != nil {
		e.found(violation, nil)
		return e.result
	}
	e.seen[start.key(e.buf)] = struct{}{}
	e.ways = append(e.ways, visited{parent: -1})
	e.queue = []waiting{{world: start}}
	e.breadthFirst(limits.States - limits.States/walkShare)
	if e.result.Violation == nil && len(e.queue) > 0 {
		e.walk(start, limits)
	}
	if e.result.Violation == nil {
		e.breadthFirst(limits.States)
	}
	e.result.Complete = e.result.Violation == nil && len(e.queue) == 0
	e.result.States, e.result.Local, e.result.Transitions = len(e.seen), len(e.locals), len(e.transitions)
	return e.result
}

// breadthFirst goes on until so many states are visited. It finds the shortest way to a broken invariant.
func (e *search) breadthFirst(states int) {
	for len(e.queue) > 0 && len(e.seen) < states {
		from := e.queue[0]
		e.queue[0] = waiting{}
		e.queue = e.queue[1:]
		for _, a := range e.actions(from.world) {
			to, violation := e.successor(from.world, a)
			if violation != nil {
				e.found(violation, append(e.wayTo(from.way), a))
				return
			}
			if to == nil || !e.visit(to) {
				continue
			}
			e.queue = append(e.queue, waiting{to, int32(len(e.ways)), from.depth + 1})
			e.ways = append(e.ways, visited{parent: from.way, action: a})
			e.result.Depth = max(e.result.Depth, from.depth+1)
		}
	}
}

// successor returns the world after the action; nil if the action is a delivery that changes nothing: then the message may as well
// never arrive.
func (e *search) successor(w *world, a action) (*world, *Violation) {
	to := w.clone()
	to.spend(a)
	if violation := e.do(to, a); violation != nil {
		return nil, violation
	}
	silent := a.verb == verbDeliver && len(to.flight) == len(w.flight)-1 || a.verb == verbDuplicate && len(to.flight) == len(w.flight)
	if silent && to.ledger == w.ledger && slices.Equal(to.replicas, w.replicas) {
		return nil, nil
	}
	return to, nil
}

// visit tells whether the state is new.
func (e *search) visit(w *world) bool {
	key := w.key(e.buf)
	if _, ok := e.seen[key]; ok {
		return false
	}
	e.seen[key] = struct{}{}
	return true
}

func (e *search) wayTo(i int32) (way []action) {
	for ; e.ways[i].parent >= 0; i = e.ways[i].parent {
		way = append(way, e.ways[i].action)
	}
	for a, b := 0, len(way)-1; a < b; a, b = a+1, b-1 {
		way[a], way[b] = way[b], way[a]
	}
	return way
}

// walkShare is which part of the states is left to random walks.
const walkShare = 8

// maxIdleWalks is after how many walks without anything new walking stops.
const maxIdleWalks = 500

// walk goes random ways from the start until it has seen enough states.
func (e *search) walk(start *world, limits Limits) {
	rng := rand.New(rand.NewPCG(limits.Seed, 1))
	for idle := 0; len(e.seen) < limits.States && idle < maxIdleWalks; e.result.Walks++ {
		idle++
		w := start
		var way []action
		for depth := 1; depth <= limits.Steps; depth++ {
			all := e.actions(w)
			if len(all) == 0 {
				break
			}
			a := all[rng.IntN(len(all))]
			to, violation := e.successor(w, a)
			if violation != nil {
				e.found(violation, append(way, a))
				return
			}
			if to == nil {
				continue
			}
			w, way = to, append(way, a)
			if e.visit(w) {
				idle = 0
				e.result.Depth = max(e.result.Depth, len(way))
			}
		}
	}
}

// found makes the way to a broken invariant as short as leaving out events can make it.
func (e *search) found(violation *Violation, way []action) {
	e.result.Violation = violation
	for shorter := true; shorter; {
		shorter = false
		for i := len(way) - 2; i >= 0; i-- {
			candidate := append(append([]action(nil), way[:i]...), way[i+1:]...)
			if v := e.retry(candidate); v != nil && v.Invariant == violation.Invariant {
				way, shorter = candidate, true
				e.result.Violation = v
			}
		}
	}
	e.result.Trace = e.scenario(way)
}

// retry goes a way again; nil if it cannot be gone or leads to nothing wrong.
func (e *search) retry(way []action) *Violation {
	w, _, violation := e.universe.begin()
	if violation != nil {
		return nil
	}
	for i, a := range way {
		if !e.possible(w, a) {
			return nil
		}
		w.spend(a)
		if v := e.do(w, a); v != nil {
			if i == len(way)-1 {
				return v
			}
			return nil
		}
	}
	return nil
}

func (e *search) possible(w *world, a action) bool {
	for _, can := range e.actions(w) {
		if can == a {
			return true
		}
	}
	return false
}

// Sample goes one random way. It returns the way in the scenario language, the last command of which prints
// the values that every running replica has applied, and what that command prints.
func Sample(p Protocol, s Setting, seed uint64, steps int) (commands []string, values string) {
	e := &search{universe: newUniverse(p, s, Fault{}, func(Invariant) bool { return true }), seen: make(map[uint64]struct{})}
	w, done, _ := e.universe.begin()
	e.begin = done
	rng := rand.New(rand.NewPCG(seed, 2))
	var way []action
	for range steps {
		all := e.actions(w)
		if len(all) == 0 {
			break
		}
		a := all[rng.IntN(len(all))]
		way = append(way, a)
		w.spend(a)
		if e.do(w, a) != nil {
			break
		}
	}
	for i, state := range w.replicas {
		if r := e.materialize(state); r.core != nil {
			values += fmt.Sprintf("%d: %s\n", i+1, r.now.values)
		}
	}
	return append(e.scenario(way), "values"), values
}
