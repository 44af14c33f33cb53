package raft_test

import (
	"testing"

	"github.com/quoratedb/quorate/consensus/consensustest"
)

// TestScenarios runs the corpus that every protocol must satisfy.
func TestScenarios(t *testing.T) { consensustest.RunScenarios(t, "../consensustest/testdata", fixture) }

// TestRaftScenarios runs the texts that hold for Raft only.
func TestRaftScenarios(t *testing.T) { consensustest.RunScenarios(t, "testdata", fixture) }
