package txn_test

import (
	"strings"
	"testing"

	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
	"github.com/quoratedb/quorate/txn/world"
)

// Transactions that meet in all ways: with anchors in different shards, of two shards and of three, with a shard below the anchor that is only read.
var (
	circle  = clients(writes(0b011), writes(0b110), writes(0b101))
	nested  = clients(writes(0b111), writes(0b110))
	same    = clients(writes(0b111), writes(0b111))
	below   = clients(writes(0b011), world.Client{Writes: 0b110, Reads: 0b001})
	crossed = clients(world.Client{Writes: 0b010, Reads: 0b101}, world.Client{Writes: 0b100, Reads: 0b011}, writes(0b011))
)

// waits are explored completely.
var waits = []world.Waits{
	{Name: "circle", Protocol: txn.TwoPhase, Shards: 3, Clients: circle},
	{Name: "circle, silent", Protocol: txn.TwoPhase, Shards: 3, Clients: circle, Silent: true},
	{Name: "circle, 3pc", Protocol: txn.ThreePhase, Shards: 3, Clients: circle},
	{Name: "circle, begun anew", Protocol: txn.TwoPhase, Shards: 3, Clients: circle, Anew: 1},
	{Name: "three of one anchor", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11), writes(0b11))},
	{Name: "two of one anchor", Protocol: txn.TwoPhase, Shards: 2, Clients: rivals, Anew: 1, Cancels: 1},
	{Name: "nested", Protocol: txn.TwoPhase, Shards: 3, Clients: nested},
	{Name: "nested, a client goes away", Protocol: txn.TwoPhase, Shards: 3, Clients: nested, Cancels: 1},
	{Name: "of three shards", Protocol: txn.TwoPhase, Shards: 3, Clients: same},
	{Name: "below the anchor", Protocol: txn.TwoPhase, Shards: 3, Clients: below},
}

// wideWaits are explored up to a bound.
var wideWaits = []world.Waits{
	{Name: "circle, begun anew twice", Protocol: txn.TwoPhase, Shards: 3, Clients: circle, Anew: 2, Cancels: 1},
	{Name: "three of one anchor, begun anew", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11), writes(0b11)), Anew: 2},
	{Name: "below the anchor, begun anew, 3pc", Protocol: txn.ThreePhase, Shards: 3, Clients: below, Anew: 2, Cancels: 1},
	{Name: "nested, begun anew twice, 3pc", Protocol: txn.ThreePhase, Shards: 3, Clients: nested, Anew: 2, Cancels: 1},
	{Name: "of three shards, begun anew", Protocol: txn.TwoPhase, Shards: 3, Clients: same, Anew: 2, Cancels: 1},
	{Name: "crossed", Protocol: txn.TwoPhase, Shards: 3, Clients: crossed, Anew: 1, Cancels: 1},
	{Name: "three that meet", Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b111), writes(0b110), writes(0b101)), Anew: 1, Cancels: 1},
}

// TestExploreWaits: whatever transactions wait for, however their anchors lie, nobody waits in a circle, nobody is tried again without end, and no lock is left;
// also if leaderships begin anew, and clients go away.
func TestExploreWaits(t *testing.T) {
	for i, s := range append(waits[:len(waits):len(waits)], wideWaits...) {
		t.Run(s.Name, func(t *testing.T) {
			l, complete := limits(i >= len(waits))
			report(t, s.Explore(l), complete)
		})
	}
}

// TestExploreWaitsFindsMutations: each rule of waiting that is switched off has somebody wait for ever, and with the rule nobody does.
func TestExploreWaitsFindsMutations(t *testing.T) {
	for _, s := range []world.Waits{
		{Mutation: world.NoRevoke, Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11)), Anew: 1},
		{Mutation: world.EverybodyWaits, Protocol: txn.TwoPhase, Shards: 3, Clients: nested},
		{Mutation: world.NobodyWakes, Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11))},
		{Mutation: world.ToldTooEarly, Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11))},
		{Mutation: world.ForgottenLock, Protocol: txn.TwoPhase, Shards: 3, Clients: nested},
	} {
		t.Run(string(s.Mutation), func(t *testing.T) {
			r := s.Explore(statespace.Limits{States: mutatedStates})
			if r.Violation == nil {
				t.Fatalf("not found in %d states, all of them: %v", r.States, r.Complete)
			}
			t.Logf("found in %d states: %v\n%s", r.States, r.Violation, strings.Join(r.Story, "\n"))
			s.Mutation = ""
			if r := s.Explore(statespace.Limits{States: mutatedStates}); r.Violation != nil || !r.Complete {
				t.Errorf("with all rules, %d states, all of them: %v; %v", r.States, r.Complete, r.Violation)
			}
		})
	}
}
