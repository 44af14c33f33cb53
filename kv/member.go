package kv

// MemberAction is what a MemberRequest asks for. The numbers are part of the protocol between nodes: add at the end, never renumber.
type MemberAction uint8

// Changes of the list of members.
const (
	_ MemberAction = iota
	MemberAdd
	MemberRemove
	MemberUpdate
	MemberPromote
)

// MemberRequest changes the list of members (package members).
type MemberRequest struct {
	Action   MemberAction
	ID       NodeID
	PeerURLs []string // of MemberAdd and MemberUpdate
	Learner  bool     // of MemberAdd
	// MaxLearners is how many learners there may be after a MemberAdd of one.
	MaxLearners int
	// Version is that of the list by which the request was found right. If the list is another one by now, the answer is ErrMembersChanged.
	Version uint64
}
