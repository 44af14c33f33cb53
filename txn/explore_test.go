package txn_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/statespace"
	"github.com/quoratedb/quorate/txn"
	"github.com/quoratedb/quorate/txn/world"
)

var exploreStates = flag.Int("explore-states", 0, "states that the explorer visits at most in each setting")

// Bit s of writes and reads is the s-th shard; the 0th is the anchor.
func writes(shards uint8) world.Client { return world.Client{Writes: shards} }

func clients(c ...world.Client) []world.Client { return c }

// settings are explored completely, wide ones as far as -explore-states says.
var settings = []world.Setting{
	{Name: "2pc, lost messages", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 2, Losses: 1},
	{Name: "2pc, twice", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 2, Doubles: 1},
	{Name: "2pc, anchor fails over", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Failovers: [3]uint8{1}},
	{Name: "2pc, participant fails over", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Failovers: [3]uint8{0, 1}, Losses: 1},
	{Name: "2pc, client goes away", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Cancels: 1, Deadlines: 1, Refusals: 1},
	{Name: "3pc, client goes away", Protocol: txn.ThreePhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Cancels: 1, Deadlines: 1},
}

var wide = []world.Setting{
	{Name: "3pc, asked of a new anchor", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Prepared: 0b111, Failovers: [3]uint8{1}, Recoverers: 0b010},
	{Name: "3pc, lost messages", Protocol: txn.ThreePhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 2, Losses: 1},
	{Name: "2pc, two clients", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11), writes(0b11)), Attempts: 3},
	{Name: "2pc, two clients, one reads", Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b011), world.Client{Writes: 0b100, Reads: 0b010}), Attempts: 3},
	{Name: "2pc, three shards, anchor fails over", Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Failovers: [3]uint8{1}, Losses: 1},
	{Name: "2pc, shards are lost", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Lost: 1, Failovers: [3]uint8{1}},
	{Name: "2pc, others than a lost shard", Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b101), writes(0b011)), Attempts: 2, Lost: 1, Dies: 3},
	{Name: "2pc, others than a lost shard, anchor fails over", Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b101), writes(0b011)), Attempts: 2, Lost: 1, Dies: 3, Failovers: anchor},
	{Name: "3pc, others than a lost shard", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b101), writes(0b011)), Attempts: 2, Lost: 1, Dies: 3},
	{Name: "2pc, everything", Protocol: txn.TwoPhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 2, Failovers: [3]uint8{1, 1}, Losses: 1, Doubles: 1, Cancels: 1},
	{Name: "3pc, anchor fails over", Protocol: txn.ThreePhase, Shards: 2, Clients: clients(writes(0b11)), Attempts: 1, Failovers: [3]uint8{1}},
	{Name: "3pc, two recoverers", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Losses: 2, Silent: true},
	{Name: "3pc, the anchor is lost", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Lost: 1, Dies: 1},
	{Name: "3pc, any shard is lost", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Lost: 1, Failovers: [3]uint8{1}},
	{Name: "3pc, everything", Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Attempts: 1, Failovers: [3]uint8{1, 1, 1}, Losses: 2, Doubles: 1, Lost: 1, Cancels: 1},
}

// defaultStates bounds each wide setting unless the flag says otherwise, shortStates every setting with -short.
const (
	defaultStates = 30_000
	shortStates   = 5_000
)

// limits are those of a setting. It must be explored completely unless it is wide.
func limits(isWide bool) (l statespace.Limits, complete bool) {
	switch {
	case testing.Short():
		return statespace.Limits{States: shortStates, Seed: 1}, false
	case *exploreStates > 0:
		return statespace.Limits{States: *exploreStates, Steps: 200, Seed: 1}, false
	case isWide:
		return statespace.Limits{States: defaultStates, Steps: 100, Seed: 1}, false
	}
	return statespace.Limits{States: 200_000}, true
}

func TestExplore(t *testing.T) {
	for i, s := range slices.Concat(settings, wide) {
		t.Run(s.Name, func(t *testing.T) {
			l, complete := limits(i >= len(settings))
			report(t, world.NewCluster(s, world.Sound, "", world.Poke{}).Explore(l), complete)
		})
	}
}

func report(t *testing.T, r world.Explored, complete bool) {
	t.Logf("%d states, all of them: %v, depth %d; %d states of cores, %d calls of them", r.States, r.Complete, r.Depth, r.Cores, r.Calls)
	if r.Violation != nil {
		t.Errorf("%v\n%s", r.Violation, strings.Join(r.Story, "\n"))
	} else if complete && !r.Complete {
		t.Error("the bounds are too wide")
	}
}

// TestWithoutAnchor: two-phase commit waits for an anchor that is lost, for ever; three-phase commit does not, if most of the participants are there.
func TestWithoutAnchor(t *testing.T) {
	for _, c := range []struct {
		in   world.Setting
		want []kv.ShardID
	}{
		{world.Setting{Protocol: txn.TwoPhase, Shards: 3, Clients: clients(writes(0b111)), Prepared: 0b111}, []kv.ShardID{2, 3}},
		{world.Setting{Protocol: txn.ThreePhase, Shards: 3, Clients: clients(writes(0b111)), Prepared: 0b111}, nil},
		{world.Setting{Protocol: txn.ThreePhase, Shards: 2, Clients: clients(writes(0b11)), Prepared: 0b11}, []kv.ShardID{2}},
	} {
		c.in.Attempts = 1
		if got := world.NewCluster(c.in, world.Sound, "", world.Poke{}).WithoutAnchor(); !slices.Equal(got, c.want) {
			t.Errorf("protocol %d, %d shards: undecided in %v, want %v", c.in.Protocol, c.in.Shards, got, c.want)
		}
	}
}
