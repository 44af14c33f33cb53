package campaign

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

func newTestPool(t *testing.T, jobs int, limits Limits) *Pool {
	t.Helper()
	pool, err := NewPool(PoolOptions{Program: []string{os.Args[0]}, Environment: append(os.Environ(), workerVariable+"=1"), Jobs: jobs, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestPoolSurvives: whatever a run does costs that run only.
func TestPoolSurvives(t *testing.T) {
	pool := newTestPool(t, 1, Limits{Work: 20 * time.Second, MemoryBytes: 256 << 20})
	run := func(seed uint64, want sim.Verdict, problem, detail string) {
		t.Helper()
		report, err := pool.Run(t.Context(), Spec{Seed: seed}, nil)
		if err != nil || report.Verdict != want || !strings.Contains(report.Problem, problem) || !strings.Contains(report.Detail, detail) || report.Spec.Seed != seed {
			t.Errorf("seed %d: %v, %.3000s, %v", seed, report.Verdict, report.Problem+report.Detail, err)
		}
	}
	run(1, sim.Passed, "", "")
	run(seedPanics, sim.Crash, "panic: planted", "main_test.go")
	run(2, sim.Passed, "", "")
	run(seedExits, sim.Crash, "exit status 2: fatal error: planted", "fatal error: planted")
	run(seedEatsMemory, sim.Crash, "may use 256 MiB", "fakeSimulator")
	run(seedBabbles, sim.Crash, `wrote "hello"`, "")
	run(seedWrong, sim.Correctness, "an answer was wrong", "")
	run(3, sim.Passed, "", "")
}

// TestPoolEndsEndlessRun: a run that really goes on for ever, in a loop or waiting, is found and named.
func TestPoolEndsEndlessRun(t *testing.T) {
	pool := newTestPool(t, 1, Limits{Work: 300 * time.Millisecond})
	for _, c := range []struct {
		seed    uint64
		problem string
	}{
		{seedEndless, "did not end within 300ms of processor time"},
		{seedBlocked, "waits for what never comes"},
	} {
		report, err := pool.Run(t.Context(), Spec{Seed: c.seed}, nil)
		if err != nil || report.Verdict != Hang || report.Spec.Seed != c.seed || !strings.Contains(report.Problem, c.problem) || !strings.Contains(report.Detail, "fakeSimulator.Run") {
			t.Errorf("%+v, %v", report, err)
		}
	}
}

func TestPoolResultAndTrace(t *testing.T) {
	pool := newTestPool(t, 1, Limits{})
	var trace bytes.Buffer
	spec := Spec{Seed: 4, Faults: []int{2, 5}, Clients: []int{}, Protocol: sim.Paxos, Duration: time.Second}
	report, err := pool.Run(t.Context(), spec, &trace)
	want := RunHere(fakeSimulator{}, spec, sim.RunOptions{})
	if err != nil || asJSON(report.Result) != asJSON(want.Result) || asJSON(report.Spec) != asJSON(spec) {
		t.Errorf("got %+v, %v\nwant %+v", report, err, want)
	}
	if trace.String() != "200ms kind2\n500ms kind5\n" {
		t.Errorf("trace %q", trace.String())
	}
	// A full disk ends the run, and not the pool.
	if _, err := pool.Run(t.Context(), spec, fullDisk{}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
	if report, err := pool.Run(t.Context(), spec, nil); err != nil || report.Failed() {
		t.Errorf("%+v, %v", report, err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestPoolContext(t *testing.T) {
	pool := newTestPool(t, 2, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Run(ctx, Spec{Seed: seedEndless}, nil)
		ended <- err
	}()
	// The other worker is free.
	if report, err := pool.Run(t.Context(), Spec{Seed: 1}, nil); err != nil || report.Failed() {
		t.Errorf("%+v, %v", report, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if report, err := pool.Run(t.Context(), Spec{Seed: 1}, nil); err != nil || report.Failed() {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestPoolWithoutProgram(t *testing.T) {
	pool, err := NewPool(PoolOptions{Program: []string{"/nonexistent/quorate"}, Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Run(t.Context(), Spec{}, nil); err == nil || !strings.Contains(err.Error(), "start a worker process") {
		t.Error(err)
	}
	if _, err := NewPool(PoolOptions{Program: []string{"x"}}); err == nil {
		t.Error("a pool of nothing")
	}
}

// TestWorkerEndsWithItsInput: a worker does not outlive its parent, even in an endless run.
func TestWorkerEndsWithItsInput(t *testing.T) {
	input, parent := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(input, io.Discard, blocked{}) }()
	if _, err := io.WriteString(parent, asJSON(job{Spec: Spec{Seed: 1}})+"\n"); err != nil {
		t.Fatal(err)
	}
	parent.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := Serve(strings.NewReader("hello\n"), io.Discard, fakeSimulator{}); err == nil || !strings.Contains(err.Error(), "read a job") {
		t.Error(err)
	}
}

// blocked never ends a run.
type blocked struct{ fakeSimulator }

func (blocked) Run(sim.Plan, sim.RunOptions) sim.Result { select {} }

func TestCampaignInProcesses(t *testing.T) {
	pool := newTestPool(t, 2, Limits{Work: time.Minute})
	s, err := Run(t.Context(), pool, Options{Seeds: Seeds{990, 1002}, Jobs: 2})
	if err != nil || s.Done != 13 || s.Verdicts[sim.Passed] != 10 || s.Verdicts[sim.Crash] != 2 || s.Verdicts[sim.Correctness] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
