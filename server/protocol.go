package server

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/quoratedb/quorate/datadir"
)

// Quorums are the sizes of Multi-Paxos' quorums: how many nodes must promise before one leads, and how many must have a write
// on disk before it is acknowledged. 0 stands for a majority. Any two of different phases must meet
// (Howard, Malkhi, Spiegelman: Flexible Paxos, 2016). A cluster keeps what it was created with.
type Quorums struct{ Phase1, Phase2 int }

// The flags that set them, for messages.
const (
	flagPhase1 = "--paxos-phase1-quorum"
	flagPhase2 = "--paxos-phase2-quorum"
)

// sizes are the quorums among so many nodes.
func (q Quorums) sizes(nodes int) (first, second int) {
	first, second = q.Phase1, q.Phase2
	if first == 0 {
		first = nodes/2 + 1
	}
	if second == 0 {
		second = nodes/2 + 1
	}
	return first, second
}

// largest is the size of the larger quorum.
func (q Quorums) largest(nodes int) int {
	first, second := q.sizes(nodes)
	return max(first, second)
}

func (q Quorums) validate(protocol Consensus, nodes int) error {
	if q == (Quorums{}) {
		return nil
	}
	if protocol != ConsensusPaxos {
		return badf("%s and %s are for --consensus=%s: with %s every quorum is a majority", flagPhase1, flagPhase2, ConsensusPaxos, protocol)
	}
	first, second := q.sizes(nodes)
	switch {
	case q.Phase1 < 0 || q.Phase2 < 0:
		return badf("%s=%d and %s=%d must be above 0", flagPhase1, q.Phase1, flagPhase2, q.Phase2)
	case first > nodes:
		return badf("%s=%d: --initial-cluster has only %d nodes", flagPhase1, first, nodes)
	case second > nodes:
		return badf("%s=%d: --initial-cluster has only %d nodes", flagPhase2, second, nodes)
	case first+second <= nodes:
		return badf("a phase-1 quorum of %d and a phase-2 quorum of %d of %d nodes need not have a node in common, so that a new leader could miss what was acknowledged: "+
			"together they must be more than %d (%s=%d with %s=%d, for example)", first, second, nodes, nodes, flagPhase1, nodes+1-second, flagPhase2, second)
	}
	return nil
}

// protocol is the consensus protocol with its quorums.
func (c ClusterOptions) protocol() datadir.Protocol {
	return datadir.Protocol{Name: string(c.Consensus), Phase1: c.Quorums.Phase1, Phase2: c.Quorums.Phase2}
}

// Protocol names the consensus protocol, with its quorums if they are not majorities.
func (c ClusterOptions) Protocol() string { return c.protocol().String() }

// protocols names the consensus protocol and, if there are several shards, the commit protocol.
func (c ClusterOptions) protocols() string {
	if commit := c.commit(); commit != "" {
		return c.Protocol() + ", " + commit
	}
	return c.Protocol()
}

// metadata is what a node says of its cluster when it greets another one: the protocol and, if there are several shards, the flags that make them and that of
// their commit protocol. Nodes of versions before transactions over several shards say no commit protocol; they would not understand what is in the logs.
func (c ClusterOptions) metadata() []byte {
	text := c.Protocol()
	if shards := c.partition(); shards != "" {
		text += " " + shards + " " + flagCommit + "=" + c.commit()
	}
	return []byte(text)
}

// splitMetadata takes what another node said apart; no name of a protocol has a word that begins as flags do, and split keys have no spaces.
func splitMetadata(metadata []byte) (protocol, shards, commit string) {
	protocol, shards, several := strings.Cut(string(metadata), " --")
	if several {
		shards, commit, _ = strings.Cut("--"+shards, " "+flagCommit+"=")
	}
	return protocol, shards, commit
}

// judgePeer tells why a node that runs the other protocol, or has other shards, must be kept away: two nodes that count different
// quorums would lose what one of them acknowledged, and two that have a key in different shards would not find it.
func (c ClusterOptions) judgePeer(metadata []byte) string {
	protocol, shards, commit := splitMetadata(metadata)
	if own := c.Protocol(); own != protocol {
		return fmt.Sprintf("its consensus protocol is %s and that of the other is %s; give all nodes of a cluster the same --consensus, %s and %s",
			own, shortened(protocol), flagPhase1, flagPhase2)
	}
	if own := c.partition(); own != shards {
		return fmt.Sprintf("its shards are those of %s and those of the other are those of %s; give all nodes of a cluster the same %s",
			shortened(cmp.Or(own, "one shard")), shortened(cmp.Or(shards, "one shard")), shardFlags)
	}
	if own := c.commit(); own != commit {
		return fmt.Sprintf("its commit protocol is %s and that of the other is %s; give all nodes of a cluster the same %s, and run the same version on them",
			own, shortened(cmp.Or(commit, "none: it is of a version before transactions over several shards")), flagCommit)
	}
	return ""
}

// shortened keeps a sentence readable, and short enough to be sent. Different texts stay different.
func shortened(text string) string {
	const most = 600
	if len(text) <= most {
		return text
	}
	return text[:most] + fmt.Sprintf("... (%d bytes, CRC-32 %08x)", len(text), crc32.ChecksumIEEE([]byte(text)))
}
