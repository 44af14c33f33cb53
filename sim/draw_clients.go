package sim

import (
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/sim/workload"
)

// anyPlace are the workloads that are at home in any plan; see addHoppers, addBulk, addSlow and scenes for the others.
func anyPlace() (names []string) {
	for _, w := range workload.All() {
		if !w.Special {
			names = append(names, w.Name)
		}
	}
	return names
}

func drawClients(random *rand.Rand, names []string) []ClientPlan {
	if names == nil {
		names = anyPlace()
	}
	if len(names) == 0 {
		return nil
	}
	chosen := make([]string, 1+random.IntN(min(3, len(names))))
	for i := range chosen {
		chosen[i] = names[random.IntN(len(names))]
	}
	var clients []ClientPlan
	for i := range 2 + random.IntN(4) {
		clients = append(clients, ClientPlan{Number: i + 1, Workload: chosen[i%len(chosen)]})
	}
	return clients
}

// addBulk puts clients whose requests meet the bounds of a request into runs that have some.
func (p *Plan) addBulk() {
	if b := &p.Limits.Bounds; b.MaxRequestEffectBytes == 0 && b.PoorClients == 0 && b.MaxKeysPerExpiry == 0 {
		return
	}
	p.replaceClients(2, "bulk")
}

// replaceClients gives the last clients another workload: more clients would make all runs slower.
func (p *Plan) replaceClients(count int, name string) {
	for i := max(0, len(p.Clients)-count); i < len(p.Clients); i++ {
		p.Clients[i].Workload = name
	}
}

// slowShare: one run in so many has clients that read slowly.
const slowShare = 8

// addSlow puts clients that read slowly into some runs; they write what they read, too.
func (p *Plan) addSlow() {
	if random := rand.New(rand.NewPCG(p.Seed, sourceSlow)); random.IntN(slowShare) == 0 {
		p.replaceClients(2, pick(random, "stream", "echo"))
	}
}

// addHoppers adds clients that notice when a leader answers from what it should not rely on, where a fault makes that likely.
func (p *Plan) addHoppers() {
	if !slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind.deposing() || f.Kind.plotted() || f.Kind == FaultSlowDisk }) {
		return
	}
	for range 3 {
		p.Clients = append(p.Clients, ClientPlan{Number: len(p.Clients) + 1, Workload: "hop"})
	}
}

// edgeShare: one run in so many has clients that use the end of all keys.
const edgeShare = 10

// addEdge puts them in.
func (p *Plan) addEdge() {
	if rand.New(rand.NewPCG(p.Seed, sourceEdge)).IntN(edgeShare) == 0 && !slices.ContainsFunc(p.Clients, func(c ClientPlan) bool { return c.Workload == "bulk" }) {
		p.replaceClients(3, "edge")
	}
}
