package raft_test

import (
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/explore"
	"github.com/quoratedb/quorate/consensus/raft"
)

// twoRivals is a setting in which two replicas compete from the beginning, with a crash.
var twoRivals = explore.Setting{
	Name: "two rivals", Voters: 3, Candidates: []consensus.ReplicaID{1, 2}, Budget: explore.Budget{Campaigns: 2, Crashes: 1},
}

// handedOver is a setting in which the successor may begin on its own while the vote is on its way that is for a log it does not have yet.
var handedOver = explore.Setting{
	Name: "a vote on its way", Voters: 3, Begin: []explore.Action{explore.Campaign(1)}, Candidates: []consensus.ReplicaID{2},
	Budget: explore.Budget{HandOvers: 1, Proposals: 1, Campaigns: 1},
}

// TestExploreFindsSeededBugs: each of these is found, and every invariant is broken by one of them.
func TestExploreFindsSeededBugs(t *testing.T) {
	sameJitter(t)
	in := func(name string) explore.Setting { return explore.Find(t, name) }
	explore.RunSeeded(t, explored, []explore.Seeded{
		{Name: "a refused vote counts as granted", In: in("two elections"), Breaks: []explore.Invariant{explore.ElectionSafety, explore.VoteOnce},
			Fault: explore.Fault{Said: explore.Kind(raft.KindVoteResponse, func(_ consensus.Core, m *consensus.Message) { m.Reject = false })}},
		{Name: "a restarted replica has forgotten its vote", In: twoRivals, Breaks: []explore.Invariant{explore.VoteOnce},
			Fault: explore.Fault{Start: func(m *consensustest.Member) { m.HardState.Vote = 0 }}},
		{Name: "a disk forgets the term", In: in("new leaders with crashes"), Fault: explore.ForgetfulDisk, Breaks: []explore.Invariant{explore.PromiseKept}},
		{Name: "a disk forgets the term in the first election", In: in("one election with crashes"), Fault: explore.ForgetfulDisk, Breaks: []explore.Invariant{explore.PromiseKept}},
		{Name: "a leader overwrites its log", In: in("duplicates"), Fault: explore.OverwritingLeader, Breaks: []explore.Invariant{explore.LeaderAppendOnly}},
		{Name: "a value is damaged on its way", In: in("duplicates"), Fault: explore.DamagedValues(raft.KindAppend),
			Breaks: []explore.Invariant{explore.LogMatching, explore.OneValuePerBallot, explore.StateMachineSafety, explore.Agreement}},
		{Name: "a candidate with a short log is elected", In: in("a new leader"), Fault: explore.Fault{Heard: longLog},
			Breaks: []explore.Invariant{explore.LeaderCompleteness, explore.Agreement, explore.StateMachineSafety, explore.Durability}},
		{Name: "a vote that was handed over counts for any log", In: handedOver, Breaks: []explore.Invariant{explore.LeaderCompleteness, explore.Agreement, explore.StateMachineSafety, explore.Durability},
			Fault: explore.Fault{Heard: explore.Kind(raft.KindHandOverVote, func(_ consensus.Core, m *consensus.Message) {
				m.Kind, m.Index, m.LogTerm = raft.KindVoteResponse, 0, 0
			})}},
		{Name: "answers leave before the sync", In: in("one proposal with crashes"), Fault: explore.Fault{Early: true},
			Breaks: []explore.Invariant{explore.SyncBeforeSpeech, explore.Durability}},
		{Name: "a refused append counts as an acknowledgement", In: in("catching up by snapshot"),
			Fault: explore.Fault{Heard: explore.Kind(raft.KindAppendResponse, func(core consensus.Core, m *consensus.Message) {
				m.Reject, m.Index, m.Hint = false, core.Status().Last, 0
			})}, Breaks: []explore.Invariant{explore.Durability}},
		{Name: "a learner's acknowledgement counts as a voter's", In: withLearner, Breaks: []explore.Invariant{explore.Durability},
			Fault: explore.Fault{Heard: explore.Kind(raft.KindAppendResponse, func(core consensus.Core, m *consensus.Message) {
				if m.From == 4 && m.Index > core.Status().Commit {
					m.From = 3
				}
			})}},
		{Name: "a read is answered without asking anybody", In: in("reads"), Fault: explore.Fault{Credulous: true}, Breaks: []explore.Invariant{explore.ReadsAreFresh}},
		{Name: "a second change before the first is applied", In: in("a voter is replaced"), Fault: explore.Fault{Work: hastyChange},
			Breaks: []explore.Invariant{explore.OneConfigPending}},
		{Name: "the joint membership is skipped", In: in("a voter is replaced"), Fault: explore.Fault{Work: notJoint}, Breaks: []explore.Invariant{explore.QuorumsOverlap}},
		{Name: "the log is trimmed at once", In: in("one proposal with crashes"), Fault: explore.GreedyDisk, Breaks: []explore.Invariant{explore.TrimmedIsDecided}},
		{Name: "a snapshot claims to reach further", In: in("catching up by snapshot"), Fault: explore.BoastfulSnapshot, Breaks: []explore.Invariant{explore.SnapshotContent}},
		{Name: "marks repeat", In: in("one election with crashes"), Fault: explore.RepeatedMarks, Breaks: []explore.Invariant{explore.CoreCheck}},
	})
}

// withLearner is a setting in which replica 4 has no vote.
var withLearner = explore.Setting{
	Name: "a learner", Voters: 3, Joiners: 1, HoldSync: true,
	Begin:  []explore.Action{explore.Campaign(1), explore.Change(1, consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}, Learners: []consensus.ReplicaID{4}}), explore.Tick(1), explore.Tick(1)},
	Budget: explore.Budget{Proposals: 1},
}

// longLog makes every candidate look as if it had the longest log.
func longLog(_ consensus.Core, m *consensus.Message) {
	if m.Kind == raft.KindVote || m.Kind == raft.KindPreVote {
		m.LogTerm, m.Index = m.Term, 1<<40
	}
}

// hastyChange writes a leader's proposals down as changes of membership.
func hastyChange(core consensus.Core, rd *consensus.Ready) {
	if core.Status().Role != consensus.RoleLeader {
		return
	}
	rd.Append.Entries = slices.Clone(rd.Append.Entries)
	for i := range rd.Append.Entries {
		if e := &rd.Append.Entries[i]; e.Kind == consensus.EntryCommand {
			e.Kind, e.Data = consensus.EntryConfig, consensus.AppendConfig(nil, core.Status().Config)
		}
	}
}

// notJoint applies changes of membership in one step.
func notJoint(_ consensus.Core, rd *consensus.Ready) {
	for i := range rd.Committed {
		e := &rd.Committed[i]
		if target, err := consensus.DecodeConfig(e.Data); e.Kind == consensus.EntryConfig && err == nil {
			target.Outgoing = nil
			e.Data = consensus.AppendConfig(nil, target)
		}
	}
}
