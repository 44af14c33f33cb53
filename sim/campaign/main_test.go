package campaign

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// workerVariable makes the test program a worker with the fake simulator.
const workerVariable = "QUORATE_TEST_CAMPAIGN_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		if err := Serve(os.Stdin, os.Stdout, fakeSimulator{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Seeds with which the fake simulator does something special; all others pass.
const (
	seedWrong      = 1000 // fails if fault 3, fault 7 and client 2 are there for 1.2 s
	seedPanics     = 1001
	seedExits      = 1002 // ends the process
	seedEndless    = 1003
	seedEatsMemory = 1004
	seedBabbles    = 1005 // writes on the standard output
	seedUnstable   = 1006 // another hash each time
	seedNotLive    = 1007
	seedBlocked    = 1008
)

// fakeSimulator has plans of 10 faults, 3 clients and 4 s, and failures that are planted.
type fakeSimulator struct{}

func fakePlan(spec Spec) sim.Plan {
	plan := sim.Plan{Seed: spec.Seed, Protocol: spec.Protocol, Engine: spec.Engine, Nodes: 3, Duration: 4 * time.Second}
	if plan.Protocol == "" {
		plan.Protocol = []sim.Protocol{sim.Raft, sim.Paxos}[spec.Seed%2]
	}
	if plan.Engine == "" {
		plan.Engine = sim.Memory
	}
	if spec.Duration != 0 {
		plan.Duration = spec.Duration
	}
	for number := 1; number <= 3; number++ {
		if spec.Clients == nil || slices.Contains(spec.Clients, number) {
			plan.Clients = append(plan.Clients, sim.ClientPlan{Number: number, Workload: "registers"})
		}
	}
	for i := range 10 {
		if spec.Faults == nil || slices.Contains(spec.Faults, i) {
			plan.Faults = append(plan.Faults, sim.Fault{At: time.Duration(i) * 100 * time.Millisecond, Kind: sim.FaultKind(fmt.Sprintf("kind%d", i))})
		}
	}
	return plan
}

func (fakeSimulator) Plan(spec Spec) sim.Plan { return fakePlan(spec) }

func (fakeSimulator) Validate(sim.Plan) error { return nil }

func (fakeSimulator) KnownMarks() []string { return []string{"seen", "never-seen"} }

var unstable uint64

// eaten is what seedEatsMemory holds on to.
var eaten [][]byte

func (fakeSimulator) Run(plan sim.Plan, options sim.RunOptions) sim.Result {
	result := sim.Result{
		Plan: plan, Verdict: sim.Passed, Hash: plan.Seed * 7, Time: plan.Duration + time.Second, Events: int64(plan.Duration / time.Millisecond),
		Operations: map[string]int{"ok": 2}, Faults: map[string]int{}, Marks: map[string]int{"seen": 1},
	}
	for _, fault := range plan.Faults {
		result.Faults[string(fault.Kind)]++
		if options.Trace != nil {
			fmt.Fprintf(options.Trace, "%v %s\n", fault.At, fault.Kind)
		}
	}
	switch plan.Seed {
	case seedWrong:
		if slices.ContainsFunc(plan.Clients, func(c sim.ClientPlan) bool { return c.Number == 2 }) &&
			result.Faults["kind3"] == 1 && result.Faults["kind7"] == 1 && plan.Duration >= 1200*time.Millisecond {
			result.Verdict, result.Problem = sim.Correctness, "an answer was wrong"
		}
	case seedNotLive:
		result.Verdict, result.Problem = sim.Liveness, "nobody answers"
	case seedPanics:
		panic("planted")
	case seedExits:
		fmt.Fprintln(os.Stderr, "fatal error: planted")
		os.Exit(2)
	case seedEndless:
		for i := 0; ; i++ {
			unstable += uint64(i)
		}
	case seedBlocked:
		select {}
	case seedEatsMemory:
		for {
			eaten = append(eaten, make([]byte, 1<<20))
			time.Sleep(time.Millisecond) // so that the test machine survives it
		}
	case seedBabbles:
		fmt.Println("hello")
	case seedUnstable:
		unstable++
		result.Hash = unstable
		if options.Trace != nil {
			fmt.Fprintf(options.Trace, "the %d. time\n", unstable)
		}
	}
	return result
}
