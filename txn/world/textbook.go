package world

import (
	"fmt"

	"github.com/quoratedb/quorate/statespace"
)

// Textbook is three-phase commit as textbooks have it (Skeen, Nonblocking commit protocols, SIGMOD 1981): all participants have voted; the coordinator has
// them precommit, and when all have, commit. Participants that do not hear of it any more ask each other, and decide by what those know who can be
// reached: commit if one has precommitted, abort if none has. If only the coordinator fails, that is right. Under a partition both sides decide by
// themselves.
//
// Package txn has no timeouts that decide: a participant leaves prepared by a decision that a majority has accepted, or that the anchor tells, and two
// majorities have one in common. With Majority the model does likewise: only a group of more than half decides, and a commit counts when more than half
// have precommitted.
type Textbook struct {
	Participants int
	Partition    bool
	Majority     bool
}

type textbookState uint8

const (
	hasVoted textbookState = iota
	hasPrecommitted
	hasCommitted
	hasAborted
)

// textbook is one state of the model.
type textbook struct {
	states  [maxShards]textbookState
	crashed bool // the coordinator
	cut     bool
	// near are the participants that reach the coordinator after a cut.
	near uint8
	// barred are those that a group has made promise to hear of nobody else. A group decides once.
	barred uint8
}

// Textbook actions.
const (
	textbookPrecommit = iota // participant
	textbookCommit           // participant
	textbookCrash
	textbookCut       // set of those near
	textbookTerminate // 0: those that reach the coordinator's side, 1: the others
)

type textbookAction struct{ what, who int }

// Explore visits all states.
func (b Textbook) Explore() Explored {
	space := statespace.Space[textbook, textbookAction]{Actions: b.actions, Do: b.step, Key: func(w textbook) uint64 {
		return statespace.Fingerprinter{}.Of(w)
	}}
	r := statespace.Search(space, textbook{near: 1<<b.Participants - 1}, statespace.Limits{States: 100_000})
	e := Explored{States: r.States, Depth: r.Depth, Complete: r.Complete, Violation: r.Violation}
	for i, a := range r.Way {
		e.Story = append(e.Story, fmt.Sprintf("%2d. %s", i+1, b.describe(a)))
	}
	return e
}

func (b Textbook) actions(w textbook) (all []textbookAction) {
	for i := range b.Participants {
		if w.crashed || w.near>>i&1 == 0 || w.barred>>i&1 == 1 {
			continue
		}
		if w.states[i] == hasVoted {
			all = append(all, textbookAction{textbookPrecommit, i})
		}
		if w.states[i] == hasPrecommitted && b.mayCommit(&w) {
			all = append(all, textbookAction{textbookCommit, i})
		}
	}
	if !w.crashed {
		all = append(all, textbookAction{textbookCrash, 0})
	}
	if b.Partition && !w.cut {
		for near := range 1 << b.Participants {
			all = append(all, textbookAction{textbookCut, near})
		}
	}
	if w.crashed {
		all = append(all, textbookAction{textbookTerminate, 0})
	}
	if w.cut {
		all = append(all, textbookAction{textbookTerminate, 1})
	}
	return all
}

// mayCommit tells whether the coordinator has heard enough.
func (b Textbook) mayCommit(w *textbook) bool {
	n := 0
	for i := range b.Participants {
		if w.states[i] == hasPrecommitted || w.states[i] == hasCommitted {
			n++
		}
	}
	if b.Majority {
		return n > b.Participants/2
	}
	return n == b.Participants
}

func (b Textbook) step(w textbook, a textbookAction) (textbook, bool, *statespace.Violation) {
	switch a.what {
	case textbookPrecommit:
		w.states[a.who] = hasPrecommitted
	case textbookCommit:
		w.states[a.who] = hasCommitted
	case textbookCrash:
		w.crashed = true
	case textbookCut:
		w.cut, w.near = true, uint8(a.who)
	case textbookTerminate:
		b.terminate(&w, a.who)
	}
	committed, aborted := -1, -1
	for i := range b.Participants {
		switch w.states[i] {
		case hasCommitted:
			committed = i
		case hasAborted:
			aborted = i
		}
	}
	if committed >= 0 && aborted >= 0 {
		return w, true, &statespace.Violation{Invariant: OneDecision, What: fmt.Sprintf("participant %d has committed, participant %d has aborted", committed+1, aborted+1)}
	}
	return w, true, nil
}

// terminate has those of one side decide by what they know.
func (b Textbook) terminate(w *textbook, side int) {
	group := w.near
	if side == 1 {
		group = (1<<b.Participants - 1) &^ w.near
	}
	n, to := 0, hasAborted
	for i := range b.Participants {
		if group>>i&1 == 1 {
			n++
			if w.states[i] == hasPrecommitted || w.states[i] == hasCommitted {
				to = hasCommitted
			}
		}
	}
	for i := range b.Participants {
		if group>>i&1 == 1 && w.states[i] == hasAborted {
			to = hasAborted
		}
	}
	if b.Majority && n <= b.Participants/2 {
		return
	}
	w.barred |= group
	for i := range b.Participants {
		if group>>i&1 == 1 {
			w.states[i] = to
		}
	}
}

func (b Textbook) describe(a textbookAction) string {
	switch a.what {
	case textbookPrecommit:
		return fmt.Sprintf("participant %d precommits", a.who+1)
	case textbookCommit:
		return fmt.Sprintf("participant %d commits", a.who+1)
	case textbookCrash:
		return "FAULT: the coordinator fails"
	case textbookCut:
		return fmt.Sprintf("FAULT: the network is cut: participants %0*b still hear the coordinator", b.Participants, a.who)
	}
	return fmt.Sprintf("the %s side decides by what it knows", [...]string{"coordinator's", "other"}[a.who])
}
