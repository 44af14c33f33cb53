package sequencer_test

import (
	"strings"
	"testing"

	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/sequencer/world"
	"github.com/quoratedb/quorate/statespace"
)

// seeded are the mutations of a Cluster, each with the invariant that it breaks in a small setting.
var seeded = []struct {
	mutation world.Mutation
	breaks   []statespace.Invariant
	in       world.Setting
}{
	{world.PreLeasedBlocks, all(world.RealTime), world.Setting{Shards: 2, Window: 8, Ops: []world.Op{w(0), w(1), w(0)}}},
	{world.ExpiredSequencerAllocates, all(world.RealTime), world.Setting{Shards: 2, Window: 3, SeqFailovers: 1, Ops: []world.Op{w(0), w(1)}}},
	{world.ExpiredSequencerReads, all(world.RealTime), world.Setting{Shards: 1, Window: 3, SeqFailovers: 1, Ops: []world.Op{w(0), rd(0)}}},
	{world.GapIgnored, all(world.ActedOn), world.Setting{Shards: 1, Window: 8, Losses: 1, Ops: []world.Op{w(0), w(0)}}},
	{world.UnorderedStream, all(world.ActedOn, world.KeyOrder), world.Setting{Shards: 1, Window: 8, Ops: []world.Op{w(0), w(0)}}},
	{world.LateReplyAccepted, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, Late: 1, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.VoidInLog, all(world.Closed), world.Setting{Shards: 1, Window: 6, Watch: true, Ops: []world.Op{w(0)}}},
	{world.FrontierUnclean, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.CleanByBelief, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0)}}},
	{world.CleanIgnoresOwn, all(world.Closed), world.Setting{Shards: 1, Window: 6, Watch: true, Ops: []world.Op{w(0)}}},
	{world.CleanNowLater, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.CleanAsOfLater, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.CleanBelowAsOf, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.CleanOfOlderEpoch, all(world.Closed), world.Setting{Shards: 1, Window: 2, Watch: true, Late: 1, SeqFailovers: 1, Refusals: 1, Ops: []world.Op{w(0), w(0)}}},
	{world.StaleReadRev, all(world.RealTime), world.Setting{Shards: 1, Window: 6, Ops: []world.Op{w(0), rd(0)}}},
	{world.ShardLocalHeader, all(world.RealTime), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{w(0), rd(1)}}},
	{world.LeaseOverlap, all(world.Snapshot), world.Setting{Shards: 1, Window: 6, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0), rd(0)}}},
	{world.ReadIgnoresInFlight, all(world.Snapshot), world.Setting{Shards: 1, Window: 6, Ops: []world.Op{w(0), rd(0)}}},
	{world.FollowerIgnoresLast, all(world.Snapshot), world.Setting{Shards: 1, Window: 6, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0), fr(0)}}},
	{world.ReproposeOldRevision, all(world.Snapshot), world.Setting{Shards: 1, Window: 6, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0), rd(0)}}},
	{world.NoChain, all(world.ActedOn, world.KeyOrder), world.Setting{Shards: 1, Window: 6, Ops: []world.Op{w(0), w(0)}}},
	{world.NeverClean, all(world.Liveness), world.Setting{Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0)}}},
	{world.OlderLeadershipAllocates, all(world.Liveness), world.Setting{Shards: 1, Window: 6, Watch: true, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0)}}},
	{world.IssueBeforeLocks, all(world.ActedOn), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), w(1)}}},
	{world.OmitParticipant, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both()}}},
	{world.TwoRevisions, all(world.Atomic), world.Setting{Shards: 2, Window: 2, SeqFailovers: 1, Ops: []world.Op{both()}}},
	{world.NoStamp, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both(), wk(1)}}},
	{world.CleanIgnoresPrepared, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both()}}},
	{world.CleanTopIsClosed, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), wk(1)}}},
	{world.MultiClearedByLeadership, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both()}}},
	{world.MultiOverwritten, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), wk(1)}}},
	{world.NeverDoubted, all(world.Liveness), world.Setting{Shards: 2, Window: 6, Watch: true, Aborts: 1, Ops: []world.Op{both()}}},
	{world.ReadIgnoresLocks, all(world.Snapshot), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), rd(1)}}},
	{world.ReadIgnoresStamp, all(world.Snapshot), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), wk(1), rd(1)}}},
	{world.FollowerIgnoresStamp, all(world.Snapshot), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), wk(1), fr(1)}}},
	{world.ReadOnlyInMemory, all(world.ActedOn), world.Setting{Shards: 2, Window: 6, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{tx(0, world.Writes, world.Reads), w(1)}}},
	{world.MissingIsAbort, all(world.Atomic), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both()}}},
	{world.RecoveryForgetsDecision, all(world.OneDecision), world.Setting{Shards: 2, Window: 6, ShardFailovers: [3]uint8{1}, Aborts: 1, Ops: []world.Op{both()}}},
	{world.ResolveOffChain, all(world.ActedOn, world.KeyOrder), world.Setting{Shards: 2, Window: 6, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), w(1)}}},
	{world.ResolveEarly, all(world.Closed), world.Setting{Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both(), wk(1)}}},
	{world.PrepareOffChain, all(world.ActedOn), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), w(1)}}},
	{world.StackOnPrepared, all(world.ActedOn), world.Setting{Shards: 2, Window: 6, Ops: []world.Op{both(), w(1)}}},
	{world.NoPatience, all(world.Liveness), world.Setting{Shards: 1, Window: 6, Losses: 1, Ops: []world.Op{w(0)}}},
}

// pokes are for mutations that are inside a core.
var pokes = map[world.Mutation]world.Poke{
	world.OlderLeadershipAllocates: {Reach: sequencer.PokeForgetLeaderships},
	world.MultiClearedByLeadership: {Reach: sequencer.PokeMultiOfNoLeadership},
	world.MultiOverwritten:         {Reach: sequencer.PokeOneLast},
}

func all(invariants ...statespace.Invariant) []statespace.Invariant { return invariants }

// TestExploreFindsMutations: each rule that is switched off is missed, in a setting in which nothing is wrong with all rules in force.
func TestExploreFindsMutations(t *testing.T) {
	for _, s := range seeded {
		t.Run(string(s.mutation), func(t *testing.T) {
			if r := world.NewCluster(s.in, world.Sound, "", world.Poke{}).Explore(statespace.Limits{States: 50_000}); r.Violation != nil {
				t.Fatalf("with all rules: %v, all %d states: %v\n%s", r.Violation, r.States, r.Complete, strings.Join(r.Story, "\n"))
			} else {
				t.Logf("%d states without", r.States)
			}
			for _, only := range s.breaks {
				r := world.NewCluster(s.in, s.mutation, only, pokes[s.mutation]).Explore(statespace.Limits{States: 3_000_000})
				if r.Violation == nil {
					t.Fatalf("not found in %d states", r.States)
				}
				t.Logf("found in %d states: %v\n%s", r.States, r.Violation, strings.Join(r.Story, "\n"))
			}
		})
	}
}

// seededBirths are those of a Birth.
var seededBirths = []struct {
	mutation world.Mutation
	breaks   statespace.Invariant
	poke     world.Poke
	in       world.Upbringing
}{
	{world.IssueAboveLimit, world.Once, world.Poke{Reach: sequencer.PokeIssueAboveLimit}, world.Upbringing{Window: 2, Writes: 1, Remotes: 2, Fails: 1}},
	{world.LimitBeforeBarrier, world.Once, world.Poke{}, world.Upbringing{Window: 2, Remotes: 1, Fails: 1, HandOvers: 1}},
	{world.HandOverLastApplied, world.Once, world.Poke{}, world.Upbringing{Window: 2, Remotes: 2, HandOvers: 1}},
	{world.HandOverGoesOn, world.Once, world.Poke{Reach: sequencer.PokeHandOverGoesOn}, world.Upbringing{Window: 2, Writes: 1, Remotes: 2, HandOvers: 1}},
	{world.HandOverGoesOn, world.Dense, world.Poke{Reach: sequencer.PokeHandOverGoesOn}, world.Upbringing{Window: 2, Writes: 1, Remotes: 2, HandOvers: 1}},
	{world.ReadRevLastIssued, world.Once, world.Poke{}, world.Upbringing{Window: 2, Writes: 2, Fails: 1}},
	{world.NoChainCheck, world.Dense, world.Poke{}, world.Upbringing{Paxos: true, Window: 2, Writes: 2, Fails: 1}},
	{world.ManyBeforeCommit, world.Once, world.Poke{Reach: sequencer.PokeManyBeforeCommit, AfterReady: true}, world.Upbringing{Window: 2, Remotes: 2, Fails: 1}},
	{world.UnboundedWhilePending, world.Once, world.Poke{Reach: sequencer.PokeUnboundedWhilePending}, world.Upbringing{Window: 2, Writes: 4, Remotes: 1, Fails: 1}},
}

func TestExploreBirthFindsMutations(t *testing.T) {
	for _, s := range seededBirths {
		t.Run(string(s.mutation)+"/"+string(s.breaks), func(t *testing.T) {
			r := world.NewBirth(s.in, world.Sound, "", world.Poke{}).Explore(statespace.Limits{States: 300_000})
			if r.Violation != nil || !r.Complete {
				t.Fatalf("with all rules: %v, all %d states: %v\n%s", r.Violation, r.States, r.Complete, strings.Join(r.Story, "\n"))
			}
			t.Logf("%d states without", r.States)
			r = world.NewBirth(s.in, s.mutation, s.breaks, s.poke).Explore(statespace.Limits{States: 300_000})
			if r.Violation == nil {
				t.Fatalf("not found in %d states", r.States)
			}
			t.Logf("found in %d states: %v\n%s", r.States, r.Violation, strings.Join(r.Story, "\n"))
		})
	}
}
