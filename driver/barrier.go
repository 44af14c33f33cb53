package driver

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// confirmed is told from which index on a state is fresh enough, or why nobody knows.
type confirmed = func(consensus.Index, error)

// barriers are the questions to a quorum whether this replica still leads, and who waits for the answers.
type barriers struct {
	gathering []confirmed // share the next barrier, whose messages are still to leave
	next      consensus.ReadID
	sent      []barrier
}

// barrier is a question that was sent.
type barrier struct {
	id      consensus.ReadID
	waiting []confirmed
}

func (b *barriers) empty() bool { return len(b.gathering) == 0 && len(b.sent) == 0 }

// join has somebody wait for the next barrier; first: it is to be asked for.
func (b *barriers) join(done confirmed) (first bool) {
	b.gathering = append(b.gathering, done)
	return len(b.gathering) == 1
}

// seal ends the gathering: the messages of the barrier are about to leave, and whoever comes later needs another.
func (b *barriers) seal() {
	if len(b.gathering) > 0 {
		b.sent = append(b.sent, barrier{id: b.next, waiting: b.gathering})
		b.gathering = nil
	}
}

// passed returns who waited for the barrier.
func (b *barriers) passed(id consensus.ReadID) []confirmed {
	i := slices.IndexFunc(b.sent, func(s barrier) bool { return s.id == id })
	if i < 0 {
		return nil
	}
	waiting := b.sent[i].waiting
	b.sent = slices.Delete(b.sent, i, i+1)
	return waiting
}

// fail tells all who wait that nobody will know.
func (b *barriers) fail(err error) {
	b.seal()
	sent := b.sent
	b.sent = nil
	for _, s := range sent {
		tellAll(s.waiting, 0, err)
	}
}

func tellAll(waiting []confirmed, index consensus.Index, err error) {
	for _, done := range waiting {
		done(index, err)
	}
}
