package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Row is what became of one mutation.
type Row struct {
	Name     string       `json:"name"`
	Layer    string       `json:"layer"`
	Breaks   string       `json:"breaks"`
	Protocol sim.Protocol `json:"protocol,omitempty"`
	Shards   int          `json:"shards,omitempty"`
	// Partition is that of the store which the shards are of.
	Partition string `json:"partition,omitempty"`
	// Status is "found", "survived", "stale" (it no longer applies) or, for code as it is, "passed" or "failed".
	Status  string      `json:"status"`
	Seed    uint64      `json:"seed,omitempty"` // at which it was found
	Within  int         `json:"within"`         // seeds that it must be found in
	At      uint64      `json:"at,omitempty"`   // the only seed that it was tried with, if that is not one of the first
	Verdict sim.Verdict `json:"verdict,omitempty"`
	Problem string      `json:"problem,omitempty"`
	Seconds float64     `json:"seconds"` // of real time
}

const (
	found    = "found"
	survived = "survived"
	stale    = "stale"
	passed   = "passed"
	failed   = "failed"
)

// good tells whether the row is as it should be.
func (r *Row) good() bool { return r.Status == found || r.Status == passed }

// command reproduces the finding.
func (r *Row) command() string {
	return fmt.Sprintf("go run ./sim/mutate --only %s --first %d --seeds 1", r.Name, r.Seed)
}

// seedRange is what a worker runs.
type seedRange struct {
	first    uint64
	count    int
	settings settings
}

// settings are what seeds are run with, instead of what they would draw.
type settings struct {
	protocol  sim.Protocol
	shards    int
	partition string
}

// outcome is the first seed that did not pass; seed 0: all passed.
type outcome struct {
	seed    uint64
	verdict sim.Verdict
	problem string
}

// trial is what all mutations are tried with: one program that has all of them.
type trial struct {
	program string
	options *options

	mu    sync.Mutex
	known map[seedRange]outcome // of single seeds, without a mutation
}

// passes tells whether the code as it is passes the seed. Only then the seed shows a mutation.
func (t *trial) passes(ctx context.Context, seed uint64, settings settings) (bool, error) {
	one := seedRange{seed, 1, settings}
	t.mu.Lock()
	defer t.mu.Unlock()
	out, known := t.known[one]
	if !known {
		var err error
		if out, err = t.runSeeds(ctx, "", one); err != nil {
			return false, err
		}
		t.known[one] = out
	}
	return out.seed == 0, nil
}

// try runs a mutation until a seed shows it.
func (t *trial) try(ctx context.Context, m *Mutation) (Row, error) {
	began := time.Now()
	o := t.options
	row := Row{Name: m.Name, Layer: m.Layer, Breaks: m.Breaks, Protocol: m.Protocol, Shards: m.Shards, Partition: m.Partition, Within: m.Seeds, Status: found}
	first := o.first
	switch {
	case o.seeds > 0:
		row.Within = o.seeds
	case m.At != 0:
		first, row.Within, row.At = m.At, 1, m.At
	}
	out, err := t.search(ctx, m, first, row.Within)
	row.Seconds = time.Since(began).Seconds()
	row.Seed, row.Verdict, row.Problem = out.seed, out.verdict, out.problem
	switch {
	case out.seed == 0:
		row.Status = survived
		row.Problem = fmt.Sprintf("seeds %d to %d passed; see which fault, workload or check of package sim would show it", first, first+uint64(row.Within)-1)
	case !slices.Contains(m.Verdicts, out.verdict):
		row.Status = survived
		row.Problem = fmt.Sprintf("seed %d ended with %s, expected was one of %v: %s", out.seed, out.verdict, m.Verdicts, out.problem)
	}
	return row, err
}

// search runs the mutation from seed to seed, until one does not pass that the code as it is passes.
func (t *trial) search(ctx context.Context, m *Mutation, first uint64, count int) (outcome, error) {
	for last := first + uint64(count) - 1; first <= last; {
		out, err := t.runSeeds(ctx, m.Name, seedRange{first, int(last - first + 1), m.settings()})
		if err != nil || out.seed == 0 {
			return out, err
		}
		if passes, err := t.passes(ctx, out.seed, m.settings()); err != nil || passes {
			return out, err
		}
		first = out.seed + 1
	}
	return outcome{}, nil
}

// controls runs the code as it is on the seeds that the mutations needed.
func (t *trial) controls(ctx context.Context, rows []Row) (controls []Row, err error) {
	first := t.options.first
	most := map[settings]int{}
	for i := range rows {
		r := &rows[i]
		if r.At != 0 {
			continue // search has run the code as it is on this seed
		}
		used := r.Within
		if r.Status == found {
			used = int(r.Seed - first + 1)
		}
		s := settings{r.Protocol, r.Shards, r.Partition}
		most[s] = max(most[s], used)
	}
	inOrder := func(a, b settings) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.shards, b.shards), cmp.Compare(a.protocol, b.protocol))
	}
	for _, s := range slices.SortedFunc(maps.Keys(most), inOrder) {
		count := most[s]
		began := time.Now()
		out, err := t.runSeeds(ctx, "", seedRange{first, count, s})
		if err != nil {
			return nil, err
		}
		row := Row{
			Name: "none", Layer: "control", Breaks: "nothing: the code as it is", Protocol: s.protocol, Shards: s.shards, Partition: s.partition, Within: count, Status: passed,
			Seed: out.seed, Verdict: out.verdict, Problem: out.problem, Seconds: time.Since(began).Seconds(),
		}
		if out.seed != 0 {
			row.Status = failed
		}
		controls = append(controls, row)
	}
	return controls, nil
}

// line is what the worker prints: before a seed with its number only, and after it with the verdict.
type line struct {
	Seed    uint64      `json:"seed"`
	Verdict sim.Verdict `json:"verdict"`
	Problem string      `json:"problem"`
}

// runSeeds runs the program with a mutation (none: "") until a seed does not pass. A seed that takes longer than the limit hangs, and one that
// the program does not survive has crashed.
func (t *trial) runSeeds(ctx context.Context, mutation string, seeds seedRange) (outcome, error) {
	limit := t.options.limit
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program, "-first", strconv.FormatUint(seeds.first, 10), "-count", strconv.Itoa(seeds.count),
		"-protocol", string(seeds.settings.protocol), "-shards", strconv.Itoa(seeds.settings.shards), "-partition", cmp.Or(seeds.settings.partition, sim.NoPartition))
	cmd.Env = append(os.Environ(), environment+"="+mutation)
	var diagnosis head
	cmd.Stderr = &diagnosis
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	lines := make(chan line)
	go readLines(ctx, stdout, lines)
	var running line
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case next, open := <-lines:
			if !open {
				return ended(ctx, cmd.Wait(), running, &diagnosis)
			}
			timer.Reset(limit)
			running = next
			if next.Verdict != "" && next.Verdict != sim.Passed {
				cancel()
				_ = cmd.Wait() // it was killed: there is nothing more to learn
				return outcome{seed: next.Seed, verdict: next.Verdict, problem: next.Problem}, nil
			}
		case <-timer.C:
			cancel()
			_ = cmd.Wait()
			return outcome{seed: running.Seed, verdict: hang, problem: fmt.Sprintf("the seed did not end within %v of real time", limit)}, nil
		}
	}
}

func readLines(ctx context.Context, from io.Reader, to chan<- line) {
	defer close(to)
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var l line
		if json.Unmarshal(scanner.Bytes(), &l) != nil {
			continue // not the worker's
		}
		select {
		case to <- l:
		case <-ctx.Done():
			return
		}
	}
}

// ended judges a worker that ended by itself.
func ended(ctx context.Context, err error, running line, diagnosis *head) (outcome, error) {
	switch {
	case ctx.Err() != nil:
		return outcome{}, ctx.Err()
	case err == nil:
		return outcome{}, nil
	case running.Seed == 0:
		return outcome{}, fmt.Errorf("the worker did not start: %w: %s", err, diagnosis.first())
	}
	return outcome{seed: running.Seed, verdict: sim.Crash, problem: fmt.Sprintf("the program ended: %s", diagnosis.first())}, nil
}

// head keeps the beginning of what is written: the reason of a panic comes first.
type head struct{ bytes.Buffer }

func (t *head) Write(p []byte) (int, error) {
	if room := 64<<10 - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// first is the line that says why the program ended.
func (t *head) first() string {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") {
			return l
		}
	}
	return lines[0]
}
