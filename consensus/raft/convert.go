package raft

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/quoratedb/quorate/consensus"
)

// The kinds of messages. They are on the wire: add, never renumber. docs/protocols/raft.md is their table.
const (
	KindAppend            consensus.MessageKind = 1
	KindAppendResponse    consensus.MessageKind = 2
	KindVote              consensus.MessageKind = 3
	KindVoteResponse      consensus.MessageKind = 4
	KindPreVote           consensus.MessageKind = 5
	KindPreVoteResponse   consensus.MessageKind = 6
	KindHeartbeat         consensus.MessageKind = 7
	KindHeartbeatResponse consensus.MessageKind = 8
	KindSnapshot          consensus.MessageKind = 9
	KindTimeoutNow        consensus.MessageKind = 10
	KindHandOver          consensus.MessageKind = 11
	KindHandOverVote      consensus.MessageKind = 12
)

// kinds maps a Kind to the library's type. Those of a hand-over have none; see handover.go.
var kinds = [...]raftpb.MessageType{
	KindAppend:            raftpb.MsgApp,
	KindAppendResponse:    raftpb.MsgAppResp,
	KindVote:              raftpb.MsgVote,
	KindVoteResponse:      raftpb.MsgVoteResp,
	KindPreVote:           raftpb.MsgPreVote,
	KindPreVoteResponse:   raftpb.MsgPreVoteResp,
	KindHeartbeat:         raftpb.MsgHeartbeat,
	KindHeartbeatResponse: raftpb.MsgHeartbeatResp,
	KindSnapshot:          raftpb.MsgSnap,
	KindTimeoutNow:        raftpb.MsgTimeoutNow,
}

// kindOf returns the Kind of a library type, 0 if it has none.
func kindOf(t raftpb.MessageType) consensus.MessageKind {
	for kind := KindAppend; int(kind) < len(kinds); kind++ {
		if kinds[kind] == t {
			return kind
		}
	}
	return 0
}

// transferContext is what the library puts into votes on behalf of a transfer; the wire says transferMarker.
const (
	transferContext        = "CampaignTransfer"
	transferMarker  uint64 = 1
)

// classOf is what the driver must know of a message.
func classOf(kind consensus.MessageKind, context uint64) consensus.Class {
	switch {
	case kind == KindVote && context == transferMarker:
		return consensus.ClassForced
	case kind == KindVote || kind == KindPreVote:
		return consensus.ClassElection
	case kind == KindSnapshot:
		return consensus.ClassSnapshot
	}
	return consensus.ClassNormal
}

// toMessage converts a message that Step has validated. Of appends and of answers the library keeps nothing but the entries and,
// in its own answer, the pointer to the sender's number: these are converted in one place, again and again, with a pointer that stays.
func (c *core) toMessage(m *consensus.Message) *raftpb.Message {
	box, kept := &c.given, true
	switch m.Kind {
	case KindAppend, KindAppendResponse, KindHeartbeatResponse:
		kept = false
	default:
		box = &messageBox{}
		box.point()
	}
	pb := &box.message
	box.kind, box.to, box.term, box.logTerm = kinds[m.Kind], uint64(m.To), uint64(m.Term), uint64(m.LogTerm)
	box.index, box.commit, box.vote, box.hint, box.reject = uint64(m.Index), uint64(m.Commit), uint64(m.Vote), uint64(m.Hint), m.Reject
	if kept {
		box.from = uint64(m.From)
	} else {
		pb.From = c.sender(m.From)
	}
	pb.Entries = toEntries(m.Entries)
	if m.Snapshot != nil {
		pb.Snapshot = toSnapshot(m.Snapshot)
	}
	switch {
	case m.Context == 0:
	case m.Kind == KindVote:
		pb.Context = []byte(transferContext)
	default:
		binary.LittleEndian.PutUint64(box.context[:], m.Context)
		pb.Context = box.context[:]
	}
	return pb
}

// fromMessage converts a message that the library wants to send. commit is this replica's commit
// index; responses carry it, so that a leader knows who knows what (Status.Quiet).
func (c *core) fromMessage(pb *raftpb.Message) consensus.Message {
	m := consensus.Message{
		From: consensus.ReplicaID(pb.GetFrom()), To: consensus.ReplicaID(pb.GetTo()), Kind: kindOf(pb.GetType()),
		Reject: pb.GetReject(), Term: consensus.Term(pb.GetTerm()), LogTerm: consensus.Term(pb.GetLogTerm()),
		Index: consensus.Index(pb.GetIndex()), Commit: consensus.Index(pb.GetCommit()),
		Hint: consensus.Index(pb.GetRejectHint()), Entries: c.fromEntries(pb.GetEntries()),
	}
	if m.Kind == KindAppendResponse || m.Kind == KindHeartbeatResponse {
		m.Commit = c.hard.Commit
	}
	if m.Reject && (m.Kind == KindVoteResponse || m.Kind == KindPreVoteResponse) {
		c.tellCommit(&m)
	}
	if pb.Snapshot != nil {
		m.Snapshot = fromSnapshot(pb.Snapshot)
	}
	switch context := pb.GetContext(); {
	case len(context) == 8:
		m.Context = binary.LittleEndian.Uint64(context)
	case len(context) == len(transferContext):
		m.Context = transferMarker
	}
	m.Class = classOf(m.Kind, m.Context)
	m.News = m.Kind == KindAppend
	m.Notice = m.News && len(m.Entries) == 0
	return m
}

// entryBox holds an entry of the library together with everything it points to.
type entryBox struct {
	entry       raftpb.Entry
	kind        raftpb.EntryType
	term, index uint64
}

// fill puts an entry into the box and returns it in the library's form. The data is shared.
func (box *entryBox) fill(e *consensus.Entry) *raftpb.Entry {
	box.term, box.index = uint64(e.Term), uint64(e.Index)
	box.entry.Type, box.entry.Term, box.entry.Index = &box.kind, &box.term, &box.index
	box.entry.Data = e.Data
	if e.Kind == consensus.EntryConfig {
		box.kind = raftpb.EntryConfChangeV2
		box.entry.Data = wrapChange(e.Data)
	}
	return &box.entry
}

// toEntries converts entries: one allocation for one entry, two for any other number. The library keeps the result.
func toEntries(entries []consensus.Entry) []*raftpb.Entry {
	switch len(entries) {
	case 0:
		return nil
	case 1:
		var single struct {
			box     entryBox
			pointer [1]*raftpb.Entry
		}
		single.pointer[0] = single.box.fill(&entries[0])
		return single.pointer[:]
	}
	boxes := make([]entryBox, len(entries))
	pointers := make([]*raftpb.Entry, len(entries))
	for i := range entries {
		pointers[i] = boxes[i].fill(&entries[i])
	}
	return pointers
}

// fromEntries converts entries. Mostly they are recent ones: a leader sends the same to every follower, and every
// replica applies what it wrote.
func (c *core) fromEntries(pb []*raftpb.Entry) []consensus.Entry {
	if len(pb) == 0 {
		return nil
	}
	if entries, ok := c.recent.converted(pb); ok {
		return entries
	}
	entries := make([]consensus.Entry, len(pb))
	for i, e := range pb {
		entries[i] = fromEntry(e)
	}
	return entries
}

func fromEntry(pb *raftpb.Entry) consensus.Entry {
	e := consensus.Entry{Index: consensus.Index(pb.GetIndex()), Term: consensus.Term(pb.GetTerm()), Data: pb.GetData()}
	switch {
	case pb.GetType() == raftpb.EntryConfChangeV2:
		e.Kind, e.Data = consensus.EntryConfig, unwrapChange(e.Data)
	case len(e.Data) == 0:
		e.Kind, e.Data = consensus.EntryBarrier, nil
	}
	return e
}

// wrapChange puts the data of a config entry into the form in which the library keeps it: a change whose
// context is our data. The library looks only at whether there is a change at all (none means
// "leave the joint membership"), so there is one of nobody.
func wrapChange(data []byte) []byte {
	if len(data) == 0 {
		return nil
	}
	wrapped, err := proto.Marshal(&raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{}}, Context: data})
	if err != nil {
		panic(fmt.Sprintf("raft: encoding a membership change: %v", err)) // cannot happen: no field can fail
	}
	return wrapped
}

// unwrapChange is the inverse of wrapChange; the data was made by wrapChange on this replica.
func unwrapChange(wrapped []byte) []byte {
	if len(wrapped) == 0 {
		return nil
	}
	var change raftpb.ConfChangeV2
	if err := proto.Unmarshal(wrapped, &change); err != nil {
		panic(fmt.Sprintf("raft: decoding a membership change of this replica's own making: %v", err))
	}
	return change.Context
}

func toHardState(h consensus.HardState) *raftpb.HardState {
	return &raftpb.HardState{Term: new(uint64(h.Term)), Vote: new(uint64(h.Vote)), Commit: new(uint64(h.Commit))}
}

func fromHardState(pb *raftpb.HardState) consensus.HardState {
	return consensus.HardState{Term: consensus.Term(pb.GetTerm()), Vote: consensus.ReplicaID(pb.GetVote()), Commit: consensus.Index(pb.GetCommit())}
}

func toSnapshot(s *consensus.SnapshotMeta) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(s.Index)), Term: new(uint64(s.Term)), ConfState: toConfState(s.Config),
	}}
}

func fromSnapshot(pb *raftpb.Snapshot) *consensus.SnapshotMeta {
	meta := pb.GetMetadata()
	return &consensus.SnapshotMeta{
		Index: consensus.Index(meta.GetIndex()), Term: consensus.Term(meta.GetTerm()), Config: fromConfState(meta.GetConfState()),
	}
}

// toConfState converts a config. Learners that are still outgoing voters are what the library calls
// next learners, and every joint config of ours is left automatically.
func toConfState(c consensus.Config) *raftpb.ConfState {
	cs := &raftpb.ConfState{Voters: toIDs(c.Voters), VotersOutgoing: toIDs(c.Outgoing), AutoLeave: new(c.Joint())}
	for _, id := range c.Learners {
		if slices.Contains(c.Outgoing, id) {
			cs.LearnersNext = append(cs.LearnersNext, uint64(id))
		} else {
			cs.Learners = append(cs.Learners, uint64(id))
		}
	}
	return cs
}

func fromConfState(cs *raftpb.ConfState) consensus.Config {
	return consensus.Config{
		Voters:   fromIDs(cs.GetVoters()),
		Learners: fromIDs(slices.Concat(cs.GetLearners(), cs.GetLearnersNext())),
		Outgoing: fromIDs(cs.GetVotersOutgoing()),
	}
}

func toIDs(ids []consensus.ReplicaID) []uint64 {
	var out []uint64
	for _, id := range ids {
		out = append(out, uint64(id))
	}
	return out
}

func fromIDs(ids []uint64) []consensus.ReplicaID {
	var out []consensus.ReplicaID
	for _, id := range ids {
		out = append(out, consensus.ReplicaID(id))
	}
	slices.Sort(out)
	return out
}
