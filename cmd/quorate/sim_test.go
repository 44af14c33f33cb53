package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
	"github.com/quoratedb/quorate/sim/campaign"
)

// TestMain lets the test program be the program that sim starts as its workers.
func TestMain(m *testing.M) {
	simulator, ok := map[string]campaign.Simulator{"fake": plantedSimulator{}, "real": campaign.Real{}}[os.Getenv(workerVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environment: os.Environ(), simulator: simulator}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

const workerVariable = "QUORATE_TEST_SIMULATOR"

// plantedSimulator fails for some seeds: 13 answers wrongly if fault 3 happens and client 2 works for 700 ms, 14 does not
// become live, 15 panics, 16 has another trace each time, 17 ends the process.
type plantedSimulator struct{}

func (plantedSimulator) Plan(spec campaign.Spec) sim.Plan {
	plan := sim.Plan{Seed: spec.Seed, Protocol: sim.Raft, Engine: sim.Memory, Nodes: 3, Duration: time.Second}
	plan.Protocol, plan.Engine = cmp.Or(spec.Protocol, plan.Protocol), cmp.Or(spec.Engine, plan.Engine)
	if spec.Duration != 0 {
		plan.Duration = spec.Duration
	}
	for number := 1; number <= 2; number++ {
		if spec.Clients == nil || slices.Contains(spec.Clients, number) {
			plan.Clients = append(plan.Clients, sim.ClientPlan{Number: number, Workload: "registers"})
		}
	}
	for i := range 5 {
		if spec.Faults == nil || slices.Contains(spec.Faults, i) {
			plan.Faults = append(plan.Faults, sim.Fault{At: time.Duration(i) * 100 * time.Millisecond, Kind: "crash", Node: i + 1})
		}
	}
	return plan
}

func (plantedSimulator) Validate(plan sim.Plan) error {
	if plan.Engine == sim.Pebble {
		return errors.New("this engine is not possible")
	}
	return nil
}

func (plantedSimulator) KnownMarks() []string { return []string{"reached", "not-reached"} }

var runs uint64 // in this process

func (plantedSimulator) Run(plan sim.Plan, options sim.RunOptions) sim.Result {
	runs++
	result := sim.Result{
		Plan: plan, Verdict: sim.Passed, Hash: plan.Seed, Time: 2 * time.Second, Events: 100,
		Operations: map[string]int{"ok": 5, "unknown": 1}, Faults: map[string]int{"crash": len(plan.Faults)}, Marks: map[string]int{"reached": 2},
	}
	if options.Trace != nil {
		fmt.Fprintf(options.Trace, "the run begins\n")
	}
	switch plan.Seed {
	case 13:
		wrong := slices.ContainsFunc(plan.Faults, func(f sim.Fault) bool { return f.Node == 4 }) && plan.Duration >= 700*time.Millisecond &&
			slices.ContainsFunc(plan.Clients, func(c sim.ClientPlan) bool { return c.Number == 2 })
		if wrong {
			result.Verdict, result.Problem = sim.Correctness, "a get answered 1 instead of 2\nand more"
		}
	case 14:
		result.Verdict, result.Problem = sim.Liveness, "nobody leads"
	case 15:
		panic("planted")
	case 16:
		result.Hash += runs
	case 17:
		os.Exit(2)
	}
	return result
}

// simulate runs one command line with the planted simulator, or the one that is named.
func simulate(t *testing.T, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	return simulateWith(t, plantedSimulator{}, "fake", arguments...)
}

func simulateWith(t *testing.T, simulator campaign.Simulator, name string, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{stdout: &out, stderr: &err, environment: append(os.Environ(), workerVariable+"="+name), simulator: simulator}
	code = a.run(t.Context(), append([]string{"sim"}, arguments...))
	return out.String(), err.String(), code
}

func TestSimOneSeed(t *testing.T) {
	stdout, stderr, code := simulate(t, "--seed", "5", "--faults", "1,3", "--clients", "2", "--duration", "500ms", "--consensus", "paxos")
	want := `# | seed 5: paxos on memory, 3 nodes, reads rely on clocks, 500ms of work and faults
# | client 2: registers
# | fault 1: at 100ms crash node=2
# | fault 3: at 300ms crash node=4
# trace
the run begins
# end
# verdict passed
# lines 1
`
	if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
		t.Errorf("exit %d, %s\n%s\nwant\n%s", code, stderr, stdout, want)
	}
	for _, part := range []string{"\nverdict        passed\nhash           0000000000000005\nsimulated      2s in ", ", 100 events\noperations     ok 5, unknown 1\nfaults         crash 2\nmarks          reached 2\n",
		"\ncommand        quorate sim --seed 5 --consensus paxos --clients 2 --faults 1,3 --duration 500ms\n"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("no %q in\n%s", part, stdout)
		}
	}
}

func TestSimExitCodes(t *testing.T) {
	for _, c := range []struct {
		code      int
		message   string
		arguments string
	}{
		{0, "", "--seed 1"},
		{0, "", "--seed 13 --faults none"},
		{0, "", "--seed 1 --partition none"},
		{0, "", "--seed 1 --check-hash 0000000000000001 --twice"},
		{10, "seed 15: crash: panic: planted", "--seed 15"},
		{10, "seed 15: crash: panic: planted", "--seed 15 --in-process"},
		{10, "seed 17: crash: the worker process ended: exit status 2", "--seed 17"},
		{11, "seed 13: correctness: a get answered 1 instead of 2", "--seed 13"},
		{12, "seed 14: liveness: nobody leads", "--seed 14"},
		{13, "seed 16: diverged: the same run gave the trace hash", "--seed 16 --twice"},
		{13, "--check-hash wants 0000000000000abc", "--seed 1 --check-hash abc"},
		{0, "", "--seeds 1..5"},
		{12, "1 of 1 seeds failed, the worst with liveness", "--seeds 14"},
		{11, "4 of 8 seeds failed, the worst with correctness", "--seeds 10+8"},
		{10, "3 of 4 seeds failed, the worst with crash", "--seeds 14..17 --minimise-runs 3"},
	} {
		stdout, stderr, code := simulate(t, strings.Fields(c.arguments)...)
		if code != c.code || !strings.Contains(stderr, c.message) || code == 0 && stderr != "" {
			t.Errorf("%s: exit %d, %s\n%s", c.arguments, code, stderr, stdout)
		}
	}
}

func TestSimUsage(t *testing.T) {
	for arguments, message := range map[string]string{
		"":                                 "say what to run: --seed 42, --seeds 1..100, or --replay FILE",
		"--seed 1 --seeds 1..2":            "--seed and --seeds do not go together",
		"--seed abc":                       `"abc" is not a seed`,
		"--seed 1..5":                      "belongs to --seeds",
		"--seed -1":                        "is not a seed",
		"--seeds 1-5":                      "write 1..100 for all from 1 to 100, 42+10 for ten from 42 on, or 42 for one",
		"--seeds 5..1":                     "write 1..5",
		"--seed 1 --faults 9":              "no fault 9; its faults are 0 to 4",
		"--seed 1 --faults x":              "not a list of numbers",
		"--seed 1 --clients 7":             "no client 7; its clients are 1,2",
		"--seed 1 --duration 2s":           "lasts 1s, and can only be made shorter",
		"--seed 1 --duration -2s":          "must not be below 0",
		"--seed 1 --consensus zab":         "must be raft or paxos",
		"--seed 1 --engine disk":           "must be memory or pebble",
		"--seed 1 --partition list":        "must be range, hash or none",
		"--seed 1 --output yaml":           "must be table or json",
		"--seed 1 --output json --trace -": "both want standard output",
		"--seed 1 --check-hash xyz":        "not a trace hash",
		"--seed 1 --keep-going":            "--keep-going goes with --seeds, and not with --seed",
		"--seeds 1..2 --faults 1":          "--faults goes with --seed, and not with --seeds",
		"--seeds 1..2 --trace x":           "--trace goes with --seed",
		"--seeds 1..2 --jobs 0":            "must be from 1 to",
		"--replay x --consensus raft":      "does not go with --replay",
		"--seed 1 --minimise --in-process": "needs worker processes",
		"--seed 1 --minimise-runs 0":       "must be above 0",
		"--seed 1 --engine pebble":         "this engine is not possible",
		"--seeds 1..2 --engine pebble":     "this engine is not possible",
		"5":                                `it takes no argument, and it got "5"`,
	} {
		stdout, stderr, code := simulate(t, strings.Fields(arguments)...)
		if code != exitUsage || !strings.Contains(stderr, message) || stdout != "" {
			t.Errorf("%s: exit %d, %s%s", arguments, code, stderr, stdout)
		}
	}
}

func TestSimMinimise(t *testing.T) {
	stdout, stderr, code := simulate(t, "--seed", "13", "--trace", "off", "--minimise")
	want := "smaller        quorate sim --seed 13 --clients 2 --faults 3 --duration 700ms\n               1 of 5 faults, 1 of 2 clients, 700ms of 1s"
	if code != exitCorrectness || !strings.Contains(stdout, want) || !strings.Contains(stdout, "problem        a get answered 1 instead of 2\n               and more\n") {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	stdout, _, _ = simulate(t, "--seed", "13", "--trace", "off", "--minimise", "--minimise-runs", "4")
	if !strings.Contains(stdout, "found in 4 runs, and the search was not finished") {
		t.Error(stdout)
	}
	stdout, _, _ = simulate(t, "--seed", "13", "--trace", "off")
	if !strings.Contains(stdout, "add --minimise") {
		t.Error(stdout)
	}
}

func TestSimCampaign(t *testing.T) {
	stdout, stderr, code := simulate(t, "--seeds", "11..14", "--jobs", "2")
	for _, part := range []string{
		"seeds          4 of 4 (11..14) in ", "verdicts       correctness 1, liveness 1, passed 2\n", "simulated      8s, ", "protocols      raft 4\n",
		"operations     ok 20, unknown 4\n", "faults         crash 20\n", "marks          reached         8 in 4 seeds\n", "never reached  not-reached\n",
		"correctness    quorate sim --seed 13\n               a get answered 1 instead of 2\n               smaller: quorate sim --seed 13 --clients 2 --faults 3 --duration 700ms\n",
		"liveness       quorate sim --seed 14\n               nobody leads\n               smaller: quorate sim --seed 14 --clients none --faults none --duration 1ms\n",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("no %q in\n%s", part, stdout)
		}
	}
	if code != exitCorrectness || !strings.Contains(stderr, "looking for a smaller run than: quorate sim --seed 13\n") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func TestSimCampaignJSON(t *testing.T) {
	stdout, _, code := simulate(t, "--seeds", "12..13", "--output", "json", "--minimise=false")
	var got struct {
		Done           int
		Verdicts       map[string]int
		SimulatedHours float64  `json:"simulated_hours"`
		Unreached      []string `json:"marks_unreached"`
		Failures       []struct{ Command, Verdict string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitCorrectness {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if got.Done != 2 || got.Verdicts["passed"] != 1 || got.SimulatedHours == 0 || !slices.Equal(got.Unreached, []string{"not-reached"}) ||
		len(got.Failures) != 1 || got.Failures[0].Command != "quorate sim --seed 13" {
		t.Errorf("%+v", got)
	}
}

func TestSimOneSeedJSON(t *testing.T) {
	stdout, _, code := simulate(t, "--seed", "13", "--output", "json")
	var got struct{ Command, Verdict, Hash, Problem string }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitCorrectness {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if got.Command != "quorate sim --seed 13" || got.Verdict != "correctness" || got.Hash != "000000000000000d" || got.Problem == "" {
		t.Errorf("%+v", got)
	}
}

func TestSimReplay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.trace")
	if stdout, stderr, code := simulate(t, "--seed", "13", "--trace", file); code != exitCorrectness || strings.Contains(stdout, "the run begins") {
		t.Fatalf("exit %d, %s%s", code, stderr, stdout)
	}
	stdout, stderr, code := simulate(t, "--replay", file)
	if code != 0 || !strings.Contains(stdout, "same           all 1 line, hash 000000000000000d, verdict correctness\n") {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
	if stdout, _, code = simulate(t, "--replay", file, "--output", "json"); code != 0 || !strings.Contains(stdout, `"same":true`) {
		t.Errorf("exit %d, %s", code, stdout)
	}

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for message, changed := range map[string]string{
		"not a trace of the simulator":            "hello\n",
		"the trace is of another version":         strings.Replace(string(text), "version ", "version 0.0", 1),
		"the trace is damaged: it ends after":     string(text[:strings.Index(string(text), "# end")]),
		"the trace is damaged: its lines are not": strings.Replace(string(text), "the run begins", "the run ends", 1),
	} {
		if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := simulate(t, "--replay", file); code != exitFailed || !strings.Contains(stderr, message) {
			t.Errorf("%s: exit %d, %s", message, code, stderr)
		}
	}
	if _, stderr, code := simulate(t, "--replay", filepath.Join(t.TempDir(), "nothing")); code != exitFailed || !strings.Contains(stderr, "open the trace") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	// A run that is not the same each time: a run before makes it another one.
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("# hash 000000000000000d"), []byte("# hash 000000000000000e")), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code = simulate(t, "--replay", file)
	if code != exitDiverged || !strings.Contains(stdout, "hash 000000000000000d, and it was 000000000000000e") || !strings.Contains(stderr, "another trace than the saved one") {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
}

// TestSimInterrupted: what was found until then is shown.
func TestSimInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, err bytes.Buffer
	a := &app{stdout: &out, stderr: &err, environment: append(os.Environ(), workerVariable+"=fake"), simulator: plantedSimulator{}}
	if code := a.run(ctx, []string{"sim", "--seeds", "1..100"}); code != exitFailed || !strings.Contains(out.String(), "0 of 100 (1..100)") ||
		!strings.Contains(out.String(), "ended early") || !strings.Contains(err.String(), "interrupted after 0 of 100 seeds") {
		t.Errorf("exit %d, %s%s", code, err.String(), out.String())
	}
	if code := a.run(ctx, []string{"sim", "--seed", "1"}); code != exitFailed || !strings.Contains(err.String(), "sim: interrupted\n") {
		t.Errorf("exit %d, %s", code, err.String())
	}
	// --for is an end that was asked for.
	stdout, stderr, code := simulate(t, "--seeds", "1000+100000000", "--for", "3s")
	if code != 0 || !strings.Contains(stdout, "ended early") || stderr != "" {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
}

func TestSimProgress(t *testing.T) {
	summary := &campaign.Summary{Seeds: campaign.Seeds{First: 1, Last: 400}, Done: 100, Wall: time.Minute, Simulated: 90 * time.Minute,
		Verdicts: map[sim.Verdict]uint64{sim.Passed: 99, sim.Crash: 1}}
	if got, want := progressLine(summary), "100/400 seeds  1 failed  1.5 h simulated  1.5 h/min  3m0s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var out bytes.Buffer
	terminal, file := &progress{output: &out, terminal: true}, &progress{output: &out}
	terminal.show(summary)
	terminal.show(summary)
	terminal.end()
	if strings.Count(out.String(), "\r") != 2 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	for second := range 35 {
		summary.Wall = time.Duration(second) * time.Second
		file.show(summary)
	}
	file.end()
	if strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	summary.Failures = []campaign.Failure{{Verdict: sim.Crash, Command: "quorate sim --seed 7"}}
	file.show(summary)
	file.show(summary)
	if out.String() != "crash: quorate sim --seed 7\n" {
		t.Errorf("%q", out.String())
	}
}

// TestSimReal: real simulations in two processes, the same seed twice, and a trace that is replayed.
func TestSimReal(t *testing.T) {
	stdout, stderr, code := simulateWith(t, campaign.Real{}, "real", "--seeds", "1..4", "--jobs", "2", "--twice")
	if code != 0 || !strings.Contains(stdout, "4 of 4 (1..4)") || !strings.Contains(stdout, "passed 4") {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
	file := filepath.Join(t.TempDir(), "run.trace")
	restricted := []string{"--seed", "3", "--clients", "1,2", "--duration", "1s"}
	if stdout, stderr, code = simulateWith(t, campaign.Real{}, "real", append(restricted, "--trace", file)...); code != 0 {
		t.Fatalf("exit %d, %s%s", code, stderr, stdout)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines < 20 {
		t.Errorf("the trace has %d lines only", lines)
	}
	if stdout, stderr, code = simulateWith(t, campaign.Real{}, "real", "--replay", file); code != 0 || !strings.Contains(stdout, "same           all ") {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
}
