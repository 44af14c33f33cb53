package server

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/partition"
)

// What another node, or the data directory, has of the settings is read back as it was, whatever they are.
func TestSettingsTold(t *testing.T) {
	for _, c := range []ClusterOptions{
		{},
		{Consensus: ConsensusPaxos},
		{Consensus: ConsensusPaxos, Quorums: Quorums{4, 2}},
		{Consensus: ConsensusPaxos, Quorums: Quorums{Phase1: 5}, Partition: partition.Scheme{Shards: 3, HashPrefix: 2}, CommitProtocol: Commit3PC},
		{Partition: splitAt("/c", "/f,%"), CommitProtocol: Commit3PC},
	} {
		theirs := Options{Cluster: c}.WithDefaults().Cluster
		told, err := settingsTold(theirs.metadata())
		if err != nil || !reflect.DeepEqual(told, theirs.settings()) {
			t.Errorf("%s is read as %v: %v", theirs.metadata(), told, err)
		}
		// A node that was told nothing becomes like that one, and one that was told the same stays so.
		for _, own := range []ClusterOptions{{}, c} {
			if joined := (Options{Cluster: own}).WithDefaults().WithDefaults().Cluster.takeOver(told); joined.judgePeer(theirs.metadata()) != "" {
				t.Errorf("%s: it became %s", theirs.metadata(), joined.metadata())
			}
		}
	}
	for _, wrong := range []string{"", "raft (", "paxos (phase-1 quorum 0, phase-2 quorum 2)", "paxos (phase-1 quorum majority, phase-2 quorum majority)", "zab",
		"raft --initial-shards=0 --commit-protocol=2pc"} {
		if told, err := settingsTold([]byte(wrong)); err == nil {
			t.Errorf("%q is read as %v", wrong, told)
		}
	}
}

// What was said and is not so is not taken over, but refused by its name; whatever else was not said is taken over all the same.
func TestTakeOverRefuses(t *testing.T) {
	theirs := Options{Cluster: ClusterOptions{Consensus: ConsensusPaxos, Quorums: Quorums{2, 2}, Partition: partition.Scheme{Shards: 3, HashPrefix: 2}, CommitProtocol: Commit3PC}}.WithDefaults().Cluster
	for name, said := range map[string]ClusterOptions{
		"--consensus":           {Consensus: ConsensusRaft},
		"--paxos-phase1-quorum": {Quorums: Quorums{Phase1: 3}},
		"--initial-shards":      {Partition: partition.Scheme{Shards: 2}},
		"--initial-partition":   {Partition: partition.Scheme{Kind: partition.Range}},
		"--initial-split-keys":  {Partition: splitAt("/c", "/f")},
		"--hash-prefix":         {Partition: partition.Scheme{HashPrefix: 1}},
		"--commit-protocol":     {CommitProtocol: Commit2PC},
	} {
		joined := Options{Cluster: said}.WithDefaults().Cluster.takeOver(theirs.settings())
		if why := joined.judgePeer(theirs.metadata()); why == "" {
			t.Errorf("%s: it is not refused", name)
		}
		different := 0
		for _, same := range []bool{joined.Protocol() == theirs.Protocol(), joined.partition() == theirs.partition(), joined.CommitProtocol == theirs.CommitProtocol} {
			if !same {
				different++
			}
		}
		if different != 1 {
			t.Errorf("%s: %d things are others than in the cluster: %s", name, different, fmt.Sprint(joined.settings()))
		}
	}
}
