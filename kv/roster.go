package kv

// Roster says on which nodes a shard is to have replicas, and which of them vote. It is a copy, in the state of the shard, of what the shard needs of the
// list of members.
type Roster struct {
	// Version is of the list that the shard follows; it only grows. 0: nobody has said so, and the shard is on the nodes that it began with.
	Version uint64
	// Seats are ascending by node. Nobody changes them in place.
	Seats []Seat
}

// Seat is a node of a roster.
type Seat struct {
	Node NodeID
	// First is the replica that the shard began with on the node; 0: it began without the node.
	First uint64
	Role  SeatRole
}

// SeatRole is what a node's replica of a shard is to be.
type SeatRole uint8

// The roles. The numbers are in logs.
const (
	SeatVoter   SeatRole = 1
	SeatLearner SeatRole = 2
	// SeatLeaving: the list of members has the node no more. It is heard as long as its replica is in the configuration of the group, which may need it.
	SeatLeaving SeatRole = 3
)

// Seat returns what the roster says about a node; false: nothing.
func (r *Roster) Seat(node NodeID) (Seat, bool) {
	for _, s := range r.Seats {
		if s.Node == node {
			return s, true
		}
	}
	return Seat{}, false
}
