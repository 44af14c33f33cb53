package raft_test

import (
	"testing"

	"github.com/quoratedb/quorate/consensus/consensustest"
)

// BenchmarkCommit measures what an entry costs the cores of three replicas.
func BenchmarkCommit(b *testing.B) { consensustest.BenchmarkCommit(b, factory) }
