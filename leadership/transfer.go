package leadership

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// transfer is a hand-over of leadership that is under way. It is over when somebody is known to lead in a later term, or when the consensus core has
// given it up, which it does after an election timeout.
type transfer struct {
	to    Member // Replica 0: there is none
	term  consensus.Term
	until time.Duration
}

// Transferred says how a hand-over ended.
type Transferred struct {
	To Member
	// Err is nil if that replica leads. It wraps kv.ErrTransferTimeout if that was not heard in time, or somebody else leads; what else it may be,
	// Transfer says.
	Err error
}

// Prospect is a replica that might lead next, as the leader knows it.
type Prospect struct {
	Node kv.NodeID
	consensus.Replication
}

// Transfer hands leadership over; Ready says how it ends. Asking again for the same while it is under way changes nothing. An error means that nothing was
// begun: kv.ErrNotLeader, kv.ErrBadTransferee, or kv.ErrTooManyRequests while leadership is being handed to somebody else. newest is the membership as the
// consensus core knows it: whoever loses its vote there, and led, could not even ask for votes to say that it has stepped down.
func (c *Core) Transfer(now time.Duration, to Member, newest consensus.Config) error {
	switch t := &c.transfer; {
	case c.claim == nil:
		return kv.ErrNotLeader
	case t.to.Replica != 0 && t.to == to:
		return nil
	case t.to.Replica != 0:
		return fmt.Errorf("%w: leadership is being handed to node %v; ask again when that is over", kv.ErrTooManyRequests, t.to.Node)
	case to.Replica == 0:
		return fmt.Errorf("%w: %v is no node of the cluster", kv.ErrBadTransferee, to.Node)
	case to.Replica == c.self:
		c.ready.Transferred = &Transferred{To: to}
		return nil
	case !c.stays(to.Replica, newest):
		return fmt.Errorf("%w: the replica of that node is no voter of the group", kv.ErrBadTransferee)
	case !c.promises.Alive(to.Node):
		return fmt.Errorf("%w: node %v does not answer", kv.ErrBadTransferee, to.Node)
	}
	c.transfer = transfer{to: to, term: c.role.Term, until: now + c.transferPatience()}
	c.ready.Transfer = to.Replica
	return nil
}

// Transferring tells whether leadership is being handed over. Meanwhile this replica should begin nothing new.
func (c *Core) Transferring() bool { return c.transfer.to.Replica != 0 }

// Heir is the node that leadership is being handed to; 0: it is not.
func (c *Core) Heir() kv.NodeID { return c.transfer.to.Node }

// transferPatience covers the time after which consensus cores give up.
func (c *Core) transferPatience() time.Duration {
	return c.options.ElectionTimeout + 2*c.options.HeartbeatInterval
}

// TransferRefused tells that the consensus core did not begin the hand-over.
func (c *Core) TransferRefused(err error) {
	if errors.Is(err, consensus.ErrNotLeader) {
		c.transferEnds(kv.ErrNotLeader)
		return
	}
	c.transferEnds(fmt.Errorf("%w: %w", kv.ErrBadTransferee, err))
}

// judgeTransfer looks, after a change of role, whether the hand-over is over.
func (c *Core) judgeTransfer() {
	t := &c.transfer
	switch {
	case t.to.Replica == 0 || c.role.Term <= t.term || c.role.Leader == 0:
	case c.role.Leader == t.to.Replica:
		c.transferEnds(nil)
	default:
		c.transferEnds(fmt.Errorf("%w: replica %d was elected, not replica %d", kv.ErrTransferTimeout, c.role.Leader, t.to.Replica))
	}
}

func (c *Core) transferEnds(err error) {
	c.ready.Transferred = &Transferred{To: c.transfer.to, Err: err}
	c.transfer = transfer{}
}

// Successor chooses who should lead next, when this node is about to stop: a voter whose node is heard, one that answers, and of those the one that
// needs the fewest entries, so that writes wait no longer than they must. Among equals the group's own order of nodes decides, so that one node does not
// get all the leaders. False: nobody.
func (c *Core) Successor(newest consensus.Config, prospects []Prospect) (Member, bool) {
	fit := slices.DeleteFunc(slices.Clone(prospects), func(p Prospect) bool {
		return p.Replica == c.self || !c.stays(p.Replica, newest) || p.Snapshotting || !c.promises.Alive(p.Node)
	})
	if len(fit) == 0 {
		return Member{}, false
	}
	best := slices.MaxFunc(fit, func(a, b Prospect) int {
		return cmp.Or(compare(a.Active, b.Active), cmp.Compare(a.Match, b.Match), cmp.Compare(c.place(b.Node), c.place(a.Node)))
	})
	return Member{Replica: best.Replica, Node: best.Node}, true
}

// stays tells whether a replica has a vote, and keeps it in the newest membership.
func (c *Core) stays(id consensus.ReplicaID, newest consensus.Config) bool {
	return c.config.Votes(id) && slices.Contains(newest.Voters, id)
}

// compare puts false before true.
func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
