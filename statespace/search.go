package statespace

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Invariant names something that must hold in every state.
type Invariant string

// Violation is a broken invariant.
type Violation struct {
	Invariant Invariant
	What      string
}

// Error implements error.
func (v *Violation) Error() string { return fmt.Sprintf("%s: %s", v.Invariant, v.What) }

// Space is what is searched: worlds, and actions that lead from one to another.
type Space[W any, A comparable] struct {
	// Actions lists what may happen in a world, in the same order each time.
	Actions func(W) []A
	// Do returns the world after the action and leaves the one before as it is. If worth is false the new one need not be visited.
	Do func(W, A) (to W, worth bool, violation *Violation)
	// Key identifies a world.
	Key func(W) uint64
}

// Result is what a search saw.
type Result[A comparable] struct {
	States   int
	Depth    int  // actions from the beginning to the farthest state
	Complete bool // every state was visited
	Walks    int  // random walks beyond what was visited in order
	// Violation is the first broken invariant found, Way the actions that lead to it.
	Violation *Violation
	Way       []A
}

// Limits bound a search.
type Limits struct {
	// States is how many are visited at most, most of them breadth first and, if there are more, some on random walks.
	States int
	// Steps bounds a walk. Default 60.
	Steps int
	Seed  uint64
}

// visited is a state with the way to it.
type visited[A comparable] struct {
	parent int32
	action A
}

// waiting is a state that was visited and not yet expanded.
type waiting[W any] struct {
	world W
	way   int32
	depth int
}

// search is a search under way.
type search[W any, A comparable] struct {
	Space[W, A]
	start  W
	seen   map[uint64]struct{}
	ways   []visited[A]
	queue  []waiting[W] // to be expanded, breadth first
	result Result[A]
}

// Search visits the states that can be reached from the start until there are no more, a limit is reached, or an invariant is broken.
func Search[W any, A comparable](space Space[W, A], start W, limits Limits) Result[A] {
	if limits.Steps == 0 {
		limits.Steps = 60
	}
	e := &search[W, A]{Space: space, start: start, seen: make(map[uint64]struct{})}
	e.seen[e.Key(start)] = struct{}{}
	e.ways = append(e.ways, visited[A]{parent: -1})
	e.queue = []waiting[W]{{world: start}}
	e.breadthFirst(limits.States - limits.States/walkShare)
	if e.result.Violation == nil && len(e.queue) > 0 {
		e.walk(limits)
	}
	if e.result.Violation == nil {
		e.breadthFirst(limits.States)
	}
	e.result.Complete = e.result.Violation == nil && len(e.queue) == 0
	e.result.States = len(e.seen)
	return e.result
}

// breadthFirst goes on until so many states are visited. It finds the shortest way to a broken invariant.
func (e *search[W, A]) breadthFirst(states int) {
	for len(e.queue) > 0 && len(e.seen) < states {
		from := e.queue[0]
		e.queue[0] = waiting[W]{}
		e.queue = e.queue[1:]
		for _, a := range e.Actions(from.world) {
			to, worth, violation := e.Do(from.world, a)
			if violation != nil {
				e.found(violation, append(e.wayTo(from.way), a))
				return
			}
			if !worth || !e.visit(to) {
				continue
			}
			e.queue = append(e.queue, waiting[W]{to, int32(len(e.ways)), from.depth + 1})
			e.ways = append(e.ways, visited[A]{parent: from.way, action: a})
			e.result.Depth = max(e.result.Depth, from.depth+1)
		}
	}
}

// visit tells whether the state is new.
func (e *search[W, A]) visit(w W) bool {
	key := e.Key(w)
	if _, ok := e.seen[key]; ok {
		return false
	}
	e.seen[key] = struct{}{}
	return true
}

func (e *search[W, A]) wayTo(i int32) (way []A) {
	for ; e.ways[i].parent >= 0; i = e.ways[i].parent {
		way = append(way, e.ways[i].action)
	}
	slices.Reverse(way)
	return way
}

// walkShare is which part of the states is left to random walks.
const walkShare = 8

// maxIdleWalks is after how many walks without anything new walking stops.
const maxIdleWalks = 500

// walk goes random ways from the start until it has seen enough states.
func (e *search[W, A]) walk(limits Limits) {
	rng := rand.New(rand.NewPCG(limits.Seed, 1))
	for idle := 0; len(e.seen) < limits.States && idle < maxIdleWalks; e.result.Walks++ {
		idle++
		w := e.start
		var way []A
		for depth := 1; depth <= limits.Steps; depth++ {
			all := e.Actions(w)
			if len(all) == 0 {
				break
			}
			a := all[rng.IntN(len(all))]
			to, worth, violation := e.Do(w, a)
			if violation != nil {
				e.found(violation, append(way, a))
				return
			}
			if !worth {
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

// found makes the way to a broken invariant as short as leaving out actions can make it.
func (e *search[W, A]) found(violation *Violation, way []A) {
	e.result.Violation = violation
	for shorter := true; shorter; {
		shorter = false
		for i := len(way) - 2; i >= 0; i-- {
			candidate := slices.Concat(way[:i], way[i+1:])
			if v := e.retry(candidate); v != nil && v.Invariant == violation.Invariant {
				way, shorter = candidate, true
				e.result.Violation = v
			}
		}
	}
	e.result.Way = way
}

// retry goes a way again; nil if it cannot be gone or leads to nothing wrong.
func (e *search[W, A]) retry(way []A) *Violation {
	w := e.start
	for i, a := range way {
		if !slices.Contains(e.Actions(w), a) {
			return nil
		}
		to, _, v := e.Do(w, a)
		if v != nil {
			if i == len(way)-1 {
				return v
			}
			return nil
		}
		w = to
	}
	return nil
}
