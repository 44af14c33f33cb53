package paxos_test

import (
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/explore"
	"github.com/quoratedb/quorate/consensus/paxos"
)

// TestExploreFindsSeededBugs: each of these is found, and every invariant is broken by one of them.
func TestExploreFindsSeededBugs(t *testing.T) {
	in := func(name string) explore.Setting { return explore.Find(t, name) }
	inside := func(f func(consensus.Core)) explore.Fault {
		return explore.Fault{Heard: func(core consensus.Core, _ *consensus.Message) { f(core) }}
	}
	rivals := synod(explore.Budget{Campaigns: 2, Proposals: 1})
	rivals.HoldSync = false
	explore.RunSeeded(t, explored(0, 0), []explore.Seeded{
		{Name: "a leader leads again under its ballot after a crash", In: comeback, Fault: explore.ForgetfulDisk, Breaks: []explore.Invariant{explore.ElectionSafety}},
		{Name: "a promise goes to two", In: in("one election"), Fault: explore.Fault{Work: promiseTwo}, Breaks: []explore.Invariant{explore.VoteOnce}},
		{Name: "a disk forgets the promise", In: in("one election with crashes"), Fault: explore.ForgetfulDisk, Breaks: []explore.Invariant{explore.PromiseKept}},
		{Name: "an acceptor forgets its promise", In: rivals, Fault: inside(paxos.ForgetPromise), Breaks: []explore.Invariant{explore.ChosenIsStable}},
		{Name: "a leader overwrites its log", In: in("duplicates"), Fault: explore.OverwritingLeader, Breaks: []explore.Invariant{explore.LeaderAppendOnly}},
		{Name: "a value is damaged on its way", In: in("duplicates"), Fault: explore.DamagedValues(paxos.KindAccept),
			Breaks: []explore.Invariant{explore.OneValuePerBallot, explore.StateMachineSafety, explore.Agreement}},
		{Name: "a promise leaves out what was accepted", In: in("a new leader"),
			Fault:  explore.Fault{Said: explore.Kind(paxos.KindPromise, func(_ consensus.Core, m *consensus.Message) { m.Entries, m.Commit = nil, 0 })},
			Breaks: []explore.Invariant{explore.ChosenIsStable, explore.Agreement, explore.StateMachineSafety}},
		{Name: "no promise is needed but the own", In: in("a new leader"), Fault: explore.Fault{Make: func(core consensus.Core) { paxos.BreakQuorums(core, 1, 2) }},
			Breaks: []explore.Invariant{explore.ChosenIsStable}},
		{Name: "one acceptance decides", In: in("one proposal with crashes"), Fault: explore.Fault{Make: func(core consensus.Core) { paxos.BreakQuorums(core, 3, 1) }},
			Breaks: []explore.Invariant{explore.Durability}},
		{Name: "a refusal counts as an acceptance", In: in("a new leader"),
			Fault: explore.Fault{Said: explore.Kind(paxos.KindAccepted, func(_ consensus.Core, m *consensus.Message) {
				if m.Reject {
					m.Reject, m.Index, m.Hint = false, 3, 3
				}
			})}, Breaks: []explore.Invariant{explore.Durability}},
		{Name: "an acknowledgement claims one slot too many", In: in("one proposal with crashes"),
			Fault:  explore.Fault{Said: explore.Kind(paxos.KindAccepted, func(_ consensus.Core, m *consensus.Message) { m.Index, m.Hint = m.Index+1, m.Hint+1 })},
			Breaks: []explore.Invariant{explore.SyncBeforeSpeech}},
		{Name: "answers leave before the sync", In: in("one proposal with crashes"), Fault: explore.Fault{Early: true},
			Breaks: []explore.Invariant{explore.SyncBeforeSpeech, explore.Durability}},
		{Name: "a write counts before it is durable", In: in("one proposal with crashes"), Fault: inside(paxos.CountUnsynced), Breaks: []explore.Invariant{explore.Durability}},
		{Name: "the decided mark is one too far", In: in("one proposal with crashes"),
			Fault:  explore.Fault{Said: explore.Kind(paxos.KindAccept, func(_ consensus.Core, m *consensus.Message) { m.Commit = m.Entries[len(m.Entries)-1].Index })},
			Breaks: []explore.Invariant{explore.Durability}},
		{Name: "a read is answered without asking anybody", In: in("reads"), Fault: explore.Fault{Credulous: true}, Breaks: []explore.Invariant{explore.ReadsAreFresh}},
		{Name: "something is proposed beyond an unfinished change", In: in("a voter is replaced"), Fault: explore.Fault{Work: beyondChange},
			Breaks: []explore.Invariant{explore.OneConfigPending}},
		{Name: "the log is trimmed at once", In: in("one proposal with crashes"), Fault: explore.GreedyDisk, Breaks: []explore.Invariant{explore.TrimmedIsDecided}},
		{Name: "a snapshot claims to reach further", In: in("catching up by snapshot"), Fault: explore.BoastfulSnapshot, Breaks: []explore.Invariant{explore.SnapshotContent}},
		{Name: "marks repeat", In: in("one election with crashes"), Fault: explore.RepeatedMarks, Breaks: []explore.Invariant{explore.CoreCheck}},
		{Name: "a ballot is used twice", In: in("two elections"), Fault: inside(paxos.ForgetBallots), Breaks: []explore.Invariant{explore.CoreCheck}},
	})
}

// comeback is a setting in which a new leader crashes and campaigns again.
var comeback = explore.Setting{
	Name: "a leader comes back", Voters: 3, HoldSync: true, Candidates: []consensus.ReplicaID{1}, Budget: explore.Budget{Campaigns: 2, Crashes: 1},
	Lost: []consensus.MessageKind{paxos.KindHeartbeat, paxos.KindHeartbeatResponse},
}

// promiseTwo sends each promise to another replica too.
func promiseTwo(_ consensus.Core, rd *consensus.Ready) {
	for _, m := range rd.Append.AfterSync {
		if m.Kind == paxos.KindPromise {
			m.To = 6 - m.From - m.To
			rd.Append.AfterSync = append(rd.Append.AfterSync, m)
		}
	}
}

// beyondChange lets a leader propose a value beyond a change of membership.
func beyondChange(core consensus.Core, rd *consensus.Ready) {
	status := core.Status()
	if n := len(rd.Append.Entries); n > 0 && status.Role == consensus.RoleLeader && rd.Append.Entries[n-1].Kind == consensus.EntryConfig {
		next := consensus.Entry{Index: rd.Append.Entries[n-1].Index + 1, Term: status.Term, Data: []byte("too early")}
		rd.Append.Entries = append(rd.Append.Entries[:n:n], next)
	}
}
