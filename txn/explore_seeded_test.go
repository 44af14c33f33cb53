package txn_test

import (
	"strings"
	"testing"

	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
	"github.com/quoratedb/quorate/txn/world"
)

var (
	two    = clients(writes(0b11))
	three  = clients(writes(0b111))
	rivals = clients(writes(0b11), writes(0b11))
	anchor = [3]uint8{1}
	member = [3]uint8{0, 1}
	silent = world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Losses: 1, Silent: true, Prepared: 0b111, Recoverers: 0b010}
)

// seeded are the mutations, each with an invariant that it breaks in a small setting.
var seeded = []struct {
	mutation world.Mutation
	breaks   statespace.Invariant
	in       world.Setting
}{
	{world.MissingIsAbort, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1}},
	{world.ResolveAnything, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: rivals, Attempts: 2, Losses: 1}},
	{world.PrepareNotDurable, world.Remembered, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: member}},
	{world.DecideElsewhere, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: anchor}},
	{world.PrepareElsewhere, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Failovers: anchor, Prepared: 0b110, Recoverers: 0b010}},
	{world.ForgetEntirely, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Doubles: 1}},
	{world.LossIsRefusal, world.Told, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1}},
	{world.LossIsResolved, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1}},
	{world.UnknownIsTimeout, world.Told, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Cancels: 1}},
	{world.AnswerBeforeDecision, world.Durable, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1}},
	{world.ApplyTwice, world.AtMostOnce, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Doubles: 1}},
	{world.OmitWriter, world.Atomic, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1}},
	{world.NoRecovery, world.Ends, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: anchor}},
	{world.NoNotice, world.Ends, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1}},
	{world.NobodyKnows, world.Ends, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: anchor}},
	{world.OldForgotten, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b01)), Attempts: 1, Failovers: anchor}},
	{world.PromiseNotDurable, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Losses: 1, Silent: true, Failovers: member, Prepared: 0b111, Recoverers: 0b100}},
	{world.AcceptNotDurable, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Failovers: anchor, Prepared: 0b111, Recoverers: 0b001}},
	{world.AcceptedIsDecided, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Failovers: anchor, Prepared: 0b111, Recoverers: 0b010}},
	{world.AcceptUnprepared, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1, Silent: true}},
	{world.BallotZeroRecovery, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1, Silent: true}},
	{world.AcceptLower, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1, Silent: true}},
	{world.PromiseForgets, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 2, Clients: two, Attempts: 1, Losses: 1, Silent: true}},
	{world.PrepareAfterPromise, world.OneDecision, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1, Failovers: anchor, Prepared: 0b001, Recoverers: 0b001}},
}

// poked are mutations inside the cores.
var poked = []struct {
	name   string
	poke   world.Poke
	breaks statespace.Invariant
	in     world.Setting
}{
	{"minority of accepts", world.Poke{Coordinator: txn.PokeMinority}, world.Durable, world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: three, Attempts: 1}},
	{"minority of promises", world.Poke{Recovery: txn.PokeMinorityOfPromises}, world.OneDecision, silent},
	{"recovery forgets what was accepted", world.Poke{Recovery: txn.PokeForgetFound}, world.OneDecision, silent},
	{"finished too early", world.Poke{Coordinator: txn.PokeFinishedEarly}, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: anchor}},
	{"open ones unsaid", world.Poke{Coordinator: txn.PokeOpenUnsaid}, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Failovers: anchor, Losses: 1}},
	{"open ones never passed", world.Poke{Coordinator: txn.PokeNothingPassed}, world.Ends, world.Setting{Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b101), writes(0b011)), Attempts: 2, Lost: 1, Dies: 3}},
	{"older open ones unsaid", world.Poke{Recovery: txn.PokeOlderUnsaid}, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b01)), Attempts: 1, Failovers: anchor, Losses: 1, Prepared: 0b11}},
	{"participant omitted", world.Poke{Coordinator: txn.PokeOmitParticipant}, world.Remembered, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1}},
	{"abort while deciding", world.Poke{Coordinator: txn.PokeAbortWhileDeciding}, world.OneDecision, world.Setting{Protocol: txn.TwoPhase, Shards: 2, Clients: two, Attempts: 1, Cancels: 1}},
}

// mutatedStates bounds the search for what a mutation breaks.
const mutatedStates = 400_000

// TestExploreFindsMutations: each rule that is switched off is missed, in a setting in which nothing is wrong with all rules in force.
func TestExploreFindsMutations(t *testing.T) {
	for _, s := range seeded {
		t.Run(string(s.mutation), func(t *testing.T) {
			skipDeep(t, s.in)
			missed(t, s.in, s.mutation, s.breaks, world.Poke{})
		})
	}
	for _, s := range poked {
		t.Run(s.name, func(t *testing.T) {
			skipDeep(t, s.in)
			missed(t, s.in, world.Sound, s.breaks, s.poke)
		})
	}
}

func missed(t *testing.T, in world.Setting, m world.Mutation, breaks statespace.Invariant, poke world.Poke) {
	r := world.NewCluster(in, m, breaks, poke).Explore(statespace.Limits{States: mutatedStates})
	if r.Violation == nil {
		t.Fatalf("not found in %d states, all of them: %v", r.States, r.Complete)
	}
	t.Logf("found in %d states: %v\n%s", r.States, r.Violation, strings.Join(r.Story, "\n"))
	sound := world.NewCluster(in, world.Sound, "", world.Poke{}).Explore(statespace.Limits{States: min(2*r.States, 3000)})
	if sound.Violation != nil {
		t.Fatalf("with all rules: %v\n%s", sound.Violation, strings.Join(sound.Story, "\n"))
	}
}

func skipDeep(t *testing.T, in world.Setting) {
	if testing.Short() && in.Prepared != 0 {
		t.Skip("it takes some hundred thousand states")
	}
}

// TestTextbook: three-phase commit without a register is right as long as the network is, and breaks under a partition.
func TestTextbook(t *testing.T) {
	if r := (world.Textbook{Participants: 3}).Explore(); r.Violation != nil || !r.Complete {
		t.Errorf("without a partition: %v\n%s", r.Violation, strings.Join(r.Story, "\n"))
	}
	r := (world.Textbook{Participants: 3, Partition: true}).Explore()
	if r.Violation == nil {
		t.Fatalf("a partition does no harm in %d states", r.States)
	}
	t.Logf("%v\n%s", r.Violation, strings.Join(r.Story, "\n"))
	if r := (world.Textbook{Participants: 3, Partition: true, Majority: true}).Explore(); r.Violation != nil || !r.Complete {
		t.Errorf("with a majority: %v\n%s", r.Violation, strings.Join(r.Story, "\n"))
	}
}
