package raft_test

import (
	"crypto/rand"
	"io"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/explore"
	"github.com/quoratedb/quorate/consensus/raft"
)

var exploreFlags = explore.RegisterFlags()

// explored is what the explorer must know of Raft.
var explored = explore.Protocol{
	Name: "raft", Factory: factory, RaftLogs: true,
	Granted: func(m *consensus.Message) bool {
		return (m.Kind == raft.KindVoteResponse || m.Kind == raft.KindHandOverVote) && !m.Reject
	},
	Acknowledged: func(m *consensus.Message) consensus.Index {
		if m.Kind == raft.KindAppendResponse && !m.Reject {
			return m.Index
		}
		return 0
	},
}

// sameJitter makes all election timeouts the same, so that a core does the same whenever it is given the same.
func sameJitter(t *testing.T) {
	before := rand.Reader
	rand.Reader = zeros{}
	t.Cleanup(func() { rand.Reader = before })
}

type zeros struct{}

var _ io.Reader = zeros{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestExplore(t *testing.T) {
	sameJitter(t)
	explore.Run(t, explored, explore.Settings(), exploreFlags.Limits())
}

func TestExploreReplays(t *testing.T) {
	sameJitter(t)
	explore.RunSamples(t, explored, fixture)
}
