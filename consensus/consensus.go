// Package consensus defines what a replicated log is to the rest of the system,
// and nothing about how agreement is reached. Package consensus/raft and
// consensus/paxos implement Core; package driver drives it.
//
// A Core is pure: it has no goroutine, channel, lock, clock, socket, file or
// logger. It takes events (Step, Tick, Propose, Ack...) and gives out work
// (Ready). The driver owns everything else, in particular the order
//
//	Ready -> durable write of Append -> AckAppend -> AfterSync messages leave
//
// which is the whole of the durability contract.
package consensus

import (
	"errors"
	"fmt"
)

// GroupID names a consensus group; it equals the ID of the shard it replicates.
type GroupID uint64

// ReplicaID names a member of a group. IDs are never reused within a group: a
// replica that lost its durable state comes back under a new one.
type ReplicaID uint64

// Index is a position in the log of a group; the first entry has index 1.
type Index uint64

// Term orders leaderships of a group. In Raft it is the term; in Paxos it is the
// ballot, round<<16 | replica.
type Term uint64

// EntryKind says who an entry is for.
type EntryKind uint8

// The kinds of entries.
const (
	EntryCommand EntryKind = iota // Data is a command of the state machine
	EntryBarrier                  // empty; the first entry of a leadership, or a filled hole
	EntryConfig                   // Data is a Config (AppendConfig/DecodeConfig)
)

// Entry is one slot of the log.
type Entry struct {
	Index Index
	Term  Term
	Kind  EntryKind
	Data  []byte
}

// SizeBytes is what the entry counts against byte limits.
func (e *Entry) SizeBytes() int { return len(e.Data) + 24 }

// HardState is what a replica must not forget. Vote is unused in Paxos.
// Commit is a hint that need not be durable.
type HardState struct {
	Term   Term
	Vote   ReplicaID
	Commit Index
}

// Config is the membership of a group. A replica is in at most one of Voters and
// Learners. Outgoing is not empty only in the middle of a joint change of Raft:
// then decisions need a majority of Voters and a majority of Outgoing.
type Config struct {
	Voters   []ReplicaID // ascending
	Learners []ReplicaID // ascending
	Outgoing []ReplicaID // ascending
}

// SnapshotMeta says what state a snapshot holds: everything up to Index.
type SnapshotMeta struct {
	Index  Index
	Term   Term // term of the entry at Index
	Config Config
}

// Mark is a point in the sequence of durable writes of one group. Marks are
// totally ordered: by term, then by sequence. A later Ready never has a smaller mark.
type Mark struct {
	Term Term
	Seq  uint64
}

// Less tells whether m comes before o.
func (m Mark) Less(o Mark) bool { return m.Term < o.Term || m.Term == o.Term && m.Seq < o.Seq }

// Append is one atomic durable write. The parts take effect in the order of the
// fields: first a snapshot replaces the whole log, then the suffix is cut, then
// entries and hard state are written.
type Append struct {
	// Snapshot, if set, was received and staged before the message that
	// announced it was stepped. The driver installs it (data and applied index
	// in one step) and resets the log so that it continues at Snapshot.Index+1.
	Snapshot *SnapshotMeta
	// TruncateFrom, if not 0, removes all entries at or above it.
	TruncateFrom Index
	Entries      []Entry // ascending; contiguous in Raft, possibly sparse in Paxos
	HardState    *HardState
	// Mark is to be given to AckAppend when all of the above is durable. The zero
	// Mark means that there is nothing to write.
	Mark Mark
	// Sync tells that something waits for Mark to become durable: AfterSync, or the core
	// itself (a leader's own copy and a candidate's own vote count only once they are durable).
	// When false, the write (a commit index, nothing else) needs no sync of its own: a later one covers it.
	Sync bool
	// AfterSync leave only once Mark is durable. Not empty only if Sync is set.
	AfterSync []Message
}

// Empty tells whether there is nothing to write and nothing to wait for.
func (a *Append) Empty() bool { return a.Mark == (Mark{}) }

// ReadID names a read barrier. The driver never reuses one, not even after a restart.
type ReadID uint64

// ReadState answers a ReadBarrier: everything up to Index was committed before the
// barrier was asked for. Serve the read once Index is applied. Index 0 means that
// the barrier failed (leadership lost); the caller may try again elsewhere.
type ReadState struct {
	ID    ReadID
	Index Index
}

// Role is what a replica is in its group at a moment.
type Role uint8

// The roles.
const (
	RoleFollower Role = iota
	RoleCandidate
	RoleLeader
	RoleLearner
)

func (r Role) String() string {
	switch r {
	case RoleFollower:
		return "follower"
	case RoleCandidate:
		return "candidate"
	case RoleLeader:
		return "leader"
	case RoleLearner:
		return "learner"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// RoleChange reports a new role, term or leader. Leader is 0 when unknown.
type RoleChange struct {
	Role   Role
	Term   Term
	Leader ReplicaID
}

// Ready is work for the driver. The driver need not finish one before it asks
// for the next; acknowledgements may come later, in order.
//
// Ownership: a Ready belongs to the driver, for as long as it likes, with one restriction. Entries, wherever they are (in messages, in Append,
// in Committed), are shared: the same slice of them may be in several places, here and in the core, so nobody changes them or
// appends in place, neither they nor their Data. A core does not change them either.
type Ready struct {
	Messages  []Message // may leave at once, before Append is durable
	Append    Append
	Committed []Entry // contiguous, to be applied in order; bounded by Options.MaxApplyBytes
	Reads     []ReadState
	Role      *RoleChange
}

// Core is one member of one replicated log. It is not safe for concurrent use.
// Ownership: a Core keeps no reference to slices the driver gave it beyond the call, except
// the Data of entries and proposals, which nobody may change afterwards.
type Core interface {
	// Tick tells that a tick has passed, the unit in which the options of protocols count. The driver need not tick a
	// follower whose leader it knows to be alive by other means.
	Tick()
	// Step takes a message from another replica. A message that makes no sense is
	// an error and changes nothing.
	Step(Message) error
	// Propose appends the proposals, one entry each, all or none, to the log of the
	// leader. It returns ErrNotLeader, ErrTransferring or ErrOverloaded otherwise,
	// and then no entry is or will be in any log. Proposals are never forwarded.
	// The term of the entries is Status().Term.
	Propose([][]byte) error
	// ProposeConfig starts a change to the given voters and learners. One change
	// at a time: ErrConfigPending. Raft goes through a joint configuration and
	// leaves it by itself.
	ProposeConfig(Config) error
	// ReadBarrier asks for a confirmation by a quorum, sent after the call, that this
	// replica leads; the answer is in Ready.Reads. ErrNotLeader on others, and
	// ErrNotReady until the leader's barrier entry is committed.
	ReadBarrier(ReadID) error
	// TransferLeader hands leadership over. From the first call on until the end of
	// the term Status().LeaseForbidden is true.
	TransferLeader(ReplicaID) error
	// HandOver is TransferLeader in the fewest round trips, if the replica was sent all that is in the log here, and lacks at most what is on its way:
	// this replica leads no more when it returns, and its vote goes to the other one. If that does not come to lead all the same, nobody
	// leads until somebody campaigns. Messages go out that replicas of older versions do not know.
	HandOver(ReplicaID) error
	// Campaign starts an election at once (with pre-vote). A replica that led, and has lost its vote with that, tells the voters instead
	// that it leads no more.
	Campaign()
	// LeaderLost tells a follower that its leader must be taken for dead: it forgets
	// it, so that it votes for others and its own election timeout runs.
	LeaderLost()
	// Unreachable tells the leader that recent messages to the replica were lost.
	Unreachable(ReplicaID)
	// SnapshotDone tells the leader how the transfer of a snapshot to the replica ended.
	SnapshotDone(to ReplicaID, ok bool)

	// HasReady tells cheaply whether Ready would return work.
	HasReady() bool
	// Ready moves the pending work out. It may be called again before earlier acks.
	Ready() Ready
	// AckAppend tells that everything up to Mark is durable (including an installed snapshot).
	AckAppend(Mark)
	// AckApplied tells that everything up to the index is applied.
	AckApplied(Index)
	// Compact tells that the log up to and including the index is no longer available
	// from the LogReader. Replicas that need it get a snapshot.
	Compact(Index)
	// Status tells everything. It makes lists, so it is not for what is asked with every message: that are Brief and Quiet.
	Status() Status
	Brief() Brief
	// Quiet is Status().Quiet.
	Quiet() bool
	// Failed says why this replica can not go on: its log could not be read, or holds what must not be. From then on
	// it does nothing, and the driver must stop it. nil while it works.
	Failed() error
	// Check verifies the invariants of the core.
	Check() error
}

// LogReader is what a core may read of its own log: everything that was handed out in
// Ready.Append, whether durable yet or not, from First to Last.
type LogReader interface {
	// First is the first available index, Last the last; First = Last+1 when empty.
	First() Index
	Last() Index
	// Term of the entry at the index. Also known for First-1. ErrCompacted below, ErrUnavailable above
	// (or, in a sparse log, in a hole).
	Term(Index) (Term, error)
	// Entries returns entries in [lo, hi), as many as fit into maxBytes but at least one.
	// ErrCompacted if lo < First.
	Entries(lo, hi Index, maxBytes int) ([]Entry, error)
}

// Replication is what a leader knows of another replica.
type Replication struct {
	Replica ReplicaID
	Match   Index // everything up to here is known to be durable there
	Next    Index
	Learner bool
	// Snapshotting: a snapshot is on its way. Active: it answered since the last check.
	Snapshotting, Active bool
}

// Brief is the part of Status that a driver looks at all the time.
type Brief struct {
	RoleChange
	LeaseForbidden bool
}

// Status is a picture of the core. Replicas is set on a leader only.
type Status struct {
	Replica ReplicaID
	Role    Role
	Term    Term
	Leader  ReplicaID
	Commit  Index
	Applied Index
	Last    Index
	Config  Config
	// BarrierIndex is, on a leader, the index of the barrier entry of its term;
	// nothing may be served before it is applied. 0 if not known.
	BarrierIndex Index
	// LeaseForbidden: this leader has begun a transfer in this term, so somebody may
	// be elected in spite of the promises made to it.
	LeaseForbidden bool
	// LeaseVoters is, on a leader, of how many voters every quorum that can elect somebody else contains at least
	// one: so many, this leader among them, must be bound for a lease to hold. 0: a majority of
	// Voters and, in a joint config, of Outgoing.
	LeaseVoters int
	// Quiet: as a leader, every replica has everything and nothing is in flight, so that
	// ticks and heartbeats would carry no news.
	Quiet    bool
	Replicas []Replication
}

// Errors of Propose, ReadBarrier and others. A driver compares with errors.Is.
var (
	ErrNotLeader     = errors.New("consensus: not the leader")
	ErrNotReady      = errors.New("consensus: the leader has not yet committed an entry of its term")
	ErrTransferring  = errors.New("consensus: leadership is being transferred")
	ErrOverloaded    = errors.New("consensus: too many bytes in flight")
	ErrConfigPending = errors.New("consensus: another membership change is not finished")
	ErrCompacted     = errors.New("consensus: entries are compacted")
	ErrUnavailable   = errors.New("consensus: entries are not available")
	// ErrLostEntries: this replica acknowledged entries that its log does not have any more. It must not go on.
	ErrLostEntries = errors.New("consensus: acknowledged entries are lost")
)
