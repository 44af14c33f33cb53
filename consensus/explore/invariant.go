package explore

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/statespace"
)

// Invariant names something that must hold in every state. Raft is Ongaro and Ousterhout, "In Search of an Understandable Consensus
// Algorithm" (extended version, figure 3 and the sections named); Paxos is Lamport, "Paxos Made Simple" (PMS), and van Renesse and
// Altinbuken, "Paxos Made Moderately Complex" (PMMC).
type Invariant = statespace.Invariant

// The invariants.
const (
	// ElectionSafety: at most one replica, and in one life only, leads in a term (Raft §5.2; a PMMC §2.3 ballot has one leader).
	ElectionSafety Invariant = "election safety"
	// VoteOnce: a replica grants its vote for a term to one candidate (Raft §5.2; PMS §2.2, P1a: a promise goes to the ballot's owner).
	VoteOnce Invariant = "one vote per term"
	// PromiseKept: the durable term never falls, and nothing is accepted under a ballot below the durable promise (PMS §2.2, P1a; Raft §5.1).
	PromiseKept Invariant = "promises are kept"
	// LeaderAppendOnly: a leader neither overwrites nor deletes entries of its log (Raft §5.3); in Paxos: it proposes one
	// value for a slot (PMMC §2.3, invariant C1).
	LeaderAppendOnly Invariant = "leader append-only"
	// LogMatching: two logs that agree on the term at an index agree on everything before (Raft §5.3).
	LogMatching Invariant = "log matching"
	// OneValuePerBallot: for a slot and a ballot there is one value in all the world (PMMC §2.3, A4).
	OneValuePerBallot Invariant = "one value per slot and ballot"
	// LeaderCompleteness: a leader's log holds everything committed in earlier terms (Raft §5.4.3).
	LeaderCompleteness Invariant = "leader completeness"
	// Agreement: what a quorum has accepted is chosen, and for a slot no other value is ever chosen (PMS §2.1).
	Agreement Invariant = "agreement"
	// ChosenIsStable: under a ballot above one that chose a value, only that value is proposed and accepted (PMS §2.2, P2b and P2c).
	ChosenIsStable Invariant = "a chosen value is stable"
	// StateMachineSafety: two replicas never apply different entries at an index, nor out of order (Raft §5.4.3; PMMC R1).
	StateMachineSafety Invariant = "state machine safety"
	// Durability: what any replica knows to be committed is on the disks of a quorum (Raft §5.3, §5.4.2; PMS §2.3).
	Durability Invariant = "committed entries are on a quorum of disks"
	// SyncBeforeSpeech: votes, promises and acknowledgements leave only when they are on the disk (Raft §5, figure 2; PMS §2.5).
	SyncBeforeSpeech Invariant = "answers leave after the sync"
	// ReadsAreFresh: a barrier is answered at or beyond everything known to be committed when it was asked for (Raft §8).
	ReadsAreFresh Invariant = "reads are fresh"
	// OneConfigPending: a leader has at most one membership change that is not applied, in Paxos nothing at all beyond it
	// (Raft §6 and Ongaro's thesis §4.1; Lamport, Malkhi, Zhou, "Reconfiguring a State Machine" §3, with a window of 1).
	OneConfigPending Invariant = "one membership change at a time"
	// QuorumsOverlap: quorums of successive memberships meet (Raft §6).
	QuorumsOverlap Invariant = "successive memberships overlap"
	// TrimmedIsDecided: a log begins after entries that are committed and whose effects are in the replica's durable state (PMMC §4.2).
	TrimmedIsDecided Invariant = "trimmed entries are decided and kept in the state"
	// SnapshotContent: a snapshot that is installed holds what was committed up to its index, nothing else (Raft §7).
	SnapshotContent Invariant = "snapshots hold what was committed"
	// CoreCheck: Core.Check is content, marks ascend, the core starts on its disk and comes to rest.
	CoreCheck Invariant = "the core checks itself"
)

// Invariants lists those that are judged for a protocol.
func (p *Protocol) Invariants() []Invariant {
	all := []Invariant{
		ElectionSafety, VoteOnce, PromiseKept, LeaderAppendOnly, OneValuePerBallot, Agreement, StateMachineSafety, Durability,
		SyncBeforeSpeech, ReadsAreFresh, OneConfigPending, TrimmedIsDecided, SnapshotContent, CoreCheck,
	}
	if p.RaftLogs {
		return append(all, LogMatching, LeaderCompleteness, QuorumsOverlap)
	}
	return append(all, ChosenIsStable)
}

// Violation is a broken invariant.
type Violation = statespace.Violation

// check judges what concerns this replica alone.
func (r *replica) check(env *environment, eff *effect) {
	if err := r.core.Check(); err != nil {
		env.violated(eff, CoreCheck, "%v", err)
	}
	status := r.core.Status()
	switch {
	case status.Applied > r.now.index:
		env.violated(eff, CoreCheck, "replica %d believes entry %d applied, applied is %d", r.id, status.Applied, r.now.index)
	case status.Applied == r.now.index && !status.Config.Equal(r.now.config):
		env.violated(eff, CoreCheck, "replica %d: core and state machine disagree on the membership at %d: %s, %s", r.id, status.Applied, status.Config, r.now.config)
	}
	if base := r.log.Durable().First() - 1; base > r.kept.index && len(r.unsynced) == 0 {
		env.violated(eff, TrimmedIsDecided, "the log of replica %d begins after %d, its durable state is at %d", r.id, base, r.kept.index)
	}
	if status.Role == consensus.RoleLeader {
		r.checkPending(env, eff, status)
	}
}

// checkPending: a leader proposes one change at a time, and in Paxos nothing beyond it.
func (r *replica) checkPending(env *environment, eff *effect, status consensus.Status) {
	pending := consensus.Index(0)
	for _, rec := range env.read(r.log) {
		if rec.entry.Index <= status.Applied || !env.protocol.RaftLogs && rec.ballot != status.Term {
			continue
		}
		if config := rec.entry.Kind == consensus.EntryConfig; pending != 0 && (config || !env.protocol.RaftLogs) {
			env.violated(eff, OneConfigPending, "leader %d has entry %d beyond the unfinished change %d", r.id, rec.entry.Index, pending)
		} else if config {
			pending = rec.entry.Index
		}
	}
}

// checkSpeech: what the message says of its sender's disk is true.
func (r *replica) checkSpeech(env *environment, eff *effect, m *consensus.Message) {
	p := &env.protocol
	durable := r.log.Durable()
	term, vote := env.seenTerm(durable), durable.HardState().Vote
	if p.Granted != nil && p.Granted(m) && (term < m.Term || p.RaftLogs && term == m.Term && vote != m.To) {
		env.violated(eff, SyncBeforeSpeech, "replica %d votes for %d in term %d; its disk says term %d, vote %d", r.id, m.To, m.Term, term, vote)
	}
	if p.Acknowledged == nil {
		return
	}
	through := p.Acknowledged(m)
	if through == 0 {
		return
	}
	if term < m.Term {
		env.violated(eff, SyncBeforeSpeech, "replica %d acknowledges in term %d; its disk says term %d", r.id, m.Term, term)
	}
	records := env.read(durable)
	for i := max(r.kept.index, durable.First()-1) + 1; i <= through && term == m.Term; i++ {
		if _, ok := at(records, i); !ok {
			env.violated(eff, SyncBeforeSpeech, "replica %d acknowledges entry %d, which is not on its disk", r.id, i)
		}
	}
}
