package raft

import (
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// A replica follows a change of membership when it is applied, so a leader that loses its vote steps down
// while others may not know yet that the change is committed. With voters {1, 2} and 1 demoted, 2
// still asks 1 for its vote, and 1 refuses it for as long as its log is longer: nobody
// can ever be elected. Therefore a refusal says how far its sender knows the log to be committed, as a
// position with a term. A candidate that has the same entry there has the same log up to it, so it
// knows as much, applies the change, and does without the vote. (raft-rs does the same: maybe_commit_by_vote.)

// tellCommit puts the commit position into a refusal.
func (c *core) tellCommit(m *consensus.Message) {
	if term, err := c.storage.log.Term(c.hard.Commit); err == nil {
		m.Commit, m.LogTerm = c.hard.Commit, term
	}
}

// tellResigned says that this replica, which led the term and has lost its vote, leads no more. Others that have not heard of the change would hold still for it
// for as long as its node lives, and let no candidate near. A request for a vote says it; this one is about an empty log, so that all refuse it.
func (c *core) tellResigned() {
	role := c.role()
	if role.Leader != 0 || role.Term != c.led {
		return
	}
	for _, to := range c.active.Voters {
		c.outbox = append(c.outbox, consensus.Message{From: c.self, To: to, Kind: KindPreVote, Term: role.Term + 1, Class: classOf(KindPreVote, 0)})
	}
}

// learnCommit takes the commit position out of a refusal, if this replica has no better source. Like
// LeaderLost it makes up a heartbeat, the library's only way to hear of a commit index.
func (c *core) learnCommit(m *consensus.Message) {
	news := m.Reject && m.LogTerm != 0 && m.Commit > c.commit()
	if !news || c.isLeader() || c.state().lead != 0 || c.term() == 0 {
		return
	}
	c.collectAhead()
	if slices.ContainsFunc(c.queue, func(rd consensus.Ready) bool { return len(rd.Append.Entries) > 0 || rd.Append.Snapshot != nil }) {
		return // the LogReader does not show the log as it is; there will be another refusal
	}
	if term, err := c.storage.log.Term(m.Commit); err != nil || term != m.LogTerm {
		return
	}
	c.hearCommit(m.From, m.Commit)
}

// hearCommit tells the library what is committed. It hears that from leaders only, so a heartbeat is made up.
func (c *core) hearCommit(from consensus.ReplicaID, commit consensus.Index) {
	leader := c.state().lead
	if leader != 0 {
		from = consensus.ReplicaID(leader)
	}
	c.ownStep(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(from)), To: new(uint64(c.self)),
		Term: new(c.state().term), Commit: new(uint64(commit)), Context: restartMarker,
	})
	if leader == 0 && c.state().state == etcdraft.StateFollower {
		_ = c.node.ForgetLeader() // it never fails
		c.touched()
	}
}
