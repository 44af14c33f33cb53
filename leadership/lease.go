package leadership

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Lease is a leader's claim to serve reads without asking anybody: of each set of voters so many that nobody can be elected
// without one of them have acknowledged this leadership under a promise that is still in force. Nobody changes a Lease: whoever
// reads may look at one while the core makes the next.
type Lease struct {
	// Self is this node's position in Options.Nodes, or in the places of SetNodes.
	Self int
	// Sets are Voters and, in a joint change, Outgoing.
	Sets [2]VoterSet
}

// VoterSet is a set of voters of whom every quorum that can elect contains at least one of any Need.
type VoterSet struct {
	Need   int
	Voters []Voter
}

// Voter is a voter and the promise that binds it.
type Voter struct {
	Node int // its position, as Lease.Self; -1: it is on none of them
	// Generation is of the promise under which it acknowledged; 0: it has not.
	Generation uint64
}

// Promised is what other nodes promised to this one, as it is at the moment of the call.
type Promised interface {
	// Holds tells whether the promise of the node at that position is of the generation, and in force at now.
	Holds(node int, generation uint64, now time.Duration) bool
}

// Valid tells whether the lease holds at now.
func (l *Lease) Valid(promised Promised, now time.Duration) bool {
	for i := range l.Sets {
		set := &l.Sets[i]
		holding := 0
		for _, v := range set.Voters {
			if v.Node == l.Self || promised.Holds(v.Node, v.Generation, now) {
				holding++
			}
		}
		if holding < set.Need {
			return false
		}
	}
	return len(l.Sets[0].Voters) > 0
}

// byAll tells whether every other voter is bound.
func (l *Lease) byAll(promised Promised, now time.Duration) bool {
	for i := range l.Sets {
		for _, v := range l.Sets[i].Voters {
			if v.Node != l.Self && !promised.Holds(v.Node, v.Generation, now) {
				return false
			}
		}
	}
	return true
}

// Electorate is who can elect another leader, by the newest membership that the consensus core knows.
type Electorate struct {
	Voters, Outgoing []Member
	// Need is consensus.Status.LeaseVoters; 0: a majority of Voters and of Outgoing.
	Need int
	// Forbidden is consensus.Status.LeaseForbidden.
	Forbidden bool
}

// Member is a replica and the node that it lives on; 0: on none.
type Member struct {
	Replica consensus.ReplicaID
	Node    kv.NodeID
}

// Acknowledge notes that the replica vouched, while its node was bound by the promise of the given generation, that it follows
// this leader in the present term. It tells whether that is news: then Reckon follows.
func (c *Core) Acknowledge(from consensus.ReplicaID, generation uint64) (news bool) {
	if generation == 0 || c.acks[from] == generation {
		return false
	}
	c.acks[from] = generation
	return true
}

// Lead begins the service of this replica as a leader: the barrier of its term is applied.
func (c *Core) Lead(e Electorate) {
	c.claim = &Lease{}
	c.Reckon(e)
}

// Reckon makes the lease that follows from the acknowledgements so far. There is none unless this replica leads, and has applied
// its barrier.
func (c *Core) Reckon(e Electorate) {
	if c.claim == nil {
		return
	}
	l := &Lease{Self: slices.Index(c.places, c.options.Self)}
	l.Sets[0], l.Sets[1] = c.voterSet(e.Voters), c.voterSet(e.Outgoing)
	if e.Need != 0 {
		l.Sets[0].Need = e.Need
	}
	c.claim, c.forbidden = l, e.Forbidden
}

// voterSet gives the voters with their acknowledgements; a majority of them is needed.
func (c *Core) voterSet(members []Member) VoterSet {
	if len(members) == 0 {
		return VoterSet{}
	}
	voters := make([]Voter, 0, len(members))
	for _, m := range members {
		v := Voter{Node: slices.Index(c.places, m.Node)}
		if v.Node >= 0 {
			v.Generation = c.acks[m.Replica]
		}
		voters = append(voters, v)
	}
	return VoterSet{Need: len(members)/2 + 1, Voters: voters}
}

// ForbidLease ends the lease at once: a message is about to leave that may make somebody else the leader in spite of all
// promises.
func (c *Core) ForbidLease() { c.forbidden = true }

// Lease is what readers may serve under; nil: nothing.
func (c *Core) Lease() *Lease {
	if c.forbidden || c.options.ReadQuorum {
		return nil
	}
	return c.claim
}
