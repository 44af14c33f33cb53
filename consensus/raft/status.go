package raft

import (
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/quoratedb/quorate/consensus"
)

// role returns what this replica is at the moment.
func (c *core) role() consensus.RoleChange {
	s := c.state()
	change := consensus.RoleChange{Term: consensus.Term(s.term), Leader: consensus.ReplicaID(s.lead)}
	switch {
	case s.state == etcdraft.StateLeader:
		change.Role = consensus.RoleLeader
	case s.state != etcdraft.StateFollower:
		change.Role = consensus.RoleCandidate
	case slices.Contains(c.active.Learners, c.self) && !c.active.Votes(c.self):
		change.Role = consensus.RoleLearner
	}
	return change
}

// Status implements consensus.Core. Last is the end of what was handed out in Ready.Append. The config is
// not copied: nobody may change it.
func (c *core) Status() consensus.Status {
	role := c.role()
	s := consensus.Status{
		Replica: c.self, Role: role.Role, Term: role.Term, Leader: role.Leader,
		Commit: c.commit(), Applied: c.applied().index, Last: c.last, Config: c.applied().config,
	}
	if role.Role != consensus.RoleLeader {
		return s
	}
	s.LeaseForbidden = c.Brief().LeaseForbidden
	if c.lead.term == role.Term {
		s.BarrierIndex = c.lead.barrier
	}
	s.Quiet = c.Quiet()
	s.Replicas = make([]consensus.Replication, 0, len(c.active.Voters)+len(c.active.Learners)-1)
	c.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, p tracker.Progress) {
		if replica := consensus.ReplicaID(id); replica != c.self {
			s.Replicas = append(s.Replicas, replication(replica, &p))
		}
	})
	return s
}

// Brief implements consensus.Core.
func (c *core) Brief() consensus.Brief {
	b := consensus.Brief{RoleChange: c.role()}
	if b.Role == consensus.RoleLeader && c.lead.term == b.Term {
		b.LeaseForbidden = c.lead.transferred
	}
	return b
}

// Quiet implements consensus.Core.
func (c *core) Quiet() bool {
	if !c.calm() {
		return false
	}
	quiet := true
	c.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, p tracker.Progress) {
		replica := consensus.ReplicaID(id)
		quiet = quiet && (replica == c.self || p.State == tracker.StateReplicate && p.RecentActive &&
			consensus.Index(p.Match) == c.last && c.lead.commits[replica] >= c.hard.Commit)
	})
	return quiet
}

func replication(id consensus.ReplicaID, p *tracker.Progress) consensus.Replication {
	return consensus.Replication{
		Replica: id, Match: consensus.Index(p.Match), Next: consensus.Index(p.Next), Learner: p.IsLearner,
		Snapshotting: p.State == tracker.StateSnapshot, Active: p.RecentActive,
	}
}

// calm tells whether this replica leads and nothing is in flight here. What the others must have for Status.Quiet is
// all entries, and to have said that they know the commit index: a group that falls quiet while somebody
// misses the last commit notice would leave it behind for as long as nobody writes.
func (c *core) calm() bool {
	barrier, applied := c.lead.barrier, c.applied().index
	return barrier != 0 && applied >= barrier && applied == c.last && c.hard.Commit == c.last &&
		len(c.lead.reads) == 0 && len(c.appends) == 0 && c.isLeader() && c.lead.term == c.term() &&
		!c.active.Joint() && !c.transferring() && !c.HasReady()
}

// Check implements consensus.Core.
func (c *core) Check() error {
	for _, check := range []func() error{c.checkHealth, c.checkProgress, c.checkMarks, c.checkRole, c.checkConfig, c.checkView} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *core) broken(format string, args ...any) error {
	return fmt.Errorf("raft: replica %d breaks an invariant: "+format, append([]any{c.self}, args...)...)
}

// Failed implements consensus.Core.
func (c *core) Failed() error { return c.storage.failed }

func (c *core) checkHealth() error {
	if c.failed() {
		return c.storage.failed
	}
	return c.misuse
}

// checkProgress: applied <= committed <= commit <= last, and neither term nor commit ever goes back.
func (c *core) checkProgress() error {
	term, commit, applied := c.term(), c.commit(), c.applied().index
	before, seen := c.seenTerm, c.seenCommit
	c.seenTerm, c.seenCommit = term, commit
	switch {
	case term < before:
		return c.broken("the term went from %d to %d", before, term)
	case commit < seen:
		return c.broken("the commit index went from %d to %d", seen, commit)
	case c.hard.Commit > c.last:
		return c.broken("entry %d is committed but the log ends at %d", c.hard.Commit, c.last)
	case c.committed > c.hard.Commit:
		return c.broken("entry %d was handed out for applying but only %d is committed", c.committed, c.hard.Commit)
	case applied > c.committed:
		return c.broken("entry %d is applied but only %d was handed out", applied, c.committed)
	case c.hard.Term > term:
		return c.broken("term %d was handed out, the term is %d", c.hard.Term, term)
	case c.floor > c.last && !c.isLeader():
		return c.broken("the log may end at %d but must reach %d", c.last, c.floor)
	}
	if n := len(c.applying); n > 0 && (consensus.Index(c.applying[0].GetIndex()) != applied+1 || consensus.Index(c.applying[n-1].GetIndex()) != c.committed) {
		return c.broken("the entries being applied do not reach from %d to %d", applied+1, c.committed)
	}
	return nil
}

// checkMarks: writes in flight have ascending marks between the last acknowledged and the last given out.
func (c *core) checkMarks() error {
	before := c.acked
	for i := range c.appends {
		mark := c.appends[i].mark
		if !before.Less(mark) || c.marked.Less(mark) {
			return c.broken("mark %v after %v, up to %v", mark, before, c.marked)
		}
		before = mark
	}
	return nil
}

// checkRole: a leader knows itself as leader and has a vote; reads wait only at leaders.
func (c *core) checkRole() error {
	role := c.role()
	if (role.Role == consensus.RoleLeader) != (role.Leader == c.self) {
		return c.broken("it is %s in term %d with replica %d as leader", role.Role, role.Term, role.Leader)
	}
	if role.Role == consensus.RoleLeader && !c.active.Votes(c.self) {
		return c.broken("it leads without a vote in %s", c.active)
	}
	if c.lead.term > role.Term {
		return c.broken("it remembers a leadership of term %d in term %d", c.lead.term, role.Term)
	}
	return nil
}

// checkConfig: the library works with the membership this core believes in.
func (c *core) checkConfig() error {
	got := c.libraryConfig()
	if !got.Equal(c.active) {
		return c.broken("the library works with %s instead of %s", got, c.active)
	}
	if !c.installing && !c.active.Equal(c.applied().config) {
		return c.broken("at the applied entry %d the membership is %s, in force is %s", c.applied().index, c.applied().config, c.active)
	}
	if !c.active.Empty() {
		return c.active.Validate()
	}
	return nil
}

func (c *core) libraryConfig() consensus.Config {
	config := c.node.Status().Config
	var got consensus.Config
	got.Voters = fromIDs(config.Voters[0].Slice())
	got.Outgoing = fromIDs(config.Voters[1].Slice())
	for id := range config.Learners {
		got.Learners = append(got.Learners, consensus.ReplicaID(id))
	}
	for id := range config.LearnersNext {
		got.Learners = append(got.Learners, consensus.ReplicaID(id))
	}
	slices.Sort(got.Learners)
	return got
}
