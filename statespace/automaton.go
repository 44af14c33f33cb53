package statespace

// A core is a deterministic automaton: what it does depends on nothing but the inputs it has had. So its states are numbered, and
// each input is tried in each state only once, however many states of the whole world contain it (local model
// checking, Guerraoui and Yabandeh, NSDI 2011). A core cannot be copied; when a state is needed again its core is made anew by
// replaying the inputs since it could be copied last.

// StateID names a state of one machine.
type StateID uint32

// Machine is what an Automaton must know of the machines it makes of cores. View is what can be seen of a state without its machine.
type Machine[M any, In comparable, Out, View any] struct {
	// Take gives the machine an input. When replaying, it has had this input in this state before.
	Take func(m M, in In, replaying bool) Out
	Look func(m M) View
	// Identity is the same for machines that do the same from here on.
	Identity func(m M, seen View) uint64
	// Copy returns another machine in the same state, if this state is one in which that can be done.
	Copy func(m M) (M, bool)
}

// state is what is known of one state.
type state[M any, In comparable, View any] struct {
	view   View
	parent StateID
	input  In
	copied bool
	// frozen, if copied, is a machine in this state that must not be used, but copied.
	frozen M
	// live, if alive, is a machine in this state that may be used once.
	live  M
	alive bool
}

// Transition is what an input does in a state.
type Transition[Out any] struct {
	ID     uint32
	Before StateID
	After  StateID
	Effect Out
}

type step[In comparable] struct {
	state StateID
	input In
}

// Automaton knows all states of all machines that were reached so far.
type Automaton[M any, In comparable, Out, View any] struct {
	machine     Machine[M, In, Out, View]
	states      []state[M, In, View]
	known       map[uint64]StateID // by identity
	transitions map[step[In]]*Transition[Out]
	alive       []StateID // states that have a live machine, oldest first
}

// maxAlive bounds how many machines are kept at hand.
const maxAlive = 4000

// NewAutomaton returns an automaton without states.
func NewAutomaton[M any, In comparable, Out, View any](machine Machine[M, In, Out, View]) *Automaton[M, In, Out, View] {
	return &Automaton[M, In, Out, View]{machine: machine, known: make(map[uint64]StateID), transitions: make(map[step[In]]*Transition[Out])}
}

// Enter returns the state of a machine that has just been made and can be copied.
func (a *Automaton[M, In, Out, View]) Enter(m M) StateID {
	var none In
	return a.enter(m, 0, none)
}

// States and Transitions count what was reached and tried.
func (a *Automaton[M, In, Out, View]) States() int { return len(a.states) }

// Transitions counts the inputs that were tried in different states.
func (a *Automaton[M, In, Out, View]) Transitions() int { return len(a.transitions) }

// View returns what can be seen of a state.
func (a *Automaton[M, In, Out, View]) View(id StateID) View { return a.states[id].view }

// enter returns the state the machine is in, which it has reached from the parent.
func (a *Automaton[M, In, Out, View]) enter(m M, parent StateID, in In) StateID {
	v := a.machine.Look(m)
	identity := a.machine.Identity(m, v)
	if id, ok := a.known[identity]; ok {
		return id
	}
	id := StateID(len(a.states))
	a.known[identity] = id
	s := state[M, In, View]{view: v, parent: parent, input: in}
	if s.frozen, s.copied = a.machine.Copy(m); !s.copied {
		s.live, s.alive = m, true
		a.keepAlive(id)
	}
	a.states = append(a.states, s)
	return id
}

func (a *Automaton[M, In, Out, View]) keepAlive(id StateID) {
	a.alive = append(a.alive, id)
	if len(a.alive) > 2*maxAlive {
		for _, old := range a.alive[:maxAlive] {
			a.states[old].drop()
		}
		a.alive = append([]StateID(nil), a.alive[maxAlive:]...)
	}
}

func (s *state[M, In, View]) drop() {
	var none M
	s.live, s.alive = none, false
}

// Materialize returns a machine in the state, which the caller may let go on.
func (a *Automaton[M, In, Out, View]) Materialize(id StateID) M {
	s := &a.states[id]
	if s.alive {
		m := s.live
		s.drop()
		return m
	}
	var inputs []In
	for !s.copied {
		inputs = append(inputs, s.input)
		s = &a.states[s.parent]
	}
	m, _ := a.machine.Copy(s.frozen)
	for i := len(inputs) - 1; i >= 0; i-- {
		a.machine.Take(m, inputs[i], true)
	}
	return m
}

// Do gives an input to a machine in the state.
func (a *Automaton[M, In, Out, View]) Do(id StateID, in In) *Transition[Out] {
	key := step[In]{id, in}
	if known, ok := a.transitions[key]; ok {
		return known
	}
	m := a.Materialize(id)
	t := &Transition[Out]{ID: uint32(len(a.transitions)), Before: id, Effect: a.machine.Take(m, in, false)}
	t.After = a.enter(m, id, in)
	a.transitions[key] = t
	return t
}
