package kv

import (
	"cmp"
	"slices"
	"time"
)

// What the parties of a transaction over several shards tell each other. docs/protocols/commit.md has the protocol. They are requests (Kind...) that the
// coordinator, or who goes on for it, has answered by the leader of a participant.

// TransactionID names a transaction over several shards. It is never used again.
type TransactionID struct {
	// Anchor is the participant whose leader coordinates the transaction, and Term the leadership in which it began.
	Anchor ShardID
	Term   uint64
	Number uint64 // within the leadership, from 1 on
}

// Before tells whether the transaction was begun before another one of the same anchor.
func (id TransactionID) Before(other TransactionID) bool { return id.Compare(other) < 0 }

// Compare orders transactions of one anchor by when they were begun.
func (id TransactionID) Compare(other TransactionID) int {
	return cmp.Or(cmp.Compare(id.Term, other.Term), cmp.Compare(id.Number, other.Number))
}

// Finished says which transactions of an anchor are finished: each participant has resolved them, or they never came into the anchor's log. They are all before At,
// but for those that are Open: of them a participant may not have heard the end, since its shard has no quorum, and the others go on without it.
type Finished struct {
	At TransactionID
	// Open are at most MaxOpen, ascending, of the anchor of At and before it.
	Open []TransactionID
}

// MaxOpen bounds what a Finished leaves out.
const MaxOpen = 1024

// Covers tells whether a transaction of the anchor is said to be finished.
func (f *Finished) Covers(id TransactionID) bool {
	if !id.Before(f.At) {
		return false
	}
	_, open := slices.BinarySearchFunc(f.Open, id, TransactionID.Compare)
	return !open
}

// Valid tells whether it makes sense; the zero value, which says nothing, does.
func (f *Finished) Valid() bool {
	if f.At == (TransactionID{}) {
		return len(f.Open) == 0
	}
	for i, id := range f.Open {
		if id.Anchor != f.At.Anchor || id.Number == 0 || !id.Before(f.At) || i > 0 && !f.Open[i-1].Before(id) {
			return false
		}
	}
	return f.At.Anchor != 0 && f.At.Number != 0 && len(f.Open) <= MaxOpen
}

// Moved is what is finished after somebody has said another one, of the same anchor, and whether that is news. What was covered stays so, in whichever order is said
// what.
func (f Finished) Moved(said Finished) (Finished, bool) {
	switch {
	case f.At.Before(said.At):
	case f.At == said.At && len(said.Open) < len(f.Open):
	default:
		return f, false
	}
	next := Finished{At: said.At}
	for _, id := range said.Open {
		if !f.Covers(id) {
			next.Open = append(next.Open, id)
		}
	}
	return next, true
}

// Verdict is what becomes of a transaction. The numbers are part of the protocol between nodes.
type Verdict uint8

// Verdicts.
const (
	Undecided Verdict = iota
	Commit
	Abort
)

// Decision is what a transaction's register holds, or may come to hold.
type Decision struct {
	Verdict  Verdict
	Revision Revision // of a commit
}

// Ballot orders who may decide a transaction. The coordinator's is the zero one; others have a Round from 1 on.
type Ballot struct {
	Round uint64
	Shard ShardID // whose leader took it
	Term  uint64  // of that leader
}

// Compare orders ballots; it returns what cmp.Compare does.
func (b Ballot) Compare(other Ballot) int {
	return cmp.Or(cmp.Compare(b.Round, other.Round), cmp.Compare(b.Shard, other.Shard), cmp.Compare(b.Term, other.Term))
}

// UnfinishedTransaction is a transaction that somebody may have to bring to its end: the log of a shard has not seen the end of it, or, of the anchor itself,
// others may not have heard of that.
type UnfinishedTransaction struct {
	ID           TransactionID
	Participants []ShardID
	// Since is when the shard's leader heard of it, but not before its leadership began: by the clock that it was given when it began.
	Since time.Duration
	// Own: the shard is the anchor.
	Own bool
	// Decision: it is decided. That is told of the anchor's own ones of earlier leaderships, for nobody knows who has heard of it.
	Decision Decision
}

// Unnumbered stands for the transaction's own revision in what participants answer before it has one. It is above any that is ever issued.
const Unnumbered Revision = 1 << 62

// CommitRequest is the body of the requests about transactions over several shards. Which fields count is said with each kind.
type CommitRequest struct {
	ID    TransactionID
	Shard ShardID // the participant that has to answer
	// Participants are all of them, ascending: of a prepare and a promise.
	Participants []ShardID
	Share        *Share // of a prepare
	// Patient: a prepare waits for locks that others have, instead of being Busy.
	Patient bool
	// Granted, if there is one, is called once when a prepare is evaluated and has its locks, before it is in the log: if the shard is led on the node that
	// asks. It is called without a lock held, and returns soon. It does not travel.
	Granted func()
	// Finished, if it is not zero, says which transactions of an anchor are finished, of the same one if there is an ID.
	Finished Finished
	Ballot   Ballot   // of a promise and an accept
	Decision Decision // of an accept and a resolve
}

// Share is what one participant has to do for a transaction. It names keys of that participant only; spans may reach beyond.
type Share struct {
	// Compares must hold, or must not, as Holds says; otherwise nothing is prepared.
	Compares []Expectation
	// Ops come in the order of their places.
	Ops []PlacedOp
	// Release, if it is set, deletes all keys of an incarnation of a lease, whichever they are, and its note: KindLeaseEnd. All are at place 0, and the share has
	// nothing else.
	Release *LeaseBinding
}

// Expectation is a compare and what is expected to come out.
type Expectation struct {
	Compare Compare
	Holds   bool
}

// PlacedOp is an operation and its place among all operations of the transaction; it is never a transaction itself. Of two changes at the revision of the
// transaction that in the lower place comes first, then that of the lower key.
type PlacedOp struct {
	Place uint32
	Op    Op
}

// Standing is where a participant stands with a transaction. The numbers are part of the protocol between nodes.
type Standing uint8

// Standings.
const (
	// StandingUnknown: the participant has nothing of it.
	StandingUnknown Standing = iota
	// StandingPrepared: its locks are held until a decision comes.
	StandingPrepared
	// StandingPromised: it was asked for a promise before it was prepared, and never will be.
	StandingPromised
	// StandingResolved: it knows the decision, and has acted on it.
	StandingResolved
	// StandingOver: the transaction is finished, or can never commit (CommitRequest.Finished).
	StandingOver
)

// CommitResponse answers a CommitRequest.
type CommitResponse struct {
	Standing Standing
	// Busy: nothing is prepared, because somebody else holds a lock.
	Busy bool
	// Met says for each compare of the share whether it came out as expected, if not all did; then nothing is prepared.
	Met []bool
	// Writes: the participant has something to change.
	Writes bool
	// Results are those of the share's operations, in their order. A range has all keys that may be in the answer, neither filtered nor sorted by anything but
	// the key. What was written by the transaction itself has revision Unnumbered.
	Results []OpResponse
	// Promised is the highest ballot that was promised, Accepted that of the decision which was accepted last, Decision: if Standing is StandingResolved,
	// what was decided.
	Promised, Accepted Ballot
	// Decision is what was accepted or decided; Undecided: nothing was.
	Decision Decision
}
