package server

import (
	"fmt"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/partition"
)

// settings are what a cluster keeps as it was created: it is the same on all its nodes, and for ever. What is zero was not said.
type settings struct {
	consensus Consensus
	quorums   Quorums
	partition partition.Scheme
	commit    CommitProtocol
}

func (c ClusterOptions) settings() settings {
	return settings{consensus: c.Consensus, quorums: c.Quorums, partition: c.Partition, commit: c.CommitProtocol}
}

// takeOver is the cluster's options with the settings that it was created with, as far as what was said does not contradict. Where it does, it stays, and
// whoever compares refuses it by its name.
func (c ClusterOptions) takeOver(kept settings) ClusterOptions {
	given := settings{}
	if c.given != nil {
		given = *c.given
	}
	if agrees(given.consensus, kept.consensus) && agrees(given.quorums.Phase1, kept.quorums.Phase1) && agrees(given.quorums.Phase2, kept.quorums.Phase2) {
		c.Consensus, c.Quorums = kept.consensus, kept.quorums
	}
	if partitionAgrees(given.partition, kept.partition) {
		c.Partition = kept.partition
	}
	if agrees(given.commit, kept.commit) || kept.partition.Shards <= 1 {
		c.CommitProtocol = kept.commit
	}
	return c
}

// agrees tells whether nothing was said, or what is so.
func agrees[T comparable](said, is T) bool {
	var nothing T
	return said == nothing || said == is
}

func partitionAgrees(said, is partition.Scheme) bool {
	if is.Shards <= 1 {
		// However one shard would be partitioned, it is one.
		return said.Shards <= 1 && len(said.SplitKeys) == 0
	}
	return agrees(said.Kind, is.Kind) && agrees(said.Shards, is.Shards) && agrees(said.HashPrefix, is.HashPrefix) &&
		(len(said.SplitKeys) == 0 || partition.FormatKeys(said.SplitKeys) == partition.FormatKeys(is.SplitKeys))
}

// settingsOf reads those that a data directory keeps, or that another node says it has.
func settingsOf(protocol datadir.Protocol, shards, commit string) (kept settings, err error) {
	kept = settings{consensus: Consensus(protocol.Name), quorums: Quorums{protocol.Phase1, protocol.Phase2}, partition: partition.Single(), commit: Commit2PC}
	if shards == "" {
		return kept, nil
	}
	kept.commit = CommitProtocol(commit)
	kept.partition, err = partition.ParseFlags(shards)
	return kept, err
}

// settingsTold reads those that another node says it has when it is asked for the list of members.
func settingsTold(metadata []byte) (settings, error) {
	text, shards, commit := splitMetadata(metadata)
	protocol, err := datadir.ParseProtocol(text)
	if err != nil {
		return settings{}, err
	}
	kept, err := settingsOf(protocol, shards, commit)
	if err == nil && kept.consensus != ConsensusRaft && kept.consensus != ConsensusPaxos {
		err = fmt.Errorf("%q is no protocol that this version knows", kept.consensus)
	}
	return kept, err
}
