package consensus

import (
	"errors"
	"fmt"
)

// ErrAbsurd: a message claims what cannot be, however far its receiver is behind.
var ErrAbsurd = errors.New("consensus: a message claims what cannot be")

// MaxStep is how far above what a replica knows a message may name a term or an index. It is beyond what any cluster gets to, so that a
// replica that was away for years, or has nothing yet, is refused nothing: a ballot of Multi-Paxos grows by 2^16 with each election, which
// leaves 2^32 of them, 13 years at ten elections a second; a log of 2^48 entries takes 89 years at a hundred thousand a second. And it is small enough
// that one message cannot use the numbers up: what is taken from a message becomes what is known, and nobody can go beyond 2^62.
const MaxStep = 1 << 48

// Known is what a replica knows by itself when it judges a message.
type Known struct {
	Term Term  // the highest it has seen
	Last Index // where its log ends
}

// Judge tells what is absurd about the numbers in a message; nil if nothing is. Which numbers a message must have, and what it may say of
// them, the protocols judge.
func (k Known) Judge(m *Message) error {
	term, index := max(m.Term, m.LogTerm), max(m.Index, m.Commit, m.Hint)
	if s := m.Snapshot; s != nil {
		term, index = max(term, s.Term), max(index, s.Index)
	}
	for i := range m.Entries {
		term, index = max(term, m.Entries[i].Term), max(index, m.Entries[i].Index)
	}
	switch {
	case term > k.Term && term-k.Term > MaxStep:
		return fmt.Errorf("%w: term %d, where the highest one known is %d", ErrAbsurd, term, k.Term)
	case index > k.Last && index-k.Last > MaxStep:
		return fmt.Errorf("%w: entry %d, where the log ends at %d", ErrAbsurd, index, k.Last)
	}
	return nil
}
