package consensus

// MessageKind names a message of a protocol. Raft uses 1-63, Paxos 64-127; see
// docs/protocols. The numbers are on the wire: add, never renumber.
type MessageKind uint8

// Class is what the driver must know about a message without understanding it.
type Class uint8

// The classes.
const (
	ClassNormal   Class = iota
	ClassElection       // asks for a vote or promise; dropped while the receiver supports another leader
	ClassForced         // asks for a vote on behalf of a transfer; never dropped
	ClassSnapshot       // announces a snapshot; the driver ships the data first
)

// Message is what replicas of one group say to each other. The fields after Kind are
// used as the protocol's message table says.
type Message struct {
	From, To ReplicaID
	Kind     MessageKind
	Class    Class
	Reject   bool
	Term     Term
	LogTerm  Term
	Index    Index
	Commit   Index
	Hint     Index
	Vote     ReplicaID
	Context  uint64 // read barrier id, or transfer marker
	Entries  []Entry
	Snapshot *SnapshotMeta
	// Notice says that the message only tells what is committed, so that it may wait a moment for another one to the
	// same replica. News says that it tells so at least among other things. Both are for the sender's driver, and not on the wire.
	Notice, News bool
}

// Replaces tells whether the receiver learns from the message whatever the notice would tell it, so that a notice that still waits at the
// sender need not be sent. Both are messages of one group.
func (m *Message) Replaces(notice *Message) bool {
	return m.News && notice.Notice && m.To == notice.To && m.Term == notice.Term && m.Commit >= notice.Commit
}
