package consensustest

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// link is one direction between two replicas.
type link struct{ from, to consensus.ReplicaID }

// envelope is a message in flight, encoded as it travels, with the data if it announces a snapshot.
type envelope struct {
	link
	encoded  []byte
	snapshot *machine
	lost     bool // the sender of a snapshot will learn so
}

// matches tells whether the envelope travels the link; zero means any.
func (e *envelope) matches(l link) bool {
	return (l.from == 0 || l.from == e.from) && (l.to == 0 || l.to == e.to)
}

// network holds the messages in flight, oldest first.
type network struct {
	flight []*envelope
	cut    map[link]bool
}

func (n *network) send(e *envelope) {
	e.lost = n.cut[e.link]
	if !e.lost || e.snapshot != nil {
		n.flight = append(n.flight, e)
	}
}

// take removes and returns up to count envelopes (all if 0) of the link, oldest first; if place is not 0, only the one in
// that place, counted from 1.
func (n *network) take(l link, place, count int) (taken []*envelope) {
	seen := 0
	n.flight = slices.DeleteFunc(n.flight, func(e *envelope) bool {
		if !e.matches(l) || count > 0 && len(taken) == count {
			return false
		}
		if seen++; place > 0 && seen != place {
			return false
		}
		taken = append(taken, e)
		return true
	})
	return taken
}

// reorder turns the order of the link's messages around.
func (n *network) reorder(l link) {
	var at []int
	for i, e := range n.flight {
		if e.matches(l) {
			at = append(at, i)
		}
	}
	for i, j := 0, len(at)-1; i < j; i, j = i+1, j-1 {
		n.flight[at[i]], n.flight[at[j]] = n.flight[at[j]], n.flight[at[i]]
	}
}
