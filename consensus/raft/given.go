package raft

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// What the library is given is a tree of protobuf messages, in which every number is behind a pointer. Here they are put together without an
// allocation each, and where the library keeps nothing of a message, the same one serves again.

// messageBox holds a message of the library together with everything it points to: one allocation.
type messageBox struct {
	message                                            raftpb.Message
	kind                                               raftpb.MessageType
	to, from, term, logTerm, index, commit, vote, hint uint64
	reject                                             bool
	context                                            [8]byte
}

// point lets the message point to the fields of the box. It is done once.
func (box *messageBox) point() {
	pb := &box.message
	pb.Type, pb.To, pb.From, pb.Term = &box.kind, &box.to, &box.from, &box.term
	pb.LogTerm, pb.Index, pb.Commit, pb.Vote = &box.logTerm, &box.index, &box.commit, &box.vote
	pb.RejectHint, pb.Reject = &box.hint, &box.reject
}

// spoil makes the message one that nobody would take. If the library kept any of it after all, in a later version perhaps, then every
// test would see messages to and from nobody, instead of now and then a wrong number.
func (c *core) spoil() {
	box := &c.given
	box.message.Entries, box.message.Context = nil, nil
	box.kind, box.to, box.from, box.term, box.logTerm = raftpb.MsgHup, spoilt, spoilt, spoilt, spoilt
	box.index, box.commit, box.vote, box.hint, box.reject = spoilt, spoilt, spoilt, spoilt, true
}

// spoilt is beyond every number that Step takes.
const spoilt = 1<<63 + 1

// library makes a message of the kinds that this replica gives its own library: proposals, and news of what is applied.
// It is for one step.
func (c *core) library(kind raftpb.MessageType, from consensus.ReplicaID, entries []*raftpb.Entry) *raftpb.Message {
	box := &c.given
	pb := &box.message
	pb.From = &box.from
	box.kind, box.from, box.to, box.term = kind, uint64(from), uint64(c.self), 0
	box.logTerm, box.index, box.commit, box.vote, box.hint, box.reject = 0, 0, 0, 0, 0, false
	pb.Entries = entries
	return pb
}

// proposals makes entries of the data. They are for one step: the library works with copies.
func (c *core) proposals(data [][]byte) []*raftpb.Entry {
	for len(c.proposed) < len(data) {
		c.proposed = append(c.proposed, &raftpb.Entry{})
	}
	entries := c.proposed[:len(data)]
	for i, e := range entries {
		e.Data = data[i]
	}
	return entries
}

// clearData lets the data of proposals go.
func clearData(entries []*raftpb.Entry) {
	for _, e := range entries {
		e.Data = nil
	}
}

// maxSenders bounds how many pointers sender keeps: more than a group has members.
const maxSenders = 64

// sender returns a pointer to the number that nobody ever changes: the library puts it into its answer.
func (c *core) sender(id consensus.ReplicaID) *uint64 {
	for _, p := range c.senders {
		if *p == uint64(id) {
			return p
		}
	}
	if len(c.senders) == maxSenders {
		c.senders = nil
	}
	p := new(uint64(id))
	c.senders = append(c.senders, p)
	return p
}
