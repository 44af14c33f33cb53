package paxos

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// roleChange returns what this replica is at the moment.
func (c *core) roleChange() consensus.RoleChange {
	return consensus.RoleChange{Role: c.role, Term: c.promised, Leader: c.leader}
}

// Status implements consensus.Core. The config is not copied: nobody may change it.
func (c *core) Status() consensus.Status {
	s := consensus.Status{
		Replica: c.self, Role: c.role, Term: c.promised, Leader: c.leader,
		Commit: c.decided, Applied: c.applied.index, Last: max(c.decided, c.received), Config: c.applied.config,
	}
	l := c.lead
	if l == nil {
		return s
	}
	s.Last = max(l.last, c.decided)
	s.BarrierIndex = l.barrier
	s.LeaseForbidden = c.Brief().LeaseForbidden
	s.LeaseVoters = c.quorums.confirm(len(c.config().Voters))
	s.Quiet = c.Quiet()
	s.Replicas = make([]consensus.Replication, 0, len(l.peers))
	for _, p := range l.peers {
		s.Replicas = append(s.Replicas, consensus.Replication{
			Replica: p.id, Match: p.match, Next: p.next, Learner: p.learner, Snapshotting: c.shipping[p.id], Active: p.active,
		})
	}
	return s
}

// Brief implements consensus.Core.
func (c *core) Brief() consensus.Brief {
	b := consensus.Brief{RoleChange: c.roleChange()}
	if l := c.lead; l != nil {
		b.LeaseForbidden = l.transferred || l.changing
	}
	return b
}

// Quiet implements consensus.Core.
func (c *core) Quiet() bool {
	if c.lead == nil || !c.calm() {
		return false
	}
	for _, p := range c.lead.peers {
		if !p.active || p.unsure || p.match < c.lead.last || p.decided < c.lead.last || c.shipping[p.id] {
			return false
		}
	}
	return true
}

// calm tells whether nothing is in flight at the leader itself. What the others must have for Status.Quiet is
// all slots, and to have said that they know them to be decided: a group that falls quiet while somebody
// misses the last notice would leave it behind for as long as nobody writes.
func (c *core) calm() bool {
	l := c.lead
	return l.barrier != 0 && c.decided == l.last && c.applied.index == l.last && l.blocked == 0 && l.extending == nil &&
		l.transferTo == 0 && len(l.reads) == 0 && len(c.writes) == 0 && !c.HasReady()
}

// Check implements consensus.Core.
func (c *core) Check() error {
	if c.failed() {
		return c.failure
	}
	if c.misuse != nil {
		return c.misuse
	}
	for _, check := range []func() error{c.checkProgress, c.checkWindow, c.checkMarks, c.checkRole, c.checkLeader} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *core) broken(format string, args ...any) error {
	return fmt.Errorf("paxos: replica %d breaks an invariant: "+format, append([]any{c.self}, args...)...)
}

// checkProgress: applied <= handed <= decided, and neither the promise nor the decided mark ever goes back.
func (c *core) checkProgress() error {
	promised, decided := c.seenPromised, c.seenDecided
	c.seenPromised, c.seenDecided = c.promised, c.decided
	switch {
	case c.promised < promised:
		return c.broken("the promise went from %d to %d", promised, c.promised)
	case c.decided < decided:
		return c.broken("the decided mark went from %d to %d", decided, c.decided)
	case c.handed > c.decided:
		return c.broken("entry %d was handed out for applying but only %d is decided", c.handed, c.decided)
	case c.installing == 0 && c.install == nil && c.applied.index > c.handed:
		return c.broken("entry %d is applied but only %d was handed out", c.applied.index, c.handed)
	case c.received < c.decided:
		return c.broken("slot %d is decided but only %d received", c.decided, c.received)
	case c.highestSeen < c.promised:
		return c.broken("ballot %d is promised, the highest seen is %d", c.promised, c.highestSeen)
	}
	if n := len(c.applying); n > 0 && c.installing == 0 && (c.applying[0].index != c.applied.index+1 || c.applying[n-1].index != c.handed) {
		return c.broken("the entries being applied do not reach from %d to %d", c.applied.index+1, c.handed)
	}
	return nil
}

// checkedSlots bounds how many slots of the window one Check looks at.
const checkedSlots = 256

// checkWindow: what is decided is there, nothing is accepted above the promise, and what was not handed out for
// writing is in memory.
func (c *core) checkWindow() error {
	if c.window.base != c.handed {
		return c.broken("the window starts after %d, handed out is %d", c.window.base, c.handed)
	}
	for i := c.handed + 1; i <= min(max(c.decided, c.window.last()), c.handed+checkedSlots); i++ {
		s := c.window.at(i)
		switch {
		case s == nil && i <= c.decided:
			return c.broken("slot %d is decided but empty", i)
		case s == nil:
		case s.entry.Index != i:
			return c.broken("slot %d holds entry %d", i, s.entry.Index)
		case s.ballot > c.promised:
			return c.broken("slot %d was accepted under ballot %d, promised is %d", i, s.ballot, c.promised)
		case s.entry.Term > s.ballot:
			return c.broken("slot %d was accepted under ballot %d, but is of term %d", i, s.ballot, s.entry.Term)
		case s.write == unwritten && !s.loaded:
			return c.broken("slot %d is neither in memory nor in the log", i)
		case i > c.decided && i <= c.received && s.ballot != c.promised:
			return c.broken("slot %d counts as accepted under %d but was under %d", i, c.promised, s.ballot)
		}
	}
	return nil
}

// checkMarks: writes in flight have ascending marks between the last acknowledged and the last given out.
func (c *core) checkMarks() error {
	before := c.acked
	for i := range c.writes {
		mark := c.writes[i].mark
		if mark.Seq <= before || c.marked.Less(mark) {
			return c.broken("mark %v after %d, up to %v", mark, before, c.marked)
		}
		before = mark.Seq
	}
	return nil
}

// checkRole: the role and what is remembered for it belong together.
func (c *core) checkRole() error {
	switch {
	case (c.role == consensus.RoleLeader) != (c.lead != nil), (c.role == consensus.RoleLeader) != (c.leader == c.self):
		return c.broken("it is %s with replica %d as leader", c.role, c.leader)
	case (c.role == consensus.RoleCandidate) != (c.campaign != nil):
		return c.broken("it is %s with a campaign (%v)", c.role, c.campaign != nil)
	case (c.lead != nil || c.campaign != nil) && !c.voter():
		return c.broken("it is %s without a vote in %s", c.role, c.config())
	case c.lead != nil && (proposerOf(c.promised) != c.self || c.ackedTerm < c.promised):
		return c.broken("it leads under ballot %d, its durable promise is %d", c.promised, c.ackedTerm)
	}
	if !c.config().Empty() {
		return c.quorums.validate(*c.config())
	}
	return nil
}

// checkLeader: everything between the decided mark and the last slot is proposed under the leader's ballot,
// nothing is proposed beyond an unfinished change of membership, and flow control counts right.
func (c *core) checkLeader() error {
	l := c.lead
	if l == nil {
		return nil
	}
	if l.last < c.decided && l.extending == nil && l.blocked == 0 { // others may have gone on after the change that is re-proposed
		return c.broken("slot %d is decided, the last one proposed is %d", c.decided, l.last)
	}
	for i := c.decided + 1; i <= min(l.last, c.decided+checkedSlots); i++ {
		if s := c.window.at(i); s == nil || s.ballot != c.promised {
			return c.broken("slot %d is not proposed under ballot %d", i, c.promised)
		}
	}
	if l.blocked != 0 && l.last != l.blocked {
		return c.broken("slot %d is proposed beyond the unfinished change of membership in slot %d", l.last, l.blocked)
	}
	for _, p := range l.peers {
		size, messages := 0, 0
		for _, s := range p.inflight {
			size += s.size
			if s.ends {
				messages++
			}
		}
		if size != p.inflightBytes || messages != p.inflightCount {
			return c.broken("%d bytes in %d messages are in flight to replica %d, counted are %d in %d", size, messages, p.id, p.inflightBytes, p.inflightCount)
		}
	}
	return nil
}
