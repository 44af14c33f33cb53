package sim

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestShards: clusters with several groups pass, each group has a history of its own, and what only several groups show does happen.
func TestShards(t *testing.T) {
	marks, runs := map[string]int{}, uint64(24)
	if testing.Short() {
		runs = 10
	}
	for _, protocol := range []Protocol{Raft, Paxos} {
		for seed := uint64(1); seed <= runs; seed++ {
			o := PlanOptions{Protocol: protocol, Shards: []int{2, 4, 16}[seed%3]}
			if seed%4 == 0 {
				o.Nodes, o.Faults = 5, []FaultKind{FaultRemove, FaultUnreadable, FaultCrash}
			}
			r := Run(NewPlan(seed, o), RunOptions{})
			if r.Verdict != Passed {
				report(t, r)
			}
			add(marks, r.Marks)
		}
	}
	if testing.Short() {
		return
	}
	for _, name := range []string{
		"asked for a shard that is not here", "frame of a shard that is not here", "group added to a running node", "group failed alone", "group removed",
		"rows of a removed group deleted",
	} {
		if marks[name] == 0 {
			t.Errorf("no run came to %q", name)
		}
	}
}

// TestOwnHistory: what a group's clients saw is not in another's history.
func TestOwnHistory(t *testing.T) {
	p := NewPlan(1, PlanOptions{Protocol: Raft, Nodes: 3, Shards: 3, Faults: []FaultKind{}, Duration: time.Second, Workloads: []string{"counter"}})
	p.Homes, p.Clients = nil, []ClientPlan{{Number: 1, Workload: "counter", Shard: 1}, {Number: 2, Workload: "counter", Shard: 3}}
	w := newWorld(p, RunOptions{})
	defer w.finish()
	if w.run(); w.verdict != "" {
		t.Fatal(w.problem)
	}
	for i, client := range []int{1, 0, 2} {
		g := w.groups[i]
		wrote := slices.ContainsFunc(g.truth.events, func(e kv.Event) bool {
			return e.Type == kv.EventPut && !strings.HasPrefix(string(e.KV.Key), "background")
		})
		if wrote != (client != 0) {
			t.Errorf("shard %d: somebody wrote: %v", g.id, wrote)
		}
		for _, o := range g.history.Operations {
			if o.Client != client && o.Client < firstAside {
				t.Errorf("shard %d: the history has a request of client %d", g.id, o.Client)
			}
		}
	}
}

// TestPlansWithShards: every shard of a small plan has a client, or is idle because the plan says so; homes are nodes that there are.
func TestPlansWithShards(t *testing.T) {
	several, parted, idle := 0, 0, 0
	for seed := uint64(1); seed <= 500; seed++ {
		p := NewPlan(seed, PlanOptions{Partition: NoPartition})
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.Shards == 0 {
			continue
		}
		several++
		if p.Homes != nil {
			parted++
		}
		for shard := 1; shard <= p.Shards; shard++ {
			if !slices.ContainsFunc(p.Clients, func(c ClientPlan) bool { return c.Shard == shard }) {
				idle++
			}
		}
	}
	if several < 60 || several > 140 || parted == 0 || idle == 0 || idle > several {
		t.Errorf("of 500 plans %d have several shards, %d of them some nodes that hold some only; %d shards have no client", several, parted, idle)
	}
	if p := NewPlan(1, PlanOptions{Shards: MaxShards}); len(p.Clients) > 20 {
		t.Errorf("%d shards have %d clients", p.Shards, len(p.Clients))
	}
}

// TestOneShardIsOneShard: to ask for one shard gives the plan that a seed which draws one has.
func TestOneShardIsOneShard(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		if p := NewPlan(seed, PlanOptions{}); p.Shards == 0 {
			if q := NewPlan(seed, PlanOptions{Shards: 1}); q.Shards != 0 || len(q.Faults) != len(p.Faults) || len(q.Clients) != len(p.Clients) {
				t.Errorf("seed %d: %d shards, %d faults and %d clients instead of %d and %d", seed, q.Shards, len(q.Faults), len(q.Clients), len(p.Faults), len(p.Clients))
			}
		}
	}
}

// TestPlansOfStores: some seeds are about one store, and then as if that had been asked for; no other seed is changed by that, and no option but the seed draws it.
func TestPlansOfStores(t *testing.T) {
	kinds, census, aimed := map[string]int{}, 0, 0
	for seed := uint64(1); seed <= 400; seed++ {
		p := NewPlan(seed, PlanOptions{})
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.Partition == nil {
			if !reflect.DeepEqual(p, NewPlan(seed, PlanOptions{Partition: NoPartition})) {
				t.Errorf("seed %d is not about one store, and is another with --partition none", seed)
			}
			continue
		}
		kinds[p.Partition.Kind]++
		if p.Shards < 2 || p.Shards > 16 || !reflect.DeepEqual(p, NewPlan(seed, PlanOptions{Partition: p.Partition.Kind, Shards: p.Shards})) {
			t.Errorf("seed %d has %d shards, or is another if that is asked for", seed, p.Shards)
		}
		if slices.ContainsFunc(p.Clients, func(c ClientPlan) bool { return c.Workload == "census" }) {
			census++
		}
		if len(p.Faults) > 0 && !slices.ContainsFunc(p.Faults, func(f Fault) bool {
			return !slices.Contains(storeFaults, f.Kind) && !slices.Contains(commitFaults, f.Kind) && f.Kind != FaultAnchorSilent
		}) {
			aimed++
		}
		for _, o := range []PlanOptions{{Partition: NoPartition}, {Shards: 1}, {Shards: 4}, {Workloads: []string{"set"}}, {Faults: []FaultKind{FaultCrash}}} {
			if NewPlan(seed, o).Partition != nil {
				t.Errorf("seed %d is about one store although %+v was asked for", seed, o)
			}
		}
	}
	if kinds[ByRange] < 20 || kinds[ByHash] < 20 || kinds[ByRange]+kinds[ByHash] > 150 || census < 15 || aimed < 6 {
		t.Errorf("of 400 seeds %v are about one store, %d of them with a census, %d with faults of a store only", kinds, census, aimed)
	}
}
