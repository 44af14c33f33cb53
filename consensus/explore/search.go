package explore

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/statespace"
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
type Limits = statespace.Limits

// search is an exploration under way.
type search struct {
	*universe
	begun []action
}

// Explore visits the states of a setting until there are no more, a limit is reached, or an invariant is broken. Only those invariants
// are judged for which judge, if not nil, is true.
func Explore(p Protocol, s Setting, fault Fault, judge func(Invariant) bool, limits Limits) Result {
	if judge == nil {
		judge = func(Invariant) bool { return true }
	}
	e := &search{universe: newUniverse(p, s, fault, judge)}
	start, done, violation := e.begin()
	e.begun = done
	if violation != nil {
		return Result{Violation: violation, Trace: e.scenario(nil)}
	}
	space := statespace.Space[*world, action]{Actions: e.actions, Do: e.step, Key: func(w *world) uint64 { return w.key(e.buf) }}
	found := statespace.Search(space, start, limits)
	r := Result{
		States: found.States, Depth: found.Depth, Complete: found.Complete, Walks: found.Walks,
		Local: e.States(), Transitions: e.automaton.Transitions(), Violation: found.Violation,
	}
	if found.Violation != nil {
		r.Trace = e.scenario(found.Way)
	}
	return r
}

// step is statespace.Space.Do. A delivery that changes nothing is not worth it: the message may as well never arrive.
func (e *search) step(w *world, a action) (*world, bool, *Violation) {
	to := w.clone()
	to.spend(a)
	if violation := e.do(to, a); violation != nil {
		return to, true, violation
	}
	silent := a.verb == verbDeliver && len(to.flight) == len(w.flight)-1 || a.verb == verbDuplicate && len(to.flight) == len(w.flight)
	return to, !silent || to.ledger != w.ledger || !slices.Equal(to.replicas, w.replicas), nil
}

// Sample goes one random way. It returns the way in the scenario language, the last command of which prints
// the values that every running replica has applied, and what that command prints.
func Sample(p Protocol, s Setting, seed uint64, steps int) (commands []string, values string) {
	e := &search{universe: newUniverse(p, s, Fault{}, func(Invariant) bool { return true })}
	w, done, _ := e.begin()
	e.begun = done
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
		if r := e.Materialize(state); r.core != nil {
			values += fmt.Sprintf("%d: %s\n", i+1, r.now.values)
		}
	}
	return append(e.scenario(way), "values"), values
}
