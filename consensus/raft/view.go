package raft

import (
	etcdraft "go.etcd.io/raft/v3"

	"github.com/quoratedb/quorate/consensus"
)

// view is what is known of the library's state without asking it. Asking costs half a dozen allocations each time, since the library
// makes a protobuf message of the answer, and a driver wants to know the role with every message. So what was learnt stays known until
// something happens that may change it. Invariant: what is marked as known is what the library would answer (Check compares).
type view struct {
	roleKnown              bool
	term, lead, transferee uint64
	state                  etcdraft.StateType

	commitKnown bool
	commit      uint64

	work work
}

// work says whether the library has something for Ready.
type work uint8

const (
	workUnknown work = iota
	workWaits
	workNone
)

// touched notes that the library was given something that may change anything.
func (c *core) touched() { c.view = view{} }

// moved notes that the library was given something that moves indexes: role, term and leader stay what they are.
func (c *core) moved() { c.view.commitKnown, c.view.work = false, workUnknown }

// ask learns the library's state.
func (c *core) ask() {
	s := c.node.BasicStatus()
	v := &c.view
	v.roleKnown, v.term, v.lead, v.state, v.transferee = true, s.GetTerm(), s.Lead, s.RaftState, s.LeadTransferee
	v.commitKnown, v.commit = true, s.GetCommit()
}

// state returns the view with the role in it.
func (c *core) state() *view {
	if !c.view.roleKnown {
		c.ask()
	}
	return &c.view
}

func (c *core) commit() consensus.Index {
	if !c.view.commitKnown {
		c.ask()
	}
	return consensus.Index(c.view.commit)
}

func (c *core) term() consensus.Term { return consensus.Term(c.state().term) }
func (c *core) isLeader() bool       { return c.state().state == etcdraft.StateLeader }
func (c *core) transferring() bool   { return c.state().transferee != 0 }

// collected notes that all work was taken out of the library, which leaves nothing that was not handed out.
func (c *core) collected() {
	c.view.work, c.view.commitKnown, c.view.commit = workNone, true, uint64(c.hard.Commit)
}

// workWaiting tells whether the library has something for Ready, or the role is another than the one reported.
func (c *core) workWaiting() bool {
	if c.view.work == workUnknown {
		switch {
		case c.node.HasReady():
			c.view.work = workWaits
		case c.role() != c.reported:
			c.view.work = workWaits
		default:
			c.collected()
		}
	}
	return c.view.work == workWaits
}

// routine tells whether the message can only move indexes: it says that a follower goes on following its leader, or
// answers a leader, in the present term.
func (c *core) routine(m *consensus.Message) bool {
	v := c.state()
	if uint64(m.Term) != v.term {
		return false
	}
	switch m.Kind {
	case KindAppend, KindHeartbeat:
		return v.state == etcdraft.StateFollower && v.lead == uint64(m.From)
	case KindAppendResponse, KindHeartbeatResponse:
		return v.state == etcdraft.StateLeader
	}
	return false
}

// checkView: what is believed to be known is so.
func (c *core) checkView() error {
	v, s := c.view, c.node.BasicStatus()
	switch {
	case v.roleKnown && (v.term != s.GetTerm() || v.lead != s.Lead || v.state != s.RaftState || v.transferee != s.LeadTransferee):
		return c.broken("it takes itself for %s in term %d, led by %d, and is %s in term %d, led by %d", v.state, v.term, v.lead, s.RaftState, s.GetTerm(), s.Lead)
	case v.commitKnown && v.commit != s.GetCommit():
		return c.broken("it takes entry %d for the last that is committed, and %d is", v.commit, s.GetCommit())
	case v.work == workNone && (c.node.HasReady() || c.role() != c.reported):
		return c.broken("it believes that there is no work, and there is")
	}
	return nil
}
