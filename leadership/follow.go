package leadership

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// following is what a replica owes to the leader that it followed last.
type following struct {
	// leader is the process that led, until the promise to it has ended. Instance 0: nobody knows which one it is, and then a promise to any
	// process of the node binds. Invariant: without a node there are no times.
	leader Process
	// orphanedAt: since then the consensus core has no leader although a promise binds; 0: it has one.
	orphanedAt time.Duration
	// freeAt is when the withdrawn promise has ended; 0 as soon as anything is vouched for again.
	freeAt time.Duration
}

// follow begins to hold still for a leader.
func (c *Core) follow(leader Process) {
	if leader.Node != c.following.leader.Node {
		c.following = following{} // what was withdrawn was a promise to another node
	}
	c.following.leader = leader
}

// Followed is the process of the leader that this replica holds still for; Node 0: it is free.
func (c *Core) Followed() Process { return c.following.leader }

// Holding tells whether this replica holds still for the leader that it followed last.
func (c *Core) Holding(now time.Duration) bool {
	leader := c.following.leader
	return leader.Node != 0 && c.promises.Supporting(now, leader.Node, leader.Instance)
}

// alone tells whether this replica decides by itself: then nobody was promised anything that matters.
func (c *Core) alone() bool {
	return len(c.config.Voters) == 1 && c.config.Voters[0] == c.self && len(c.config.Outgoing) == 0
}

// mayVote tells whether enough time has passed since the start that no promise of an earlier process binds.
func (c *Core) mayVote(now time.Duration) bool { return c.promises.MayVote(now) || c.alone() }

// mayLead tells whether a replica may lead as far as this one has applied: it has a vote, or is newer than all that have been members here. A leader that
// has taken its own vote away leads no more, or not for long, and cannot ask for votes to say so.
func (c *Core) mayLead(id consensus.ReplicaID) bool {
	return id != 0 && (c.config.Votes(id) || id > c.newest)
}

// Vouch tells whether a message of the given term to a replica says that this one follows it. If so, the receiver counts on what this node
// promises now, whatever was withdrawn before.
func (c *Core) Vouch(to Member, term consensus.Term, view View) bool {
	if to.Node != c.following.leader.Node || view.Leader != to.Replica || view.Term != term || !c.mayLead(to.Replica) {
		return false
	}
	c.following.orphanedAt, c.following.freeAt = 0, 0
	return true
}

// Tick tells whether time may pass for the consensus core: not while its election timeout must not run. leader is whom the core follows at this
// moment.
func (c *Core) Tick(now time.Duration, leader consensus.ReplicaID) bool {
	if c.role.Role == consensus.RoleLeader {
		return true
	}
	c.releaseOrphan(now, leader)
	return c.mayVote(now) && !c.Holding(now)
}

// releaseOrphan sees to it that a replica does not hold still for ever for a leader that no longer leads the group although its node lives.
func (c *Core) releaseOrphan(now time.Duration, leader consensus.ReplicaID) {
	f := &c.following
	switch {
	case !c.Holding(now) || c.mayLead(leader):
		f.orphanedAt, f.freeAt = 0, 0
	case f.orphanedAt == 0:
		f.orphanedAt = now
	case f.freeAt == 0:
		if now-f.orphanedAt >= c.options.ElectionTimeout {
			f.freeAt = c.promises.Withdraw(now, f.leader.Node)
		}
	case now >= f.freeAt:
		c.leaderGone(now)
	}
}

// HearCandidate tells whether a request for a vote or promise may reach the consensus core, which is in the term own: not while this replica holds
// still for another leader, nor while it does not know what it promised before a restart. A leader that asks for votes in a later term has stepped
// down: what was promised to it is moot.
func (c *Core) HearCandidate(now time.Duration, from Process, term, own consensus.Term) bool {
	if !c.mayVote(now) {
		return false
	}
	if c.following.leader == from && term > own {
		c.following = following{}
		c.ready.LeaderLost = true
		// It may be unable to hear the votes it asks for: somebody else tries if it does not succeed soon.
		c.campaignAfter(now, 2*c.options.HeartbeatInterval+c.campaignDelay())
		return true
	}
	return !c.Holding(now)
}

// NodeLost tells that what was promised to a process of the node has ended, and that this process is gone. restarted: another one has
// its place.
func (c *Core) NodeLost(now time.Duration, node kv.NodeID, restarted bool) {
	switch {
	case node == 0 || c.following.leader.Node != node:
	case !c.Holding(now):
		c.leaderGone(now)
	case restarted && c.following.leader.Instance == 0:
		c.doubtLeader(now)
	}
}

// ReplicaEnded tells that the node's replica says of itself that it does nothing any more, although its process lives. A word from it as the leader shows that this
// was not so.
func (c *Core) ReplicaEnded(now time.Duration, node kv.NodeID) {
	switch {
	case node == 0 || c.following.leader.Node != node:
	case !c.Holding(now):
		c.leaderGone(now)
	default:
		c.doubtLeader(now)
	}
}

// doubtLeader lets go, in time, of a leader that may have ended: there was another process on its node, and nobody knows which of the two led.
// It may be the one that lives, which counts on what was promised to it. So the promise is withdrawn and waited out, and nothing is vouched
// for meanwhile; a word from the leader ends the doubt.
func (c *Core) doubtLeader(now time.Duration) {
	f := &c.following
	if c.role.Role == consensus.RoleLeader || f.freeAt != 0 {
		return
	}
	c.ready.LeaderLost = true
	f.orphanedAt, f.freeAt = now, c.promises.Withdraw(now, f.leader.Node)
}

// leaderGone draws the conclusion from the end of the process which led the group.
func (c *Core) leaderGone(now time.Duration) {
	c.following = following{}
	if c.role.Role == consensus.RoleLeader {
		return
	}
	c.ready.LeaderLost = true
	c.campaignAfter(now, c.campaignDelay())
}
