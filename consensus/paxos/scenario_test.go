package paxos_test

import (
	"testing"

	"github.com/quoratedb/quorate/consensus/consensustest"
)

// TestScenarios runs the corpus that every protocol must satisfy.
func TestScenarios(t *testing.T) {
	consensustest.RunScenarios(t, "../consensustest/testdata", fixtureWith(1, 0, 0))
}
