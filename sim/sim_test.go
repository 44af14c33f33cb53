package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var (
	firstSeed  = flag.Uint64("first-seed", 1, "first seed of the random runs")
	seedCount  = flag.Uint64("seeds", 240, "number of random runs")
	onlyFaults = flag.String("faults", "", "kinds of faults to use, separated by commas; all others are left out")
	showTrace  = flag.Bool("trace", false, "print the trace of a run that fails")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(800) // as in the worker processes of campaigns
	}
	os.Exit(m.Run())
}

// TestSeeds runs plans of all kinds. Reproduce one with -run TestSeeds -first-seed=N -seeds=1.
func TestSeeds(t *testing.T) {
	count := *seedCount
	if testing.Short() {
		count = min(count, 150) // quorate sim runs the same plans; this is about what they cover
	}
	marks, operations, faults := map[string]int{}, map[string]int{}, map[string]int{}
	var virtual time.Duration
	began := time.Now()
	for seed := *firstSeed; seed < *firstSeed+count; seed++ {
		r := Run(NewPlan(seed, planOptions()), RunOptions{})
		if r.Verdict != Passed {
			report(t, r)
		}
		add(marks, r.Marks)
		add(operations, r.Operations)
		add(faults, r.Faults)
		virtual += r.Time
	}
	cover(t, int(count), marks, operations)
	t.Logf("%d runs, %s of virtual time, %.0f times as fast as real time\noperations %v\nfaults %v\nmarks %v",
		count, seconds(virtual), virtual.Seconds()/time.Since(began).Seconds(), operations, faults, marks)
}

// leastPer100Runs is what must be covered, or a change of the simulator or of a workload has silently taken the point out of it.
var leastPer100Runs = map[string]int{
	"crash": 120, "crash at an effect": 40, "stopped by its disk": 20, "node lost its data": 5, "damage": 10, "replica rebuilt": 5, "whole again": 3,
	"leader elected": 150, "node lost": 200, "connection broke": 300, "slow sync": 3, "work beside the rounds": 1000,
	"snapshot installed": 8, "compaction": 50, "hashes of a compaction compared": 20, "read under the lease": 500, "barrier asked": 500, "call forwarded": 1000,
	"call tried again": 10, "renewed without the log": 300, "lease renewed late": 4, "lease renewed too late": 1, "writes of unknown outcome": 30, "watch detached": 2, "watch caught up from history": 10,
	"watch caught up from memory": 10, "watch events": 200, "acknowledged": 10000, "refused": 300, "unknown": 100,
}

func cover(t *testing.T, runs int, marks, operations map[string]int) {
	t.Helper()
	if runs < 100 || *onlyFaults != "" {
		return
	}
	for name, least := range leastPer100Runs {
		if got := marks[name] + operations[name]; got*100 < least*runs {
			t.Errorf("%d runs covered %q %d times, at least %d are expected", runs, name, got, least*runs/100)
		}
	}
}

func planOptions() (o PlanOptions) {
	if *onlyFaults != "" {
		for _, kind := range strings.Split(*onlyFaults, ",") {
			o.Faults = append(o.Faults, FaultKind(kind))
		}
	}
	return o
}

func report(t *testing.T, r Result) {
	t.Helper()
	t.Errorf("seed %d (%s, %d nodes): %s: %s", r.Plan.Seed, r.Plan.Protocol, r.Plan.Nodes, r.Verdict, r.Problem)
	if *showTrace {
		var trace bytes.Buffer
		Run(r.Plan, RunOptions{Trace: &trace})
		t.Log("\n" + trace.String())
	}
}

func add(sum, more map[string]int) {
	for name, count := range more {
		sum[name] += count
	}
}

// TestSameSeedSameTrace runs plans twice, once with somebody reading along.
func TestSameSeedSameTrace(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for _, protocol := range []Protocol{Raft, Paxos} {
		for seed := uint64(1); seed <= seeds; seed++ {
			p := NewPlan(seed, PlanOptions{Protocol: protocol})
			var trace bytes.Buffer
			first, second := Run(p, RunOptions{}), Run(p, RunOptions{Trace: &trace})
			if first.Hash != second.Hash || first.Events != second.Events || first.Time != second.Time {
				t.Errorf("%s, seed %d: %d events and hash %x, the second time %d and %x", protocol, seed, first.Events, first.Hash, second.Events, second.Hash)
			}
			if trace.Len() == 0 {
				t.Error("the trace is empty")
			}
		}
	}
}

// TestClocksMatter breaks what leases for reads rest on: clocks that run at about the same rate. The world must notice.
func TestClocksMatter(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		p := NewPlan(seed, PlanOptions{Nodes: 3, Faults: []FaultKind{}, Duration: 4 * time.Second, Workloads: []string{"register"}})
		p.ReadQuorum = false
		for at := 500 * time.Millisecond; at < p.Duration; at += 400 * time.Millisecond {
			p.Faults = append(p.Faults, Fault{At: at, Kind: FaultIsolate, Duration: 200 * time.Millisecond})
			for node := 1; node <= 3; node++ {
				p.Faults = append(p.Faults, Fault{At: at + time.Duration(node)*time.Millisecond, Kind: FaultClockRate, Node: node,
					Duration: 300 * time.Millisecond, Amount: []float64{-0.9, 20, 20}[(node+int(seed))%3]})
			}
		}
		if r := Run(p, RunOptions{}); r.Verdict == Correctness {
			t.Logf("seed %d: %.300s", seed, r.Problem)
			return
		}
	}
	t.Error("clocks ran wild, and nobody noticed a lease or a read that was wrong")
}

func TestBadPlans(t *testing.T) {
	for name, spoil := range map[string]func(*Plan){
		"no nodes":         func(p *Plan) { p.Nodes = 0 },
		"too many nodes":   func(p *Plan) { p.Nodes = 8 },
		"unknown protocol": func(p *Plan) { p.Protocol = "zab" },
		"unknown engine":   func(p *Plan) { p.Engine = "paper" },
		"no time":          func(p *Plan) { p.Duration = 0 },
		"unknown workload": func(p *Plan) { p.Clients = []ClientPlan{{Number: 1, Workload: "none"}} },
		"too many shards":  func(p *Plan) { p.Shards = MaxShards + 1 },
		"no such shard":    func(p *Plan) { p.Shards, p.Clients = 2, []ClientPlan{{Number: 1, Workload: "register", Shard: 3}} },
		"homes for some":   func(p *Plan) { p.Shards, p.Homes = 2, [][]int{{1}} },
		"no such home":     func(p *Plan) { p.Shards, p.Homes = 2, [][]int{{1}, {p.Nodes + 1}} },
		"no home":          func(p *Plan) { p.Shards, p.Homes = 2, [][]int{{1}, {}} },
		"unknown fault":    func(p *Plan) { p.Faults = []Fault{{Kind: "meteorite"}} },
	} {
		p := NewPlan(1, PlanOptions{Duration: time.Second})
		spoil(&p)
		if r := Run(p, RunOptions{}); r.Verdict != Crash || r.Problem == "" {
			t.Errorf("%s: %s %s", name, r.Verdict, r.Problem)
		}
	}
}

func TestRestrict(t *testing.T) {
	p := NewPlan(7, PlanOptions{Nodes: 3, Faults: []FaultKind{FaultCrash, FaultPause, FaultIsolate}, Duration: 5 * time.Second})
	less := p.Restrict(Restrict{Clients: []int{1}, Faults: []int{0, 1}, Duration: 3 * time.Second})
	if len(less.Clients) != 1 || len(less.Faults) > 2 || less.Duration != 3*time.Second || len(p.Clients) < 2 || len(p.Faults) < 3 {
		t.Errorf("%+v\nbecame\n%+v", p, less)
	}
	if same := p.Restrict(Restrict{}); Run(same, RunOptions{}).Hash != Run(p, RunOptions{}).Hash {
		t.Error("leaving out nothing changes the run")
	}
}

func BenchmarkRun(b *testing.B) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		b.Run(fmt.Sprint(protocol), func(b *testing.B) {
			var virtual time.Duration
			var operations int
			var events, rounds int64
			for i := range b.N {
				r := Run(NewPlan(uint64(i), PlanOptions{Protocol: protocol, Nodes: 3, Faults: []FaultKind{}, Duration: 5 * time.Second}), RunOptions{})
				virtual += r.Time
				operations += r.Operations["acknowledged"]
				events += r.Events
				rounds += int64(r.Marks["rounds"])
			}
			b.ReportMetric(virtual.Seconds()/b.Elapsed().Seconds(), "virtual-s/s")
			b.ReportMetric(float64(operations)/float64(b.N), "operations/run")
			b.ReportMetric(float64(events)/float64(b.N), "events/run")
			b.ReportMetric(float64(rounds)/float64(b.N), "rounds/run")
		})
	}
}

// BenchmarkIdle is what a cluster costs that nobody uses.
func BenchmarkIdle(b *testing.B) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		b.Run(fmt.Sprint(protocol), func(b *testing.B) {
			var virtual time.Duration
			var events int64
			for i := range b.N {
				r := Run(NewPlan(uint64(i), PlanOptions{Protocol: protocol, Nodes: 3, Faults: []FaultKind{}, Duration: 100 * time.Second, Workloads: []string{}}), RunOptions{})
				if r.Verdict != Passed {
					b.Fatal(r.Problem)
				}
				virtual += r.Time
				events += r.Events
			}
			b.ReportMetric(virtual.Seconds()/b.Elapsed().Seconds(), "virtual-s/s")
			b.ReportMetric(float64(events)/virtual.Seconds(), "events/virtual-s")
		})
	}
}
