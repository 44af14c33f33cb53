package paxos_test

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/paxos"
)

// plain makes cores that nobody observes.
func plain() consensustest.Factory {
	rng := rand.New(rand.NewPCG(1, 1))
	return func(m consensustest.Member) (consensus.Core, error) {
		return paxos.New(paxos.Options{Replica: m.Replica, HardState: m.HardState, Applied: m.Applied, Config: m.Config, Rand: rng}, m.Log)
	}
}

// TestCost holds what an entry costs in allocations: 17 and 39 at the leader, and some more under the race detector.
func TestCost(t *testing.T) {
	consensustest.CheckCost(t, plain(), map[int]consensustest.Cost{
		1: {LeaderMallocs: 20, Mallocs: 38},
		8: {LeaderMallocs: 46, Mallocs: 86},
	})
}

// BenchmarkCommit measures what an entry costs the cores of three replicas.
func BenchmarkCommit(b *testing.B) { consensustest.BenchmarkCommit(b, plain()) }
