package leadership

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// campaigns are the elections that this replica means to begin.
type campaigns struct {
	at    time.Duration // of the next one; 0: none
	tried int           // since the leader was lost
}

// Start tells that this replica takes part from now on. It campaigns, if it hears of no leader, as soon as it may. Where there is a leader it
// has spoken by then, and if not, a pre-vote disturbs nobody.
func (c *Core) Start(now time.Duration) {
	switch {
	case !c.config.Votes(c.self):
	case c.alone():
		c.campaignAfter(now, 0)
	default:
		c.campaignAfter(now, c.options.PromiseDuration+c.campaignDelay())
	}
}

// campaignAfter plans the first campaign for a new leader.
func (c *Core) campaignAfter(now, delay time.Duration) {
	c.campaigns = campaigns{at: max(now+delay, 1)} // 0 means none
}

// campaignDelay staggers the campaigns of the nodes that are alive, with some jitter. Which of them is the first differs from group to group, so
// that one node does not get all the leaders.
func (c *Core) campaignDelay() time.Duration {
	step := c.options.HeartbeatInterval / 2
	return time.Duration(c.rank())*step + time.Duration(c.options.Rand.Int64N(int64(step)/4+1))
}

// rank is how many nodes that are alive come before this one in the group's own order of nodes.
func (c *Core) rank() (rank int) {
	for _, node := range c.order {
		if c.place(node) < c.place(c.options.Self) && c.promises.Alive(node) {
			rank++
		}
	}
	return rank
}

// place is a node's position in the group's own order of nodes, counted from 0.
func (c *Core) place(node kv.NodeID) int {
	count := uint64(len(c.order))
	index := uint64(max(0, slices.Index(c.order, node)))
	return int((index + count - uint64(c.options.Group)%count) % count)
}

// campaign begins the campaign that is due, and plans the next one.
func (c *Core) campaign(now time.Duration) {
	switch {
	case c.role.Leader != 0 || c.role.Role == consensus.RoleLeader || c.Holding(now):
		c.campaigns.at = 0
	case !c.mayVote(now):
		c.campaigns.at = now + c.options.HeartbeatInterval
	default:
		c.ready.Campaign = true
		c.campaigns.at = now + c.pause() + c.campaignDelay()
		c.campaigns.tried++
	}
}

// pause is the time until the next try. Each campaign abandons the one before, so they must leave more and more time: the disks of those
// who vote may be slow.
func (c *Core) pause() time.Duration {
	return min(2*c.options.HeartbeatInterval<<min(c.campaigns.tried, 4), 2*c.options.ElectionTimeout)
}
