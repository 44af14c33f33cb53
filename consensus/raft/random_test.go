package raft_test

import (
	"flag"
	"fmt"
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

var fixture = consensustest.Options{Factory: factory, RaftLogs: true, Describe: describe}

var kindNames = [...]string{"", "append", "append response", "vote?", "vote", "pre-vote?", "pre-vote", "heartbeat", "heartbeat response", "snapshot", "timeout now", "hand over", "hand-over vote"}

// describe prints a message for the scenarios.
func describe(m *consensus.Message) string {
	s := fmt.Sprintf("%d>%d %s term=%d", m.From, m.To, kindNames[m.Kind], m.Term)
	for _, field := range []struct {
		name  string
		value uint64
	}{{"logterm", uint64(m.LogTerm)}, {"index", uint64(m.Index)}, {"commit", uint64(m.Commit)}, {"hint", uint64(m.Hint)}, {"context", m.Context}} {
		if field.value != 0 {
			s += fmt.Sprintf(" %s=%d", field.name, field.value)
		}
	}
	for _, e := range m.Entries {
		s += fmt.Sprintf(" %d/%d:%q", e.Term, e.Index, e.Data)
	}
	if m.Reject {
		s += " refused"
	}
	return s
}

var (
	firstSeed = flag.Uint64("first-seed", 0, "first seed of the random runs")
	seedCount = flag.Uint64("seeds", 60, "number of random runs")
	stepCount = flag.Int("steps", 3000, "events of each random run")
)

func TestRandom(t *testing.T) {
	seeds, steps := *seedCount, *stepCount
	if testing.Short() {
		seeds = 20
	}
	var total consensustest.Coverage
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		cryptotest.SetGlobalRandom(t, seed) // election jitter
		coverage, err := consensustest.RunRandom(fixture, seed, steps)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(coverage)
	}
	t.Logf("%+v", total)
	if n := int(seeds); n >= 10 && (total.Leaderships < n || total.Chosen < 10*n || total.Configs < n || total.Snapshots < n || total.ReadsConfirmed < n || total.ReadsFailed < n/4) {
		t.Errorf("the runs do not cover enough: %+v", total)
	}
}
