package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"
)

// The demonstration of flexible quorums: five members, of which more and more are slow or stand still, and the time that a put takes
// with majorities (Raft and Multi-Paxos) and with a phase-2 quorum of two.

const flexibleMembers = 5

type flexibleSystem struct {
	name  string
	waits string // for whom a put waits
	base  string // the system
	flags []string
}

var flexibleSystems = []flexibleSystem{
	{"raft", "3 of 5", systemRaft, nil},
	{"paxos", "3 of 5", systemPaxos, nil},
	{"paxos, quorums 4 and 2", "2 of 5", systemPaxos, []string{"--paxos-phase1-quorum=4", "--paxos-phase2-quorum=2"}},
}

// flexibleStage is what is wrong: so many members are slow, and so many stand still.
type flexibleStage struct {
	name         string
	slow, paused int
}

var flexibleStages = []flexibleStage{
	{"all well", 0, 0},
	{"one slow, one paused", 1, 1},
	{"two slow, one paused", 2, 1},
}

// flexibleResult is what one client that puts saw.
type flexibleResult struct {
	System, Waits, Stage string
	DelayMillis          float64 // of everything that is sent to a slow member
	Rounds               []result
}

// flexibleSlow is how many members are behind a delay; the leader must not be one of them.
const flexibleSlow = 2

func measureFlexible(ctx context.Context, cfg config, bin binaries, report *report) error {
	systems := flexibleSystems
	if cfg.Smoke {
		systems = systems[len(systems)-1:]
	}
	for _, s := range systems {
		results, err := s.measure(ctx, cfg, bin)
		if err != nil {
			return fmt.Errorf("flexible quorums, %s: %w", s.name, err)
		}
		report.Flexible = append(report.Flexible, results...)
	}
	return nil
}

func (s flexibleSystem) measure(ctx context.Context, cfg config, bin binaries) ([]flexibleResult, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "flexible-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c := &cluster{system: s.base, flags: s.flags, slow: flexibleSlow, bin: bin, dir: filepath.Join(dir, "members")}
	if err := c.start(ctx, flexibleMembers); err != nil {
		return nil, err
	}
	defer c.stop()
	var results []flexibleResult
	for _, stage := range flexibleStages {
		results = append(results, flexibleResult{System: s.name, Waits: s.waits, Stage: stage.name, DelayMillis: cfg.Delay.Seconds() * 1000})
	}
	for range cfg.Rounds {
		for i, stage := range flexibleStages {
			r, err := c.putWhile(ctx, stage, cfg)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", stage.name, err)
			}
			results[i].Rounds = append(results[i].Rounds, r)
			fmt.Fprintf(os.Stderr, "%-24s %-22s %7.0f/s  p50 %7.2f ms  p99 %7.2f ms\n", s.name, stage.name, r.Rate, r.P50, r.P99)
		}
	}
	return results, nil
}

// putWhile lets one client put at the leader while the stage lasts.
func (c *cluster) putWhile(ctx context.Context, stage flexibleStage, cfg config) (result, error) {
	lead, err := c.quickLeader(ctx)
	if err != nil {
		return result{}, err
	}
	for i := range stage.slow {
		c.delays[i].set(cfg.Delay)
		defer c.delays[i].set(0)
	}
	paused := 0
	for i, m := range c.members[:flexibleMembers-flexibleSlow] {
		if i == lead || paused == stage.paused {
			continue
		}
		paused++
		m.cmd.Process.Signal(syscall.SIGSTOP)
		defer m.cmd.Process.Signal(syscall.SIGCONT)
	}
	r, err := c.work(ctx, workSpec{Load: "put-1", Endpoints: []string{c.endpoints[lead]}, Clients: 1, Connections: 1, Seconds: cfg.Duration.Seconds(), Keys: 1000})
	if err == nil && r.Ops == 0 {
		err = errors.New("not one put was answered")
	}
	return r, err
}

// quickLeader sees to it that none of the members leads that will be slow.
func (c *cluster) quickLeader(ctx context.Context) (int, error) {
	for range 20 {
		if err := c.waitServing(ctx, time.Minute); err != nil {
			return 0, err
		}
		lead, err := c.leader(ctx)
		if err != nil || lead < flexibleMembers-flexibleSlow {
			return lead, err
		}
		c.members[lead].kill() // the others elect
		if err := c.members[lead].start(); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("one of the members that are to be slow leads again and again")
}

func (r *report) printFlexible(w io.Writer) {
	if len(r.Flexible) == 0 {
		return
	}
	fmt.Fprintf(w, "\nputs of one client, five members; what is sent to a slow one arrives %g ms later\n", r.Flexible[0].DelayMillis)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "protocol\twaits for\tmembers\tputs/s\tp50 ms\tp99 ms")
	for _, f := range r.Flexible {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\t%.2f\t%.2f\n", f.System, f.Waits, f.Stage, field(f.Rounds, rate), field(f.Rounds, p50), field(f.Rounds, p99))
	}
	t.Flush()
}

// checkFlexible finds a put that waited for a slow member although two quick ones were there.
func (r *report) checkFlexible() error {
	for _, f := range r.Flexible {
		if p := field(f.Rounds, p50); f.Waits == "2 of 5" && p >= f.DelayMillis {
			return fmt.Errorf("%s, %s: a put took %.1f ms, as if it had waited for a slow member (%g ms)", f.System, f.Stage, p, f.DelayMillis)
		}
	}
	return nil
}
