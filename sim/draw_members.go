package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// membersShare: one run in so many, of those that nothing else is arranged for, has an operator who replaces nodes.
const membersShare = 12

// addMembers has an operator replace nodes, again and again. It draws from a source of its own, so that other runs stay what they are.
func (p *Plan) addMembers() {
	random := rand.New(rand.NewPCG(p.Seed, sourceMembers<<32|1))
	if random.IntN(membersShare) != 0 || !everywhere(p) || p.Phase1Quorum != 0 || p.Phase2Quorum != 0 {
		return
	}
	for at := p.Duration / 8; at < p.Duration; at += time.Second + time.Duration(random.Int64N(int64(time.Second))) {
		f := Fault{At: at.Round(time.Microsecond), Kind: FaultMember, Seed: random.Uint64(), Duration: time.Duration(random.Int64N(int64(time.Second)))}
		if random.IntN(2) == 0 {
			f.Node = 1 + random.IntN(p.Nodes)
		}
		p.Faults = append(p.Faults, f)
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
}
