package sequencer_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/sequencer/world"
	"github.com/quoratedb/quorate/statespace"
)

var exploreStates = flag.Int("explore-states", 0, "states that the explorer visits at most in each setting")

func w(shard int) world.Op  { return world.Op{Kind: world.Write, Shard: shard} }
func rd(shard int) world.Op { return world.Op{Kind: world.Read, Shard: shard} }
func fr(shard int) world.Op { return world.Op{Kind: world.ReplicaRead, Shard: shard} }

// wk is a write of the other key of a shard: it conflicts with nothing that w, rd, fr and tx do.
func wk(shard int) world.Op { return world.Op{Kind: world.Write, Shard: shard, Key: 1} }

// tx is a transaction with an anchor, and what it does in each shard.
func tx(anchor int, touches ...world.Touch) world.Op {
	op := world.Op{Kind: world.Txn, Shard: anchor}
	copy(op.Touch[:], touches)
	return op
}

// both is a transaction that writes in the first two shards.
func both() world.Op { return tx(0, world.Writes, world.Writes) }

func onOtherKey(op world.Op) world.Op {
	op.Key = 1
	return op
}

// settings are explored completely, wide ones as far as -explore-states says.
var settings = []world.Setting{
	{Name: "writes and a read", Shards: 2, Window: 6, Ops: []world.Op{w(0), w(1), w(0), rd(0)}},
	{Name: "batches", Shards: 1, Window: 3, Batches: true, Refusals: 1, Ops: []world.Op{w(0), w(0), w(0), rd(0)}},
	{Name: "watch over three shards", Shards: 3, Window: 6, Watch: true, Ops: []world.Op{w(0), w(1), w(2)}},
	{Name: "watch, refused proposals", Shards: 2, Window: 6, Watch: true, Refusals: 1, Ops: []world.Op{w(0), w(0), w(1)}},
	{Name: "watch, shard fail-over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{w(0), w(1)}},
	{Name: "watch, three leaders", Shards: 1, Window: 6, Watch: true, ShardFailovers: [3]uint8{2}, Ops: []world.Op{w(0)}},
	{Name: "watch, sequencer fail-over", Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0), w(0)}},
	{Name: "watch, planned hand-over", Shards: 1, Window: 2, Watch: true, HandOvers: 1, Ops: []world.Op{w(0), w(0)}},
	{Name: "watch, broken sessions, late frames", Shards: 1, Window: 6, Watch: true, Breaks: 2, Late: 2, Ops: []world.Op{w(0), w(0)}},
	{Name: "watch, lost frames", Shards: 1, Window: 6, Watch: true, Losses: 2, Ops: []world.Op{w(0), w(0)}},
	{Name: "watch, sequencer fail-over, late frames", Shards: 1, Window: 2, Watch: true, SeqFailovers: 1, Late: 2, Ops: []world.Op{w(0)}},
	{Name: "leaders on one node, lost frame", Shards: 2, Window: 6, Together: true, Watch: true, Losses: 1, Ops: []world.Op{w(0), w(1)}},
	{Name: "leaders on one node, shard fail-over", Shards: 2, Window: 6, Together: true, Watch: true, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0), w(1)}},
	{Name: "leaders on one node, broken session", Shards: 2, Window: 6, Together: true, Watch: true, Breaks: 1, Late: 1, Ops: []world.Op{w(0), w(1)}},
	{Name: "reads, sequencer fail-over, lost frame", Shards: 1, Window: 2, SeqFailovers: 1, Losses: 1, Ops: []world.Op{w(0), rd(0)}},
	{Name: "reads at replicas, shard fail-over", Shards: 2, Window: 6, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{w(1), w(1), fr(1)}},
	{Name: "reads at replicas, sequencer fail-over", Shards: 1, Window: 2, SeqFailovers: 1, Ops: []world.Op{w(0), fr(0)}},
	{Name: "transaction, watch, a write", Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both(), wk(1)}},
	{Name: "transaction, two writes in its way, a read", Shards: 2, Window: 6, Ops: []world.Op{both(), w(1), w(0), rd(1)}},
	{Name: "transaction over three shards, one read only", Shards: 3, Window: 6, ShardFailovers: [3]uint8{0, 0, 1}, Ops: []world.Op{tx(0, world.Writes, world.Writes, world.Reads), w(2)}},
	{Name: "transaction, anchor fail-over", Shards: 2, Window: 6, ShardFailovers: [3]uint8{1}, Ops: []world.Op{both(), w(1), rd(0)}},
	{Name: "transaction, watch, anchor fail-over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{1}, Ops: []world.Op{both()}},
	{Name: "transaction, watch, participant fail-over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both()}},
	{Name: "transaction, watch, given up", Shards: 2, Window: 6, Watch: true, Aborts: 1, Ops: []world.Op{both()}},
	{Name: "transaction, broken session, late frames", Shards: 2, Window: 6, Breaks: 2, Late: 1, Ops: []world.Op{both(), rd(1)}},
	{Name: "transaction, sequencer fail-over", Shards: 2, Window: 3, SeqFailovers: 1, Ops: []world.Op{both(), rd(1)}},
	{Name: "two transactions", Shards: 2, Window: 6, Ops: []world.Op{both(), tx(1, world.Writes, world.Writes), rd(1)}},
	{Name: "two transactions that meet, watch", Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both(), tx(1, world.Writes, world.Writes)}},
	{Name: "two transactions on two keys, watch", Shards: 2, Window: 6, Watch: true, Ops: []world.Op{both(), onOtherKey(tx(1, world.Writes, world.Writes))}},
	{Name: "transaction, reads at replicas", Shards: 2, Window: 6, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), wk(1), fr(1)}},
	{Name: "transaction, leaders on one node, lost frame", Shards: 2, Window: 6, Together: true, Watch: true, Losses: 1, Ops: []world.Op{both()}},
	{Name: "transaction, watch over three shards", Shards: 3, Window: 6, Watch: true, Ops: []world.Op{tx(1, world.Writes, world.Writes, world.Writes)}},
	{Name: "transaction, writes on it, participant fail-over", Shards: 2, Window: 6, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), w(1), w(1), rd(1)}},
}

var wide = []world.Setting{
	{Name: "transaction, watch, sequencer fail-over", Shards: 2, Window: 3, Watch: true, SeqFailovers: 1, Ops: []world.Op{both()}},
	{Name: "transaction, watch, write, participant fails over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both(), wk(1)}},
	{Name: "transaction, watch, write, both fail over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{1, 1}, Ops: []world.Op{both(), wk(1)}},
	{Name: "transaction, watch, given up, participant fail-over", Shards: 2, Window: 6, Watch: true, Aborts: 1, ShardFailovers: [3]uint8{0, 1}, Ops: []world.Op{both()}},
	{Name: "transaction, watch, given up, lost frame", Shards: 2, Window: 6, Watch: true, Aborts: 1, Losses: 1, Ops: []world.Op{both()}},
	{Name: "transaction, watch, given up, broken session", Shards: 2, Window: 6, Watch: true, Aborts: 1, Breaks: 1, Ops: []world.Op{both()}},
	{Name: "transaction, watch, planned hand-over", Shards: 2, Window: 2, Watch: true, HandOvers: 1, Ops: []world.Op{both()}},
	{Name: "transaction, watch, anchor reads only and fails over", Shards: 2, Window: 6, Watch: true, ShardFailovers: [3]uint8{1}, Ops: []world.Op{tx(0, world.Reads, world.Writes), w(0)}},
	{Name: "transaction, batches, a refused proposal", Shards: 2, Window: 6, Watch: true, Batches: true, Refusals: 1, Ops: []world.Op{both(), wk(1), w(1)}},
	{Name: "transaction, read at replicas, sequencer fail-over", Shards: 2, Window: 3, SeqFailovers: 1, Ops: []world.Op{both(), fr(1)}},
	{Name: "transaction, anchor and sequencer fail-over", Shards: 2, Window: 3, SeqFailovers: 1, ShardFailovers: [3]uint8{1}, Ops: []world.Op{both(), rd(1)}},
	{Name: "transactions and everything", Shards: 3, Window: 3, Watch: true, Late: 2, Aborts: 1, ShardFailovers: [3]uint8{1, 1, 1}, SeqFailovers: 1, Losses: 1, Breaks: 1, Ops: []world.Op{tx(0, world.Writes, world.Reads, world.Writes), both(), wk(1), w(2)}},
	{Name: "leaders on one node, sequencer fail-over", Shards: 2, Window: 2, Together: true, Watch: true, SeqFailovers: 1, Ops: []world.Op{w(0), w(1)}},
	{Name: "watch, three leaders, two writes", Shards: 1, Window: 6, Watch: true, ShardFailovers: [3]uint8{2}, Ops: []world.Op{w(0), w(0)}},
	{Name: "watch, sequencer fails twice", Shards: 1, Window: 2, Watch: true, SeqFailovers: 2, Ops: []world.Op{w(0)}},
	{Name: "watch, shard and sequencer fail-over", Shards: 1, Window: 2, Watch: true, ShardFailovers: [3]uint8{1}, SeqFailovers: 1, Ops: []world.Op{w(0)}},
	{Name: "reads at replicas, shard and sequencer fail-over", Shards: 1, Window: 2, SeqFailovers: 1, ShardFailovers: [3]uint8{1}, Ops: []world.Op{w(0), fr(0)}},
	{
		Name: "everything", Shards: 2, Window: 2, Watch: true, Batches: true, Late: 2, ShardFailovers: [3]uint8{1, 1}, SeqFailovers: 1, HandOvers: 1, Losses: 1, Breaks: 1, Refusals: 1,
		Ops: []world.Op{w(0), w(0), w(1), rd(0)},
	},
}

// defaultStates bounds each wide setting unless the flag says otherwise, shortStates every setting with -short.
const (
	defaultStates = 30_000
	shortStates   = 20_000
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
	return statespace.Limits{States: 1_000_000}, true
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

var births = []world.Upbringing{
	{Name: "one shard", Window: 3, Writes: 6, Fails: 2, HandOvers: 1},
	{Name: "one shard, paxos", Paxos: true, Window: 3, Writes: 6, Fails: 2, HandOvers: 1},
	{Name: "first limit", Window: 2, Writes: 2, Remotes: 2, Fails: 1},
	{Name: "first limit, paxos", Paxos: true, Window: 2, Writes: 3, Remotes: 1, Fails: 1, Refusals: 1},
	{Name: "hand-over", Window: 2, Writes: 1, Remotes: 2, HandOvers: 2},
	{Name: "hand-over, fail-over", Window: 2, Writes: 1, Remotes: 1, Fails: 1, HandOvers: 1, Refusals: 1},
}

var wideBirths = []world.Upbringing{
	{Name: "raft", Window: 3, Writes: 3, Remotes: 2, Fails: 2, HandOvers: 1, Refusals: 1},
	{Name: "paxos", Paxos: true, Window: 3, Writes: 3, Remotes: 2, Fails: 2, HandOvers: 1, Refusals: 1},
}

func TestExploreBirth(t *testing.T) {
	for i, u := range slices.Concat(births, wideBirths) {
		t.Run(u.Name, func(t *testing.T) {
			l, complete := limits(i >= len(births))
			report(t, world.NewBirth(u, world.Sound, "", world.Poke{}).Explore(l), complete)
		})
	}
}
