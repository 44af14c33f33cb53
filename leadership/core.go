package leadership

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Core is what one replica knows and decides about who leads its group. It is not safe for concurrent use.
type Core struct {
	options  Options
	promises Promises
	// places are the nodes by the positions that leases name, and order is the group's own order of nodes, before it is turned; see place.
	places, order []kv.NodeID

	// self and config are which replica this is, and the membership as far as it has applied it.
	self   consensus.ReplicaID
	config consensus.Config
	// newest is the highest ID of all replicas that have been members as far as this one has applied since it was opened: whoever left is not newer.
	newest consensus.ReplicaID
	// role is what the consensus core said last of itself.
	role consensus.RoleChange

	following following
	campaigns campaigns
	transfer  transfer

	// Of a leader.

	// acks are the promises, by generation, under which replicas said in the present term that they follow this one.
	acks map[consensus.ReplicaID]uint64
	// claim is what the acknowledgements amount to. Invariant: nil unless this replica leads.
	claim     *Lease
	forbidden bool // nothing may be read under the claim

	ready Ready
}

// Promises are what this node promised to others. Package liveness implements it.
type Promises interface {
	// Supporting tells whether this node is bound by a promise to a process of the node; instance 0: to any.
	Supporting(now time.Duration, node kv.NodeID, instance uint64) bool
	// Withdraw makes what is promised to the node from now on a promise of another epoch, and tells when what was promised so far ends.
	Withdraw(now time.Duration, node kv.NodeID) (freeAt time.Duration)
	// MayVote tells whether what an earlier process of this node promised has surely ended.
	MayVote(now time.Duration) bool
	// Alive tells whether the node is heard.
	Alive(node kv.NodeID) bool
}

// Process is a process of a node.
type Process struct {
	Node     kv.NodeID
	Instance uint64 // 0: nobody knows which one it is
}

// View is what the consensus core says at the moment of a call. What it said in its last Ready may be out of date.
type View struct {
	Term   consensus.Term
	Leader consensus.ReplicaID
}

// Ready is work for the driver.
type Ready struct {
	// LeaderLost: the consensus core must take its leader for dead, and have ticks again.
	LeaderLost bool
	// Campaign: the consensus core must begin an election.
	Campaign bool
	// Transfer: the consensus core must hand over to this replica; if it does not, TransferRefused follows.
	Transfer consensus.ReplicaID
	// Transferred: a hand-over that was asked for is over.
	Transferred *Transferred
}

// New returns the core of a replica that has just been opened. Configure follows, and Start when it may take part.
func New(options Options, promises Promises) (*Core, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Core{options: options, promises: promises, places: options.Nodes, order: options.Nodes, acks: make(map[consensus.ReplicaID]uint64)}, nil
}

// SetNodes says which nodes there are from now on: those of the group, in the same order everywhere, and all that this process has ever known by their positions, of which
// none changes. Reckon follows, of a leader.
func (c *Core) SetNodes(group, places []kv.NodeID) { c.order, c.places = group, places }

// Configure says which replica this is, and what membership it has applied.
func (c *Core) Configure(self consensus.ReplicaID, config consensus.Config) {
	c.self, c.config = self, config
	c.newest = max(c.newest, config.Newest())
}

// Role returns what RoleChanged said last.
func (c *Core) Role() consensus.RoleChange { return c.role }

// Membership returns what Configure said last.
func (c *Core) Membership() (self consensus.ReplicaID, config consensus.Config) {
	return c.self, c.config
}

// Ready moves the pending work out.
func (c *Core) Ready() Ready {
	ready := c.ready
	c.ready = Ready{}
	return ready
}

// RoleChanged takes note of a new role, term or leader. leader is the process that spoke for the leader; Node 0: there is none.
func (c *Core) RoleChanged(now time.Duration, change consensus.RoleChange, leader Process) {
	before := c.role
	c.role = change
	if change.Role != consensus.RoleLeader || change.Term != before.Term {
		c.claim, c.forbidden = nil, false
	}
	if change.Term != before.Term {
		clear(c.acks)
	}
	passive := change.Role == consensus.RoleFollower || change.Role == consensus.RoleLearner
	switch {
	case before.Role == consensus.RoleLeader && passive && change.Leader == 0 && change.Term == before.Term:
		// No quorum answered, or this replica has lost its vote, and nobody else has begun a later term. The others may hear this node all the same, and
		// hold still for it: a campaign tells them that it has stepped down, also that of a replica which has no vote.
		c.campaignAfter(now, 0)
	case before.Role == consensus.RoleLeader && passive && change.Leader == 0 && c.Transferring():
		// It has handed over. If the successor does not lead soon, nobody else would try, for all of them hold still for this node: it tells them that it
		// has stepped down.
		c.campaignAfter(now, c.options.ElectionTimeout/2+c.campaignDelay())
	case change.Role == consensus.RoleLearner && change.Term != before.Term:
		c.campaigns.at = 0 // they know
	}
	if leader.Node != 0 {
		c.follow(leader)
		c.campaigns.at = 0
	}
	c.judgeTransfer()
}

// Due is when Advance has something to do; 0: never.
func (c *Core) Due() time.Duration {
	if until := c.transfer.until; until != 0 && (c.campaigns.at == 0 || until < c.campaigns.at) {
		return until
	}
	return c.campaigns.at
}

// Advance lets the time pass: a campaign falls due, and again and again while nobody leads; a hand-over takes too long. Before a campaign is due nothing is
// done about it: role may still name the leader that was just lost.
func (c *Core) Advance(now time.Duration) {
	if at := c.campaigns.at; at != 0 && now >= at {
		c.campaign(now)
	}
	if until := c.transfer.until; until != 0 && now >= until {
		c.transferEnds(fmt.Errorf("%w: node %v does not lead", kv.ErrTransferTimeout, c.transfer.to.Node))
	}
}

// Idle tells whether the consensus core can do without ticks, as far as promises go. A leader's may only if it is quiet, too: its ticks send
// heartbeats and find out whether it still has a quorum, which is superfluous while every other voter is bound to it.
func (c *Core) Idle(now time.Duration, promised Promised) bool {
	if c.Transferring() {
		return false // until it is over, or has taken too long
	}
	switch c.role.Role {
	case consensus.RoleFollower, consensus.RoleLearner:
		return c.Holding(now) && c.mayLead(c.role.Leader)
	case consensus.RoleLeader:
		return c.claim != nil && c.claim.byAll(promised, now)
	default:
		return false
	}
}
