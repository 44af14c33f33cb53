package server

import (
	"fmt"

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

// judgePeer tells why a node that runs the other protocol must be kept away: two nodes that count different
// quorums would lose what one of them acknowledged.
func (c ClusterOptions) judgePeer(metadata []byte) string {
	own, other := c.Protocol(), string(metadata)
	if own == other {
		return ""
	}
	return fmt.Sprintf("its consensus protocol is %s and that of the other is %s; give all nodes of a cluster the same --consensus, %s and %s",
		own, other, flagPhase1, flagPhase2)
}
