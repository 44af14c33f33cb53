package raft

import (
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/quoratedb/quorate/consensus"
)

// A hand-over in the library's way takes up to three round trips: until the successor has acknowledged everything, for the word to it, and for its votes. Here
// the word (KindHandOver) follows the last append on the same way, and says where the log of the leader ends; the successor heeds it only if its own log ends
// there. The leader votes for the successor at once, as if that had asked in the next term with that very log, so it leads no more. Its vote
// (KindHandOverVote) leaves when it is durable, and says which log it is for. It counts only for a candidate whose log ends there: another campaign in
// that term, with a log that lacks something, must not be won by it.

// HandOver implements consensus.Core.
func (c *core) HandOver(to consensus.ReplicaID) error {
	if !c.mayHandOver(to) {
		return c.TransferLeader(to)
	}
	term, last := c.term(), c.last
	c.handed = handedOver{term: term, last: last, match: make(map[consensus.ReplicaID]consensus.Index, len(c.active.Voters))}
	c.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, p tracker.Progress) {
		c.handed.match[consensus.ReplicaID(id)] = consensus.Index(p.Match)
	})
	// It never fails: the request is from a voter, and in a later term.
	_ = c.node.Step(&raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: new(uint64(to)), To: new(uint64(c.self)), Term: new(uint64(term + 1)),
		Index: new(uint64(last)), LogTerm: new(uint64(term)), Context: []byte(transferContext),
	})
	c.touched()
	c.collectAhead()
	// This Ready says that the leadership is over, so the driver ends it before the word leaves.
	rd := &c.queue[len(c.queue)-1]
	for i := range rd.Append.AfterSync {
		if m := &rd.Append.AfterSync[i]; m.Kind == KindVoteResponse && m.To == to && m.Term == term+1 && !m.Reject {
			m.Kind, m.Index, m.LogTerm = KindHandOverVote, last, term
		}
	}
	c.handed.mark = rd.Append.Mark
	rd.Messages = append(rd.Messages, consensus.Message{From: c.self, To: to, Kind: KindHandOver, Term: term, Index: last, LogTerm: term})
	return nil
}

// mayHandOver tells whether everything that the successor needs is on its way to it, as far as is known here. It must have applied every change of
// membership, or it could not campaign.
func (c *core) mayHandOver(to consensus.ReplicaID) (may bool) {
	if c.failed() || to == c.self || !c.active.Votes(to) || c.active.Joint() || c.transferring() {
		return false
	}
	l := c.leading()
	if l == nil || l.barrier == 0 || c.applied().index < l.confIndex || l.commits[to] < l.confIndex || c.term()+1 >= maxNumber {
		return false
	}
	c.collectAhead() // what is proposed is sent before the word
	c.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, p tracker.Progress) {
		if consensus.ReplicaID(id) == to {
			may = p.State == tracker.StateReplicate && p.RecentActive && consensus.Index(p.Next) == c.last+1
		}
	})
	return may && c.isLeader()
}

// handedOver is what a replica knows of the entries of a leadership that it handed over, all in one membership. Their acknowledgements are still on the way,
// and commit an entry of that term as they would have. Who led hears so a round trip before the next leader can say it.
type handedOver struct {
	term  consensus.Term
	last  consensus.Index
	mark  consensus.Mark // of the write with which all of it is durable here
	match map[consensus.ReplicaID]consensus.Index
}

// hearLate takes an acknowledgement of what was sent in the leadership that was handed over.
func (c *core) hearLate(m *consensus.Message) {
	h := &c.handed
	if m.Reject || m.Index > h.last || c.term() != h.term+1 || c.state().state != etcdraft.StateFollower {
		return
	}
	h.match[m.From] = max(h.match[m.From], m.Index)
	if !c.acked.Less(h.mark) {
		h.match[c.self] = h.last
	}
	acknowledged := make([]consensus.Index, 0, len(c.active.Voters))
	for _, id := range c.active.Voters {
		acknowledged = append(acknowledged, h.match[id])
	}
	slices.Sort(acknowledged)
	commit := acknowledged[(len(acknowledged)-1)/2]
	if commit <= c.commit() {
		return
	}
	if term, err := c.storage.log.Term(commit); err == nil && term == h.term {
		c.hearCommit(m.From, commit)
	}
}

// isWhole tells whether the log here ends where the message says.
func (c *core) isWhole(m *consensus.Message) bool {
	c.collectAhead()
	return c.last == m.Index && c.lastTerm == m.LogTerm
}

// heed turns the messages of a hand-over into what the library knows; false: it must not hear of it.
func (c *core) heed(m *consensus.Message) bool {
	switch m.Kind {
	case KindHandOver:
		if m.Term != c.term() || !c.isWhole(m) {
			return false
		}
		m.Kind = KindTimeoutNow
	case KindHandOverVote:
		// The log of a candidate does not change, so this is what it asks for votes with.
		if m.Term != c.term() || c.state().state != etcdraft.StateCandidate || !c.isWhole(m) {
			return false
		}
		m.Kind = KindVoteResponse
	default:
		return true
	}
	m.Index, m.LogTerm = 0, 0
	return true
}
