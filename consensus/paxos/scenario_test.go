package paxos_test

import (
	"testing"

	"github.com/quoratedb/quorate/consensus/consensustest"
)

// TestScenarios runs the corpus that every protocol must satisfy.
func TestScenarios(t *testing.T) {
	consensustest.RunScenarios(t, "../consensustest/testdata", fixtureWith(1, 0, 0))
}

// TestPaxosScenarios runs the texts that are about Paxos.
func TestPaxosScenarios(t *testing.T) {
	consensustest.RunScenarios(t, "testdata/any", fixtureWith(1, 0, 0))
}

// TestFlexibleScenarios runs texts on groups where four elect and two decide.
func TestFlexibleScenarios(t *testing.T) {
	consensustest.RunScenarios(t, "testdata/flexible", fixtureWith(1, 4, 2))
}
