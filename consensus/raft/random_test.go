package raft_test

import (
	"testing"
	"testing/cryptotest"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/raft"
)

// factory makes raft cores for the fixture.
func factory(m consensustest.Member) (consensus.Core, error) {
	return raft.New(raft.Options{
		Replica: m.Replica, HardState: m.HardState, Applied: m.Applied, Config: m.Config,
		ElectionTicks: m.ElectionTicks, HeartbeatTicks: m.HeartbeatTicks,
		MaxMessageBytes: m.MaxMessageBytes, MaxApplyBytes: m.MaxApplyBytes, MaxInflightMessages: m.MaxInflightMessages,
	}, m.Log)
}

var fixture = consensustest.Options{Factory: factory, RaftLogs: true}

func TestRandom(t *testing.T) {
	seeds, steps := uint64(60), 3000
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		cryptotest.SetGlobalRandom(t, seed) // election jitter
		if err := consensustest.RunRandom(fixture, seed, steps); err != nil {
			t.Fatal(err)
		}
	}
}
