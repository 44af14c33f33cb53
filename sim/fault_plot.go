package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
)

// Plots with two sides and an umpire between them, which makes a quorum of either and does not campaign: as in fault_duel.go, but each turn
// ends exactly when what it is for has happened. "Its side" is that of Node, the leader; the umpire is another node, and each of its syncs takes
// Amount ms most of the time. They need an odd number of nodes.
const (
	// FaultRival leaves Node with entries that nobody else has, lets the other side decide something in their place, and brings Node's side back
	// before the umpire hears that it is decided.
	FaultRival FaultKind = "rival"
	// FaultFigureEight is figure 8 of the Raft paper: Node is left with an entry of its own, a leader of the other side with another one in the same
	// place; Node's side spreads its entry with the umpire, and the other side comes back.
	FaultFigureEight FaultKind = "figure-eight"
	// FaultSuccession has the other side take over from Node's as soon as Node has decided something, of which the umpire has heard at most
	// that it was proposed.
	FaultSuccession FaultKind = "succession"
	// FaultLeftBehind has the other side take over when the umpire does not remember any more what that side has missed.
	FaultLeftBehind FaultKind = "left-behind"
	// FaultUsurper has the other side elect a leader while Node still leads, crashes the umpire at that moment and brings it back to Node.
	FaultUsurper FaultKind = "usurper"
	// FaultSecondVote crashes Node, which is the umpire itself, has one side elect a leader, crashes the umpire at that moment, and lets
	// the other side, which has heard of nothing, ask it for votes.
	FaultSecondVote FaultKind = "second-vote"
)

// turn is a time for which one side reaches the umpire.
type turn struct {
	side  int // 0 or 1; nobody: the umpire is alone
	until ending
	crash bool // the umpire crashes at its end
}

// ending is what ends a turn.
type ending int

const (
	leftAlone  ending = iota // the first side has entries that the umpire has not
	elected                  // somebody of the side leads
	decided                  // somebody of the side is the first to apply an entry
	forgotten                // the umpire has cut its log beyond what the second side has
	leaderless               // the umpire follows nobody
)

var contests = map[FaultKind][]turn{
	FaultRival:       {{side: nobody, until: leftAlone}, {side: 1, until: decided}, {side: 0, until: decided}},
	FaultFigureEight: {{side: nobody, until: leftAlone}, {side: 1, until: elected}, {side: 0, until: decided}, {side: 1, until: decided}},
	FaultSuccession:  {{side: 0, until: decided}, {side: 1, until: decided}},
	FaultLeftBehind:  {{side: 0, until: forgotten}, {side: nobody, until: leaderless}, {side: 1, until: decided}},
	FaultUsurper:     {{side: 1, until: elected, crash: true}, {side: 0, until: decided}, {side: 1, until: decided}},
	FaultSecondVote:  {{side: 0, until: elected, crash: true}, {side: 1, until: decided}},
}

// longestTurn is enough for an election of which the first attempts fail.
const longestTurn = 2 * time.Second

func (w *world) injectPlot(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultAmnesia:
		w.beginPlot(f, random, func(p *plot) { p.amnesia(f, n) })
	case FaultUnnoticed:
		w.beginPlot(f, random, func(p *plot) { p.unnoticed(n) })
	default:
		turns, found := contests[f.Kind]
		if !found {
			return false
		}
		if len(w.group(f.Shard).nodes())%2 == 1 {
			w.beginPlot(f, random, func(p *plot) { p.contest(f, n, turns) })
		}
	}
	return true
}

// plotted tells whether the fault is a plot.
func (k FaultKind) plotted() bool {
	_, contest := contests[k]
	return contest || k == FaultAmnesia || k == FaultUnnoticed
}

// contest lets the sides take turns.
func (p *plot) contest(f *Fault, leader *node, turns []turn) {
	w := p.w
	members, others := p.group.nodes(), p.group.others(leader)
	p.shuffle(others)
	umpire, sides := others[0], [2][]*node{{leader}}
	rest := others[1:]
	if f.Kind == FaultSecondVote {
		umpire, sides[0], rest = leader, nil, others
	}
	for _, n := range rest {
		side := 0
		if len(sides[0]) > len(members)/2-1 {
			side = 1
		}
		sides[side] = append(sides[side], n)
	}
	p.mute, p.refusing = umpire, p.random.IntN(4) > 0
	down := p.between(2*time.Millisecond, 30*time.Millisecond)
	if p.random.IntN(3) > 0 {
		p.slow(umpire, milliseconds(f.Amount))
	}
	p.until(200*time.Millisecond, p.group.level)
	if f.Kind == FaultSecondVote {
		p.crash(umpire, down)
	}
	for _, t := range turns {
		p.divide(func(n *node) int {
			switch {
			case n == umpire:
				return t.side
			case slices.Contains(sides[0], n):
				return 0
			}
			return 1
		})
		if p.until(longestTurn, p.ending(t, sides, umpire)) {
			w.mark("turn ended as planned")
		} else {
			w.mark("turn took too long")
		}
		if t.crash {
			p.divide(func(*node) int { return nobody })
			p.crash(umpire, down)
		}
	}
}

// level tells whether all logs end with the same entry.
func (g *group) level() bool {
	nodes := g.nodes()
	return !slices.ContainsFunc(nodes, func(n *node) bool { return g.of(n).logEnd() != g.of(nodes[0]).logEnd() })
}

func (p *plot) ending(t turn, sides [2][]*node, umpire *node) func() bool {
	of := p.group.of
	switch t.until {
	case leftAlone:
		return func() bool { return of(sides[0][0]).logEnd() > of(umpire).logEnd() }
	case elected:
		return p.elected(sides[t.side])
	case leaderless:
		return func() bool {
			if of(umpire).replica == nil {
				return true
			}
			leader, _ := of(umpire).replica.Leader()
			return leader == 0
		}
	case forgotten:
		var end consensus.Index
		for _, n := range sides[1] {
			end = max(end, of(n).logEnd())
		}
		return func() bool { return of(umpire).log().First() > end+1 }
	}
	return p.applied(sides[t.side])
}
