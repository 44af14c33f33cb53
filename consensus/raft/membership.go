package raft

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// In the log, a config entry holds the voters and learners to arrive at (consensus.AppendConfig),
// or nothing: then it leaves the joint membership that the entry before it entered. What it does
// follows from that and from the membership in force before it, which is the same on every
// replica; so an entry that cannot be carried out changes nothing, everywhere.

// change is a committed config entry: the membership after it, and the steps that lead the library there.
type change struct {
	index  consensus.Index
	config consensus.Config
	steps  []*raftpb.ConfChangeV2
}

// planChange works out what the entry does to the membership.
func planChange(current consensus.Config, e consensus.Entry) change {
	unchanged := change{index: e.Index, config: current}
	if len(e.Data) == 0 {
		if !current.Joint() {
			return unchanged
		}
		after := consensus.Config{Voters: current.Voters, Learners: current.Learners}
		return change{index: e.Index, config: after, steps: []*raftpb.ConfChangeV2{{}}}
	}
	target, err := consensus.DecodeConfig(e.Data)
	if err != nil || validTarget(target) != nil || current.Joint() || current.Empty() || target.Equal(current) {
		return unchanged
	}
	changes := difference(current, target)
	if votersChanged(current, target) > 1 {
		after := consensus.Config{Voters: target.Voters, Learners: target.Learners, Outgoing: current.Voters}
		joint := &raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransitionJointImplicit.Enum(), Changes: changes}
		return change{index: e.Index, config: after, steps: []*raftpb.ConfChangeV2{joint}}
	}
	// With at most one voter changed, any old majority meets any new one: no joint membership is needed.
	planned := change{index: e.Index, config: target}
	for _, single := range changes {
		planned.steps = append(planned.steps, &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{single}})
	}
	return planned
}

func validTarget(target consensus.Config) error {
	if target.Joint() {
		return fmt.Errorf("%w: a change names voters and learners only", consensus.ErrInvalidConfig)
	}
	return target.Validate()
}

// difference lists the changes from current to target: additions, then removals, so that there is
// a voter at any time.
func difference(current, target consensus.Config) (changes []*raftpb.ConfChangeSingle) {
	add := func(t raftpb.ConfChangeType, id consensus.ReplicaID) {
		changes = append(changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: new(uint64(id))})
	}
	for _, id := range target.Voters {
		if !slices.Contains(current.Voters, id) {
			add(raftpb.ConfChangeAddNode, id)
		}
	}
	for _, id := range target.Learners {
		if !slices.Contains(current.Learners, id) {
			add(raftpb.ConfChangeAddLearnerNode, id)
		}
	}
	for _, id := range current.Members() {
		if !target.Contains(id) {
			add(raftpb.ConfChangeRemoveNode, id)
		}
	}
	return changes
}

func votersChanged(a, b consensus.Config) (n int) {
	for _, id := range a.Voters {
		if !slices.Contains(b.Voters, id) {
			n++
		}
	}
	for _, id := range b.Voters {
		if !slices.Contains(a.Voters, id) {
			n++
		}
	}
	return n
}

// plannedConfig is the membership after every entry handed out so far.
func (c *core) plannedConfig() consensus.Config {
	if n := len(c.changes); n > 0 {
		return c.changes[n-1].config
	}
	return c.active
}

// applyChange makes the membership of a config entry the one in force. The applied position is
// there already, so that a snapshot offered in between has both.
func (c *core) applyChange(next *change) {
	c.applied().config, c.active = next.config, next.config
	for i, step := range next.steps {
		got := fromConfState(c.node.ApplyConfChange(step))
		c.touched()
		if i == len(next.steps)-1 && !got.Equal(next.config) {
			c.storage.fail(fmt.Errorf("the entry %d should have led to %s but led to %s", next.index, next.config, got))
		}
	}
	// A leader that has become its only voter hears no more answers to what it asked before.
	if c.singleton() {
		c.failReads()
	}
}

// ProposeConfig implements consensus.Core.
func (c *core) ProposeConfig(target consensus.Config) error {
	if err := c.mayPropose(); err != nil {
		return err
	}
	if err := validTarget(target); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidProposal, err)
	}
	l := c.leading()
	if l == nil {
		return consensus.ErrNotLeader
	}
	c.collectAhead() // so that last is where the log really ends, and every config entry is known
	applied := c.applied().index
	switch {
	case l.barrier == 0 || applied < l.barrier:
		return consensus.ErrNotReady
	case l.confIndex > applied || c.active.Joint():
		return consensus.ErrConfigPending
	}
	data := wrapChange(consensus.AppendConfig(nil, target))
	if err := c.stepProposal([]*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}}); err != nil {
		return err
	}
	l.confIndex = c.last + 1
	return nil
}

// leaveJoint proposes to leave a joint membership if the library could not when it was entered,
// because leadership was being transferred at that moment: it would try again only with the next entry.
func (c *core) leaveJoint() {
	if !c.active.Joint() || c.mayPropose() != nil {
		return
	}
	l := c.leading()
	if l == nil {
		return
	}
	c.collectAhead()
	if l.barrier == 0 || c.applied().index < l.barrier || l.confIndex > c.applied().index || c.installing {
		return
	}
	if c.stepProposal([]*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum()}}) == nil {
		l.confIndex = c.last + 1
	}
}
