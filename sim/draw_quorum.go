package sim

import (
	"math/rand/v2"
	"slices"
)

// quorumShare: one run of Multi-Paxos in so many has quorums that are no majorities, if nothing in it counts on majorities.
const quorumShare = 2

// quorums are pairs of the first and the second phase, by the number of nodes; 0 stands for a majority.
var quorums = map[int][][2]int{
	3: {{3, 1}, {1, 3}},
	4: {{2, 3}, {0, 2}},
	5: {{4, 2}, {2, 4}},
}

// needsMajorities are faults after which replicas are replaced, or leave and come back: memberships on the way have other sizes.
var needsMajorities = append([]FaultKind{FaultChurn, FaultDouble}, damageKinds...)

// drawQuorums gives some runs other quorums than majorities.
func (p *Plan) drawQuorums() {
	pairs := quorums[p.Nodes]
	random := rand.New(rand.NewPCG(p.Seed, sourceQuorum))
	if random.IntN(quorumShare) != 0 || p.Protocol != Paxos || len(pairs) == 0 || p.Scene != "" {
		return
	}
	// Plots and scenes play with two majorities, and shards on some nodes only have others.
	if p.Homes != nil || slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind.plotted() || slices.Contains(needsMajorities, f.Kind) }) {
		return
	}
	pair := pick(random, pairs...)
	p.Phase1Quorum, p.Phase2Quorum = pair[0], pair[1]
}
