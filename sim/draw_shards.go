package sim

import (
	"math/rand/v2"
	"slices"
)

// MaxShards is how many groups a run may have.
const MaxShards = 64

// shardsShare: one run in so many has several shards.
const shardsShare = 5

// drawShards has most runs do with one shard: what goes wrong in a group goes wrong there, too, and sooner.
func (p *Plan) drawShards(random *rand.Rand, o PlanOptions) {
	if shards := 2 + random.IntN(3); random.IntN(shardsShare) == 0 {
		p.Shards = shards
	}
	if override(&p.Shards, o.Shards); p.Shards == 1 {
		p.Shards = 0 // as it was before there were shards
	}
}

// houses has each node hold some shards only, in half of the runs that have nodes enough. The one that a run is set up for is on all nodes.
func (p *Plan) houses(random *rand.Rand, onAll int) {
	if p.Nodes < 4 || random.IntN(2) == 0 {
		return
	}
	for shard := 1; shard <= p.Shards; shard++ {
		count := pick(random, 3, 3, p.Nodes-1, p.Nodes)
		homes := random.Perm(p.Nodes)
		if shard == onAll {
			count = p.Nodes
		}
		homes = homes[:count]
		for i := range homes {
			homes[i]++
		}
		slices.Sort(homes)
		p.Homes = append(p.Homes, homes)
	}
}

// housed tells whether each shard has homes, ascending, among the nodes.
func (p *Plan) housed() bool {
	if len(p.Homes) != max(p.Shards, 1) {
		return false
	}
	return !slices.ContainsFunc(p.Homes, func(homes []int) bool {
		return len(homes) == 0 || !slices.IsSorted(homes) || homes[0] < 1 || homes[len(homes)-1] > p.Nodes
	})
}

// spread gives clients and faults to shards. set: they belong together, so they stay on one, and others have clients of their own.
func (p *Plan) spread(random *rand.Rand, set bool, workloads []string) {
	if p.Shards < 2 {
		return
	}
	focus := 1 + random.IntN(p.Shards)
	onAll := 0
	if set {
		onAll = focus
	}
	if p.Partition == nil {
		p.houses(random, onAll)
	}
	set = set || random.IntN(3) == 0
	any := func() int {
		if set {
			return focus
		}
		return 1 + random.IntN(p.Shards)
	}
	p.Clients, p.Faults = slices.Clone(p.Clients), slices.Clone(p.Faults)
	for i := range p.Faults {
		p.Faults[i].Shard = any()
	}
	if p.Partition != nil {
		return // a client's keys are where they are
	}
	for i := range p.Clients {
		c := &p.Clients[i]
		if c.Shard = any(); c.Workload == "hop" && len(p.Faults) > 0 { // it notices what a fault does to one leader
			c.Shard = p.Faults[0].Shard
		}
	}
	p.populate(random, workloads)
}

// populated is of how many shards, about, each has a client at least. Idle shards are worth a look, too, and cost little.
const populated = 6

// populate gives shards without clients one, often, of any of the workloads.
func (p *Plan) populate(random *rand.Rand, workloads []string) {
	if len(p.Clients) == 0 {
		return
	}
	if workloads == nil {
		workloads = anyPlace()
	}
	for shard := 1; shard <= p.Shards; shard++ {
		name, idle := pick(random, workloads...), random.Float64() > populated/float64(p.Shards) || random.IntN(8) == 0
		if idle || slices.ContainsFunc(p.Clients, func(c ClientPlan) bool { return c.Shard == shard }) {
			continue
		}
		p.Clients = append(p.Clients, ClientPlan{Number: len(p.Clients) + 1, Workload: name, Shard: shard})
	}
}
