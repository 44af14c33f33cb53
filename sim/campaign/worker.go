package campaign

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// gcPercent is GOGC in a worker process: runs are short and leave much behind, and a few MiB live at a time.
const gcPercent = 800

// job is a line on a worker's standard input.
type job struct {
	Spec   Spec   `json:"spec"`
	Trace  bool   `json:"trace,omitempty"`
	Limits Limits `json:"limits"`
}

// message is a line on a worker's standard output: pieces of the trace, then the report.
type message struct {
	Trace  []byte  `json:"trace,omitempty"` // may begin and end within a letter
	Report *Report `json:"report,omitempty"`
}

// Limits of one run. 0: none.
type Limits struct {
	// Work is how much time of processors the worker process may use. Real time says nothing: a campaign may get next to none of a busy machine.
	Work        time.Duration `json:"work"`
	MemoryBytes uint64        `json:"memory_bytes"`
}

// Serve is the life of a worker process: it runs the jobs on its input, one after the other. It returns nil when
// the input ends, which also happens when the parent process dies, and an error after a run that broke its limits: the process must
// then end, whatever the run still does.
func Serve(input io.Reader, output io.Writer, simulator Simulator) error {
	debug.SetGCPercent(gcPercent)
	w := &worker{output: json.NewEncoder(output), simulator: simulator}
	w.output.SetEscapeHTML(false)
	jobs, ended := make(chan job), make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() { ended <- readJobs(input, jobs, done) }()
	for {
		select {
		case err := <-ended:
			return err
		case j := <-jobs:
			if stop, err := w.serve(j, ended); stop || err != nil {
				return err
			}
		}
	}
}

func readJobs(input io.Reader, jobs chan<- job, done <-chan struct{}) error {
	decoder := json.NewDecoder(bufio.NewReader(input))
	for {
		var j job
		switch err := decoder.Decode(&j); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a job: %w", err)
		}
		select {
		case jobs <- j:
		case <-done:
			return nil
		}
	}
}

type worker struct {
	simulator Simulator

	mu     sync.Mutex
	output *json.Encoder // the run writes its trace while the watch may report
}

func (w *worker) send(m message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.output.Encode(m)
}

// Write sends a piece of the trace. There is no buffer here: what was written before a crash must have left the process.
func (w *worker) Write(p []byte) (int, error) {
	if err := w.send(message{Trace: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// serve runs one job and reports. It stops early if the input has ended, because nobody waits for the report then.
func (w *worker) serve(j job, ended <-chan error) (stop bool, err error) {
	var options sim.RunOptions
	if j.Trace {
		options.Trace = w
	}
	finished := make(chan Report, 1)
	go func() { finished <- RunHere(w.simulator, j.Spec, options) }()
	looks := time.NewTicker(watchInterval)
	defer looks.Stop()
	start := time.Now()
	watch := &watch{limits: j.Limits, began: processorTime(), asked: start}
	for {
		select {
		case report := <-finished:
			return false, w.send(message{Report: &report})
		case err := <-ended:
			return true, err
		case now := <-looks.C:
			verdict, problem := watch.look(now, processorTime(), memoryInUse(), allStacks)
			if verdict == "" {
				continue
			}
			report := Report{Spec: j.Spec, Verdict: verdict, Problem: problem, Detail: allStacks(), Wall: time.Since(start)}
			return true, errors.Join(errors.New(problem), w.send(message{Report: &report}))
		}
	}
}

const watchInterval = 100 * time.Millisecond

// memoryInUse is what Go's heap holds now, in bytes.
func memoryInUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64()
}

// detailBytes bounds a report's Detail.
const detailBytes = 64 << 10

// allStacks shows what every goroutine does. It stops them all for it, so that one in an endless loop is shown, too.
func allStacks() string {
	buffer := make([]byte, detailBytes)
	return string(buffer[:runtime.Stack(buffer, true)])
}
