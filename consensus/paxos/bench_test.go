package paxos_test

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/paxos"
)

// BenchmarkCommit measures what an entry costs the cores of three replicas.
func BenchmarkCommit(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	consensustest.BenchmarkCommit(b, func(m consensustest.Member) (consensus.Core, error) {
		return paxos.New(paxos.Options{Replica: m.Replica, HardState: m.HardState, Applied: m.Applied, Config: m.Config, Rand: rng}, m.Log)
	})
}
