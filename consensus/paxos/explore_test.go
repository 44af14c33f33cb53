package paxos_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/explore"
	"github.com/quoratedb/quorate/consensus/paxos"
)

var exploreFlags = explore.RegisterFlags()

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

// synod leaves out everything but phases 1 and 2.
func synod(budget explore.Budget) explore.Setting {
	return explore.Setting{
		Name: "phases 1 and 2", Voters: 3, HoldSync: true, Candidates: []consensus.ReplicaID{1, 2}, Budget: budget,
		Lost: []consensus.MessageKind{paxos.KindHeartbeat, paxos.KindHeartbeatResponse, paxos.KindLearn, paxos.KindLearned},
	}
}

func TestExplore(t *testing.T) {
	settings := append(explore.Settings(),
		synod(explore.Budget{Campaigns: 2, Proposals: 1}),
		synod(explore.Budget{Campaigns: 3, Proposals: 2, Crashes: 2, Duplicates: 1}))
	explore.Run(t, explored(0, 0), settings, exploreFlags.Limits())
}

// TestExploreFlexible: quorums of different sizes for electing and deciding.
func TestExploreFlexible(t *testing.T) {
	for _, group := range []struct{ voters, first, second int }{{3, 3, 1}, {3, 1, 3}, {4, 3, 2}, {4, 2, 3}, {5, 4, 2}} {
		t.Run(fmt.Sprintf("%d voters, %d elect, %d decide", group.voters, group.first, group.second), func(t *testing.T) {
			explore.Run(t, explored(group.first, group.second), []explore.Setting{
				{Name: "a new leader", Voters: group.voters, Begin: []explore.Action{explore.Campaign(1)}, Candidates: []consensus.ReplicaID{2, 3}, Budget: explore.Budget{Campaigns: 1, Proposals: 2}},
				{Name: "crashes", Voters: group.voters, Begin: []explore.Action{explore.Campaign(1)}, HoldSync: true, Budget: explore.Budget{Campaigns: 2, Proposals: 2, Crashes: 2, Reads: 1}},
			}, exploreFlags.Limits())
		})
	}
}

func TestExploreReplays(t *testing.T) {
	protocol := explored(0, 0)
	explore.RunSamples(t, protocol, consensustest.Options{Factory: protocol.Factory})
}
