package paxos_test

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/explore"
	"github.com/quoratedb/quorate/consensus/paxos"
)

var groupFlags = explore.RegisterFlags()

// sameJitter makes all election timeouts the same, so that a core does the same whenever it is given the same.
type sameJitter struct{}

// Uint64 implements rand.Source.
func (sameJitter) Uint64() uint64 { return 1<<62 | 1<<30 }

// explored is what the explorer must know of Paxos with the given quorums.
func explored(first, second int) explore.Protocol {
	return explore.Protocol{
		Name: "paxos", Record: paxos.FromRecord, Phase2Quorum: second,
		Factory: func(m consensustest.Member) (consensus.Core, error) {
			return paxos.New(paxos.Options{
				Replica: m.Replica, HardState: m.HardState, Applied: m.Applied, Config: m.Config, Rand: rand.New(sameJitter{}),
				ElectionTicks: m.ElectionTicks, HeartbeatTicks: m.HeartbeatTicks, Phase1Quorum: first, Phase2Quorum: second,
			}, m.Log)
		},
		Granted: func(m *consensus.Message) bool { return m.Kind == paxos.KindPromise && !m.Reject },
		Acknowledged: func(m *consensus.Message) consensus.Index {
			if m.Kind == paxos.KindAccepted && !m.Reject {
				return m.Index
			}
			return 0
		},
		Proposed: func(m *consensus.Message) []consensus.Entry {
			if m.Kind == paxos.KindAccept {
				return m.Entries
			}
			return nil
		},
	}
}

func TestExploreGroup(t *testing.T) {
	explore.Run(t, explored(0, 0), explore.Settings(), groupFlags.Limits())
}
