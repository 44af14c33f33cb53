package leadership

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// Check verifies the invariants of the core.
func (c *Core) Check() error {
	if f := c.following; f.leader.Node == 0 && (f.orphanedAt != 0 || f.freeAt != 0) {
		return fmt.Errorf("leadership: nobody is followed, and yet what was promised is waited out since %v until %v", f.orphanedAt, f.freeAt)
	}
	if t := c.transfer; (t.to.Replica != 0) != (t.until != 0) || t.to.Replica != 0 && t.to.Replica == c.self {
		return fmt.Errorf("leadership: a hand-over from replica %d to replica %d, until %v", c.self, t.to.Replica, t.until)
	}
	if c.ready.Campaign && c.role.Role == consensus.RoleLeader {
		return fmt.Errorf("leadership: the leader of term %d is to campaign", c.role.Term)
	}
	return c.checkClaim()
}

func (c *Core) checkClaim() error {
	if c.claim == nil {
		return nil
	}
	if c.role.Role != consensus.RoleLeader {
		return fmt.Errorf("leadership: a %v of term %d claims a lease", c.role.Role, c.role.Term)
	}
	for _, set := range c.claim.Sets {
		for _, v := range set.Voters {
			if v.Generation != 0 && v.Node < 0 {
				return fmt.Errorf("leadership: a voter on no node of the cluster counts for the lease of term %d", c.role.Term)
			}
		}
		if len(set.Voters) > 0 && set.Need < 1 {
			return fmt.Errorf("leadership: the lease of term %d needs %d of %d voters", c.role.Term, set.Need, len(set.Voters))
		}
	}
	return nil
}
