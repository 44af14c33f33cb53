package explore

import (
	"math/rand/v2"
	"reflect"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/statespace"
)

// A replica is a deterministic automaton, which can be copied while it is down.

type (
	stateID    = statespace.StateID
	transition = statespace.Transition[effect]
)

// automaton knows all states of all replicas that were reached so far.
type automaton struct {
	*environment
	*statespace.Automaton[*replica, input, effect, *view]
}

// fingerprints leave out the log, which is fingerprinted by its content, and sources of randomness, which explorations keep constant.
var fingerprints = statespace.Fingerprinter{Skipped: []reflect.Type{reflect.TypeFor[consensustest.Log](), reflect.TypeFor[rand.Rand]()}}

func newAutomaton(env environment) *automaton {
	env.network = &network{numbers: make(map[string]uint32)}
	return &automaton{&env, statespace.NewAutomaton(statespace.Machine[*replica, input, effect, *view]{
		Take: func(r *replica, in input, replaying bool) effect {
			env.replaying = replaying
			return r.take(&env, in)
		},
		Look:     func(r *replica) *view { return r.look(&env) },
		Identity: func(r *replica, seen *view) uint64 { return r.identity(&env, seen) },
		Copy: func(r *replica) (*replica, bool) {
			if r.core != nil {
				return nil, false
			}
			return r.frozen(), true
		},
	})}
}

// begin returns the state of a replica that has never run: a founding member, or one that is member of nothing.
func (a *automaton) begin(id consensus.ReplicaID, founders consensus.Config) stateID {
	r := &replica{id: id, log: consensustest.NewLog(0, 0)}
	if founders.Contains(id) {
		r.kept = machine{index: consensus.BootstrapIndex, term: consensus.BootstrapTerm, config: founders}
		r.log = consensustest.NewLog(r.kept.index, r.kept.term)
	}
	r.now = r.kept
	return a.Enter(r)
}
