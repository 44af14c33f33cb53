package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/packed"
)

// What the API has to know of the cluster before and after a change of its members.

const (
	// settledPoll and settledPollMax are how often the shards here are looked at while somebody waits for them to follow.
	settledPoll, settledPollMax = 10 * time.Millisecond, 200 * time.Millisecond
	// syncPatience is how long a learner may take to have what is committed now, until it counts as behind, and syncAnswer how long its answer.
	syncPatience, syncAnswer = 2 * time.Second, time.Second
)

// follower implements etcd.Follower.
type follower struct{ s *Server }

// Fixed implements etcd.Follower.
func (f follower) Fixed() error {
	s := f.s
	if s.options.Cluster.Quorums != (Quorums{}) {
		return fmt.Errorf("the cluster was created with quorums of its own (%s, %s): its members cannot be changed", flagPhase1, flagPhase2)
	}
	for _, m := range s.roster.newest().Members {
		if c, connected := s.roster.connection(m.ID); connected && c.format < driver.FormatMembers {
			return fmt.Errorf("node %s (%q) runs a version that does not know of changes of the members: upgrade it first", m.ID, m.Name)
		}
	}
	return nil
}

// Settled implements etcd.Follower. What a replica here has applied says whether its group follows; that of this node may come later than the others', or, if
// the node itself is removed, not at all: then it is enough that the group does without it.
func (f follower) Settled(ctx context.Context, version uint64) error {
	left := f.s.options.Cluster.groups()
	for pause := settledPoll; ; pause = min(2*pause, settledPollMax) {
		if f.s.outside.Load() {
			return nil
		}
		var err error
		if left, err = f.s.unsettled(ctx, version, left); err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.context.Done():
			return kv.ErrStopped
		case <-time.After(pause):
		}
	}
}

// unsettled returns those of the groups that do not follow the list yet.
func (s *Server) unsettled(ctx context.Context, version uint64, groups []consensus.GroupID) ([]consensus.GroupID, error) {
	answer := make(chan []consensus.GroupID, 1)
	s.driver.Unsettled(version, groups, func(left []consensus.GroupID) { answer <- left })
	select {
	case left := <-answer:
		return left, nil
	case <-ctx.Done():
		return groups, ctx.Err()
	case <-s.context.Done():
		return groups, kv.ErrStopped
	}
}

// Connected implements etcd.Follower.
func (f follower) Connected(node kv.NodeID) time.Time {
	if node == f.s.options.NodeID() {
		return f.s.began
	}
	c, _ := f.s.roster.connection(node)
	return c.since
}

// InSync implements etcd.Follower: the node has applied in every shard what is known to be committed here.
func (f follower) InSync(ctx context.Context, node kv.NodeID) (bool, error) {
	s := f.s
	want := map[kv.ShardID]uint64{}
	for _, r := range s.replicas() {
		want[r.Shard()] = r.Committed()
	}
	deadline := time.Now().Add(syncPatience)
	for {
		applied, err := s.askApplied(ctx, node)
		if err != nil {
			return false, err
		}
		behind := members.Behind(want, applied)
		if !behind || time.Now().After(deadline) {
			return !behind, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(5 * settledPoll):
		}
	}
}

// askApplied asks a node how far it has applied, by shard. One that does not answer in time has applied nothing.
func (s *Server) askApplied(ctx context.Context, node kv.NodeID) (map[kv.ShardID]uint64, error) {
	if node == s.options.NodeID() {
		return s.appliedHere(), nil
	}
	id, answer := s.waiting.begin(node)
	defer s.waiting.end(id)
	s.sendMembers(node, membersMessage{kind: membersQuestion, instance: s.instance, id: id})
	select {
	case m := <-answer:
		return m.applied, nil
	case <-time.After(syncAnswer):
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.context.Done():
		return nil, kv.ErrStopped
	}
}

func (s *Server) appliedHere() map[kv.ShardID]uint64 {
	applied := map[kv.ShardID]uint64{}
	for _, r := range s.replicas() {
		applied[r.Shard()] = r.Applied()
	}
	return applied
}

func (s *Server) answerMembers(q membersMessage) membersMessage {
	return membersMessage{kind: membersAnswer, instance: q.instance, id: q.id, applied: s.appliedHere()}
}

// questions are those about learners that wait for their answer. The zero value is ready.
type questions struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]question
}

type question struct {
	to     kv.NodeID
	answer chan membersMessage // has room for the answer
}

func (q *questions) begin(to kv.NodeID) (id uint64, answer chan membersMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[uint64]question{}
	}
	q.last++
	answer = make(chan membersMessage, 1)
	q.open[q.last] = question{to, answer}
	return q.last, answer
}

func (q *questions) end(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, id)
}

func (q *questions) answered(from kv.NodeID, m membersMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if asked, open := q.open[m.id]; open && asked.to == from {
		delete(q.open, m.id)
		asked.answer <- m
	}
}

// membersMessage is one on channelMembers. It begins with its kind (1 byte):
//
//	1 version   version of the newest list that the sender has (uvarint)
//	2 question  instance of the process that asks (8 bytes, little endian), id (uvarint)
//	3 answer    the same, and by shard, ascending: number (uvarint), index that the sender has applied (uvarint)
type membersMessage struct {
	kind     byte
	version  uint64
	instance uint64
	id       uint64
	applied  map[kv.ShardID]uint64
}

const (
	membersVersion  byte = 1
	membersQuestion byte = 2
	membersAnswer   byte = 3
)

func (m membersMessage) append(dst []byte) []byte {
	dst = append(dst, m.kind)
	if m.kind == membersVersion {
		return binary.AppendUvarint(dst, m.version)
	}
	dst = binary.AppendUvarint(binary.LittleEndian.AppendUint64(dst, m.instance), m.id)
	shards := make([]kv.ShardID, 0, len(m.applied))
	for shard := range m.applied { // sorted below
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	for _, shard := range shards {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(shard)), m.applied[shard])
	}
	return dst
}

var errMembersMessage = errors.New("malformed message about the list of members from another node")

func decodeMembersMessage(in []byte) (m membersMessage, err error) {
	r := packed.NewReader(in)
	switch m.kind = r.Byte(); m.kind {
	case membersVersion:
		m.version = r.Uvarint()
	case membersQuestion:
		m.instance, m.id = r.Fixed64(), r.Uvarint()
	case membersAnswer:
		m.instance, m.id, m.applied = r.Fixed64(), r.Uvarint(), map[kv.ShardID]uint64{}
		for r.More() {
			shard := kv.ShardID(r.Uvarint())
			m.applied[shard] = r.Uvarint()
		}
	default:
		r.Fail()
	}
	if !r.Done() {
		return membersMessage{}, errMembersMessage
	}
	return m, nil
}
