package leadership

import "github.com/quoratedb/quorate/consensus"

// Core is what one replica knows and decides about who leads its group. It is not safe for concurrent use.
type Core struct {
	options Options
	// role is what the consensus core said last of itself.
	role consensus.RoleChange

	// Of a leader.

	// acks are the promises, by generation, under which replicas said in the present term that they follow this one.
	acks map[consensus.ReplicaID]uint64
	// claim is what the acknowledgements amount to. Invariant: nil unless this replica leads.
	claim     *Lease
	forbidden bool // nothing may be read under the claim
}

// New returns the core of a replica that has just been opened.
func New(options Options) (*Core, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Core{options: options, acks: make(map[consensus.ReplicaID]uint64)}, nil
}

// Role is what the consensus core said last of itself.
func (c *Core) Role() consensus.RoleChange { return c.role }

// RoleChanged takes note of a new role, term or leader.
func (c *Core) RoleChanged(change consensus.RoleChange) {
	if change.Role != consensus.RoleLeader || change.Term != c.role.Term {
		c.claim, c.forbidden = nil, false
	}
	if change.Term != c.role.Term {
		clear(c.acks)
	}
	c.role = change
}
