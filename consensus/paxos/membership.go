package paxos

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// A change of membership is one step, from any voters to any others: the entry at slot i is decided by the old
// ones; the leader proposes nothing beyond i before it has applied it; then it runs phase 1 for the
// slots beyond i among the new ones, under the ballot it has, and goes on. Every replica works with the
// membership at its applied entry.

// ProposeConfig implements consensus.Core.
func (c *core) ProposeConfig(target consensus.Config) error {
	if err := c.mayPropose(); err != nil {
		return err
	}
	if err := c.quorums.validate(target); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidProposal, err)
	}
	l := c.lead
	switch {
	case l.blocked != 0 || l.extending != nil:
		if l.barrier == 0 {
			return consensus.ErrNotReady
		}
		return consensus.ErrConfigPending
	case l.barrier == 0 || c.applied.index < l.barrier:
		return consensus.ErrNotReady
	}
	if n := len(target.Voters); count(target.Voters, c.caughtUp) < max(c.quorums.phase1(n), c.quorums.phase2(n)) {
		return fmt.Errorf("%w: of %s", ErrNotCaughtUp, target)
	}
	c.touched = true
	c.place(consensus.Entry{Term: c.promised, Kind: consensus.EntryConfig, Data: consensus.AppendConfig(nil, target)})
	l.blocked = l.last
	l.changing = !slices.Equal(target.Voters, c.config().Voters)
	return nil
}

// caughtUp tells whether the replica has everything from before this leadership, so that it needs no snapshot. There is
// no way back from a change to voters who have nothing.
func (c *core) caughtUp(id consensus.ReplicaID) bool {
	p := c.lead.peer(id)
	return id == c.self || p != nil && p.match >= c.lead.barrier
}

// configApplied follows a change of membership.
func (c *core) configApplied(index consensus.Index, target consensus.Config) {
	before := c.applied.config
	if err := c.quorums.validate(target); err != nil {
		c.fail(fmt.Errorf("entry %d: %w", index, err))
		return
	}
	c.applied.config = target
	switch {
	case c.lead != nil:
		c.leadChanged(index, before)
	case c.campaign != nil && !c.voter():
		c.becomeFollower(0)
	case c.campaign != nil && c.campaign.phase != nil:
		before := c.campaign.phase
		c.campaign.phase = c.newPhase1(before.context)
		c.campaign.phase.orderer = before.orderer
		c.prepare(c.campaign.phase)
	case c.campaign == nil:
		c.role = c.passiveRole()
	}
}

// leadChanged goes on leading in the new membership, or steps down when there is no vote for this replica in it.
func (c *core) leadChanged(index consensus.Index, before consensus.Config) {
	if !c.voter() {
		c.becomeFollower(0)
		return
	}
	l := c.lead
	c.makePeers()
	if l.transferTo != 0 && !hasVoter(c.config(), l.transferTo) {
		l.transferTo = 0
	}
	if index != l.blocked {
		return
	}
	l.blocked, l.changing = 0, false
	if l.barrier != 0 && slices.Equal(before.Voters, c.config().Voters) {
		// The promises of the same voters hold for every slot beyond, and nothing is left that phase 1 found:
		// that was all before the barrier.
		c.unblock()
		return
	}
	c.failReads() // they wait for answers of voters that may be none any more
	l.extending = c.newPhase1(prepareExtend)
	c.prepare(l.extending)
}

// extended goes on after phase 1 in the new membership.
func (c *core) extended(p *phase1) {
	found := c.propositions(p)
	if c.failed() {
		return
	}
	l := c.lead
	l.extending = nil
	l.last, l.match = max(l.last, c.decided), max(l.match, c.decided)
	c.repropose(found)
}
