package world

import (
	"hash/maphash"

	"github.com/quoratedb/quorate/statespace"
)

// Explored is what an exploration saw.
type Explored struct {
	States, Depth int
	// Cores are the states of single cores, Calls what was tried in them.
	Cores, Calls int
	Complete     bool // every state was visited
	// Violation is the first broken invariant found, Story the actions that lead to it.
	Violation *statespace.Violation
	Story     []string
}

var hashSeed = maphash.MakeSeed()

// explore searches one of the two worlds.
func explore[W comparable](start W, actions func(W) []action, step func(W, action) (W, bool, *statespace.Violation), story func([]action) []string,
	limits statespace.Limits, sequencers *seqAutomaton, askers *askAutomaton,
) Explored {
	key := func(w W) uint64 { return maphash.Comparable(hashSeed, w) }
	r := statespace.Search(statespace.Space[W, action]{Actions: actions, Do: step, Key: key}, start, limits)
	e := Explored{
		States: r.States, Depth: r.Depth, Complete: r.Complete, Violation: r.Violation,
		Cores: sequencers.States() + askers.States(), Calls: sequencers.Transitions() + askers.Transitions(),
	}
	if r.Violation != nil {
		e.Story = story(r.Way)
	}
	return e
}
