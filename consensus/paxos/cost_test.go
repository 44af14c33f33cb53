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

// TestCost holds what an entry costs in allocations: 10 at the leader, however many entries a round has.
func TestCost(t *testing.T) {
	consensustest.CheckCost(t, plain(), map[int]consensustest.Cost{
		1: {LeaderMallocs: 11, Mallocs: 22},
		8: {LeaderMallocs: 11, Mallocs: 21},
	})
}

// BenchmarkCommit measures what an entry costs the cores of three replicas.
func BenchmarkCommit(b *testing.B) { consensustest.BenchmarkCommit(b, plain()) }
