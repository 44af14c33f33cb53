package explore

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// A replica is a deterministic automaton: what it does depends on nothing but the inputs it has had. So its states are numbered, and
// each input is tried in each state only once, however many states of the whole group contain it (local model
// checking, Guerraoui and Yabandeh, NSDI 2011). A core cannot be copied; when a state is needed again its core is made anew by
// replaying the inputs since it was last down.

// stateID names a state of one replica.
type stateID uint32

// local is what is known of one state of a replica.
type local struct {
	view   *view
	parent stateID
	input  input
	frozen *replica // not nil in states in which it is down
	live   *replica // not nil while the core of this very state is still at hand
}

// transition is what an input does in a state.
type transition struct {
	id     uint32
	before stateID
	after  stateID
	effect effect
}

type step struct {
	state stateID
	input input
}

// automaton knows all states of all replicas that were reached so far.
type automaton struct {
	environment
	locals      []local
	known       map[uint64]stateID // by fingerprint
	transitions map[step]*transition
	alive       []stateID // states that have a live core, oldest first
}

// maxAlive bounds how many cores are kept at hand.
const maxAlive = 4000

func newAutomaton(env environment) *automaton {
	env.network = &network{numbers: make(map[string]uint32)}
	return &automaton{environment: env, known: make(map[uint64]stateID), transitions: make(map[step]*transition)}
}

// begin returns the state of a replica that has never run: a founding member, or one that is member of nothing.
func (a *automaton) begin(id consensus.ReplicaID, founders consensus.Config) stateID {
	r := &replica{id: id, log: consensustest.NewLog(0, 0)}
	if founders.Contains(id) {
		r.kept = machine{index: consensus.BootstrapIndex, term: consensus.BootstrapTerm, config: founders}
		r.log = consensustest.NewLog(r.kept.index, r.kept.term)
	}
	r.now = r.kept
	return a.enter(r, 0, input{})
}

// enter returns the state the replica is in, which it has reached from the parent.
func (a *automaton) enter(r *replica, parent stateID, in input) stateID {
	v := r.look(&a.environment)
	fingerprint := r.identity(&a.environment, v)
	if id, ok := a.known[fingerprint]; ok {
		return id
	}
	id := stateID(len(a.locals))
	a.known[fingerprint] = id
	l := local{view: v, parent: parent, input: in}
	if r.core == nil {
		l.frozen = r.frozen()
	} else {
		l.live = r
		a.keepAlive(id)
	}
	a.locals = append(a.locals, l)
	return id
}

func (a *automaton) keepAlive(id stateID) {
	a.alive = append(a.alive, id)
	if len(a.alive) > 2*maxAlive {
		for _, old := range a.alive[:maxAlive] {
			a.locals[old].live = nil
		}
		a.alive = append([]stateID(nil), a.alive[maxAlive:]...)
	}
}

// materialize returns a replica in the state, which the caller may let go on.
func (a *automaton) materialize(id stateID) *replica {
	l := &a.locals[id]
	if l.live != nil {
		r := l.live
		l.live = nil
		return r
	}
	var inputs []input
	for l.frozen == nil {
		inputs = append(inputs, l.input)
		l = &a.locals[l.parent]
	}
	r := l.frozen.frozen()
	a.replaying = true
	for i := len(inputs) - 1; i >= 0; i-- {
		r.take(&a.environment, inputs[i])
	}
	a.replaying = false
	return r
}

// do gives an input to a replica in the state.
func (a *automaton) do(id stateID, in input) *transition {
	key := step{id, in}
	if known, ok := a.transitions[key]; ok {
		return known
	}
	r := a.materialize(id)
	t := &transition{id: uint32(len(a.transitions)), before: id, effect: r.take(&a.environment, in)}
	t.after = a.enter(r, id, in)
	a.transitions[key] = t
	return t
}
