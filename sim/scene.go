package sim

import (
	"math/rand/v2"
	"slices"
	"time"
)

// scene is a kind of run that is set up for one thing, which would come together too rarely by chance: few faults of one kind, the limits under
// which they have an effect, and the clients that would notice. Everything is in the plan like anything else.
type scene struct {
	name     string
	protocol Protocol // "": any
	nodes    []int    // to choose from; nil: any that the faults can do with
	limits   func(*Limits, *rand.Rand)
	clients  func(*Plan) []string // their workloads
	faults   []FaultKind
	amount   func(*rand.Rand) float64 // of the faults; nil: as for any
	// leaders: all faults are of whoever leads.
	leaders bool
	// denser multiplies how often the faults happen.
	denser float64
}

// sceneShare: one run in so many is a scene.
const sceneShare = 5

var scenes = []scene{
	{
		name: "left behind", nodes: []int{3, 5, 5}, faults: []FaultKind{FaultMinority}, amount: between(3, 20),
		limits: func(l *Limits, random *rand.Rand) {
			l.RetainLogEntries, l.FlushLogBytes, l.FlushChunkRows, l.MaxDirtyKeys = 4, 1<<10, 64, 1000
			l.MaxInflight, l.WatchRingRecords = pick(random, 2, 8, 8), 1000
		},
		clients: func(p *Plan) []string { return append(repeat("patient", 2*p.Nodes), repeat("listen", p.Nodes)...) },
	},
	{
		name: "outvoted", nodes: []int{5, 5, 3}, faults: []FaultKind{FaultOutvote},
		clients: func(p *Plan) []string { return repeat("hop", 6) },
	},
	{
		name: "lost slot", protocol: Paxos, nodes: []int{3, 5}, faults: []FaultKind{FaultLostSlot},
		limits: func(l *Limits, random *rand.Rand) {
			l.RetainLogEntries, l.MaxInflight, l.MaxMessageBytes = 1000, pick(random, 2, 3, 3), 1<<20
		},
		clients: func(p *Plan) []string { return repeat("patient", 2*p.Nodes) },
	},
	{
		name: "renewed promise", nodes: []int{3, 3, 5}, faults: []FaultKind{FaultRenew},
		clients: func(p *Plan) []string { return repeat("hop", 4) },
	},
	{
		name: "forgotten promise", nodes: []int{3, 3, 5}, faults: []FaultKind{FaultForgetPromise},
		clients: func(p *Plan) []string { return repeat("hop", 2) },
	},
	{
		name: "far follower", nodes: []int{3, 5}, faults: []FaultKind{FaultDelay}, amount: between(1, 8), denser: 3, leaders: true,
		clients: func(p *Plan) []string { return repeat("hop", 6) },
	},
	{
		name: "broken connections", nodes: []int{2, 3, 5}, faults: []FaultKind{FaultBreak}, denser: 3,
		clients: func(p *Plan) []string { return repeat("patient", 6) },
	},
	{
		name: "flush", faults: []FaultKind{},
		limits: func(l *Limits, random *rand.Rand) {
			l.FlushLogBytes, l.FlushChunkRows, l.MaxDirtyKeys = 1<<10, 1, pick(random, 12, 1000)
		},
		clients: func(p *Plan) []string { return append(repeat("patient", 6), "register", "register", "pages", "sweep") },
	},
	{
		name: "refused late", faults: []FaultKind{FaultSlowDisk, FaultTransfer},
		limits: func(l *Limits, random *rand.Rand) {
			l.MaxInflight, l.RoundLooks = pick(random, 2, 3, 8), 0
			l.Bounds.MaxRequestEffectBytes, l.Bounds.PoorClients = pick(random, 450, 450, 150), pick(random, 0, 4)
		},
		clients: func(*Plan) []string { return append(repeat("bulk", 6), "register") },
	},
	{
		name: "reads while a snapshot is installed", nodes: []int{3, 3, 5}, faults: []FaultKind{FaultIsolate, FaultCrash}, denser: 6,
		limits: func(l *Limits, random *rand.Rand) {
			l.RetainLogEntries, l.FlushLogBytes, l.FlushChunkRows, l.MaxDirtyKeys = 4, 1<<10, 64, pick(random, 3, 12)
			l.RoundLooks, l.Bounds = 0, Bounds{CacheBytes: pick(random, -1, int64(256)), LogSegmentBytes: l.Bounds.LogSegmentBytes}
		},
		clients: func(p *Plan) []string {
			return append(repeat("stay", 2*p.Nodes), "patient", "patient", "patient", "patient", "compaction", "compaction", "stream", "echo")
		},
	},
	{
		name: "answers to the process before", nodes: []int{3, 3, 5}, faults: []FaultKind{FaultBounce}, denser: 4, amount: between(60, 200),
		clients: func(p *Plan) []string { return append(repeat("patient", 3*p.Nodes), "hop", "hop") },
	},
	{
		name: "leases due", nodes: []int{3, 3, 5}, faults: []FaultKind{FaultSlowDisk, FaultDelay}, denser: 2,
		limits: func(l *Limits, random *rand.Rand) {
			l.MaxInflight, l.Bounds.MaxKeysPerExpiry = pick(random, 2, 8), pick(random, 0, 0, 1)
		},
		clients: func(p *Plan) []string { return append(repeat("due", 8), "patient") },
	},
	{
		name: "old disks", nodes: []int{3, 5}, faults: []FaultKind{FaultOldDisk, FaultWipe}, denser: 2,
		clients: func(p *Plan) []string { return append(repeat("patient", 4), "register") },
	},
}

func repeat(name string, n int) []string { return slices.Repeat([]string{name}, n) }

// stage makes the plan one of a scene, now and then.
func (p *Plan) stage(o PlanOptions) {
	random := rand.New(rand.NewPCG(p.Seed, sourceScene))
	if random.IntN(sceneShare) != 0 {
		return
	}
	s := &scenes[random.IntN(len(scenes))]
	if s.protocol != "" {
		if o.Protocol != "" && o.Protocol != s.protocol {
			return
		}
		p.Protocol = s.protocol
	}
	if s.nodes != nil {
		nodes := pick(random, s.nodes...)
		if o.Nodes != 0 && o.Nodes != nodes {
			return
		}
		p.Nodes = nodes
	}
	p.Scene = s.name
	override(&p.Duration, o.Duration)
	if s.limits != nil {
		s.limits(&p.Limits, random)
	}
	p.Clients = nil
	for i, name := range s.clients(p) {
		p.Clients = append(p.Clients, ClientPlan{Number: i + 1, Workload: name})
	}
	longer := *p
	if s.denser > 0 {
		longer.Duration = time.Duration(float64(p.Duration) * s.denser)
	}
	p.Faults = drawFaults(random, &longer, s.faults)
	for i := range p.Faults {
		if s.leaders {
			p.Faults[i].Node = 0
		}
		if s.amount != nil {
			p.Faults[i].Amount = s.amount(random)
		}
		p.Faults[i].At = time.Duration(float64(p.Faults[i].At) * float64(p.Duration) / float64(longer.Duration))
	}
}
