package sim

import (
	"math/rand/v2"
	"time"
)

// plotShare: one run in so many has plots of one kind and nothing else, so that they come off.
const plotShare = 5

// plotOdds is what plots have, compared with other kinds, in runs with faults of all kinds: while one is under way, it decides alone who reaches whom.
const plotOdds = 0.2

// plots are the kinds, some more than once.
var plots = []FaultKind{FaultAmnesia, FaultAmnesia, FaultUnnoticed, FaultUnnoticed, FaultRival, FaultFigureEight, FaultFigureEight,
	FaultSuccession, FaultLeftBehind, FaultUsurper, FaultUsurper, FaultSecondVote}

// conspire makes some plans into what plots need: few nodes, clients with short requests, small logs and messages.
func (p *Plan) conspire(o PlanOptions) []FaultKind {
	random := rand.New(rand.NewPCG(p.Seed, sourcePlot))
	if random.IntN(plotShare) != 0 || o.Nodes != 0 && !umpired(p) {
		return nil
	}
	if o.Nodes == 0 {
		p.Nodes = pick(random, 3, 3, 3, 5)
	}
	if o.Duration == 0 {
		p.Duration = 4*time.Second + time.Duration(random.Int64N(int64(2*time.Second)))
	}
	kind := pick(random, plots...)
	p.Limits.MaxMessageBytes = pick(random, 1, 256, 1<<20)
	p.Limits.RetainLogEntries = pick(random, uint64(4), 4, 60)
	p.Limits.FlushLogBytes = pick(random, int64(1<<10), 1<<20)
	switch kind {
	case FaultLeftBehind:
		p.Limits.RetainLogEntries, p.Limits.FlushLogBytes = 4, 1<<10
	case FaultFigureEight:
		p.Limits.MaxMessageBytes = 1 // one entry a message: the umpire gets the old one without those of the new term
	}
	if o.Workloads == nil {
		p.Clients = p.Clients[:1]
	}
	return []FaultKind{kind}
}
