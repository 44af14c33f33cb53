package campaign

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// process is a worker process, seen from its parent.
type process struct {
	command  *exec.Cmd
	stdin    io.WriteCloser
	stderr   *head
	messages chan message // closed at the end of the worker's output
	garbage  string       // what the output had that is no message; read after messages is closed
}

func startProcess(program []string, environment []string) (*process, error) {
	p := &process{command: exec.Command(program[0], program[1:]...), stderr: &head{}, messages: make(chan message)}
	p.command.Env = environment
	p.command.Stderr = p.stderr
	stdin, err := p.command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker process: %w", err)
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker process: %w", err)
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start a worker process: %w", err)
	}
	p.stdin = stdin
	go p.read(stdout)
	return p, nil
}

// maxMessageBytes bounds a line of a worker's output.
const maxMessageBytes = 64 << 20

func (p *process) read(stdout io.Reader) {
	defer close(p.messages)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxMessageBytes)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			p.garbage = fmt.Sprintf("the worker process wrote %.200q where a message was due", lines.Text())
			return
		}
		p.messages <- m
	}
	if err := lines.Err(); err != nil {
		p.garbage = fmt.Sprintf("read from the worker process: %v", err)
	}
}

// run gives the worker a job and waits for its report. Unless alive, the process has ended and takes no more jobs. An error is not about the
// run: the context has ended, or the trace could not be written.
func (p *process) run(ctx context.Context, j job, trace io.Writer) (report Report, alive bool, err error) {
	start := time.Now()
	p.stderr.reset()
	line, err := json.Marshal(j)
	if err != nil {
		return Report{}, true, fmt.Errorf("write a job: %w", err)
	}
	// A worker that is dead already shows below.
	_, _ = p.stdin.Write(append(line, '\n'))
	for {
		select {
		case <-ctx.Done():
			p.kill()
			return Report{}, false, ctx.Err()
		case m, ok := <-p.messages:
			switch {
			case !ok:
				return p.dead(j.Spec, time.Since(start)), false, nil
			case m.Report != nil:
				// A process in which something panicked or runs for ever is in no state to be trusted.
				over := m.Report.Verdict == Hang || m.Report.Verdict == sim.Crash
				if over {
					p.kill()
				}
				return *m.Report, !over, nil
			case trace != nil:
				if _, err := trace.Write(m.Trace); err != nil {
					p.kill()
					return Report{}, false, fmt.Errorf("write the trace: %w", err)
				}
			}
		}
	}
}

// dead is the report about a run whose process has ended without one.
func (p *process) dead(spec Spec, wall time.Duration) Report {
	problem := p.garbage
	if problem != "" {
		p.kill()
	} else {
		_ = p.command.Wait() // its state tells more
		problem = fmt.Sprintf("the worker process ended: %v", p.command.ProcessState)
	}
	detail := p.stderr.String()
	if first, _, _ := strings.Cut(strings.TrimSpace(detail), "\n"); first != "" {
		problem += ": " + first
	}
	return Report{Spec: spec, Verdict: sim.Crash, Problem: problem, Detail: detail, Wall: wall}
}

// kill ends the process whatever it does, and waits until it has ended.
func (p *process) kill() {
	_ = p.command.Process.Kill() // or it has ended by itself
	for range p.messages {
	}
	_ = p.command.Wait() // "signal: killed" is what was asked for
}

// head keeps the beginning of what is written to it: a Go program that dies says first why.
type head struct {
	mu      sync.Mutex
	text    []byte
	dropped int
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := min(len(p), detailBytes-len(h.text))
	h.text = append(h.text, p[:kept]...)
	h.dropped += len(p) - kept
	return len(p), nil
}

func (h *head) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text, h.dropped = nil, 0
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped > 0 {
		return fmt.Sprintf("%s\n(%d more bytes)", h.text, h.dropped)
	}
	return string(h.text)
}
