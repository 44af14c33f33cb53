// Command bench measures Quorate side by side with etcd and with the physical limits: a gRPC server that does nothing, and
// an fdatasync. It builds everything from source, runs three members of each system on this machine, gives each the
// same load in turn for several rounds, and prints ratios of medians.
//
// Absolute figures of small virtual machines vary by a quarter within minutes. Compare within a run, and
// look at server CPU / client CPU: the client does the same work every time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type config struct {
	Rounds   int
	Duration time.Duration
	Loads    []string
	Fill     int
	Keys     int
	Dir      string
	JSON     string
	SVG      string
	Smoke    bool
	Flexible bool
	Delay    time.Duration
	Systems  []string
	Profiles string
	Other    string // the file of another build
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			exit(runWorker(os.Stdin, os.Stdout))
		case "null":
			exit(runNull(os.Args[2:]))
		}
	}
	cfg, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		exit(nil)
	}
	if err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, cfg))
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func parseFlags(args []string) (config, error) {
	var cfg config
	var loads, systems string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&cfg.Rounds, "rounds", 3, "alternating rounds per load")
	fs.DurationVar(&cfg.Duration, "duration", 5*time.Second, "time of one load on one system in one round")
	fs.StringVar(&loads, "loads", "", "comma-separated loads; empty: all of "+strings.Join(loadNames(), " ")+". Only by name: "+loadShards+", which compares one shard with several, and "+
		loadTransactions+", which compares transactions over them; "+loadAuth+" and "+loadAudit+", what users and the audit log cost; "+loadBackup+", backups and restores beside etcd's snapshots")
	fs.StringVar(&systems, "systems", strings.Join([]string{systemEtcd, systemRaft, systemPaxos, systemNull}, ","), "systems to compare; quorate is with Raft, also called quorate-raft")
	fs.StringVar(&cfg.Other, "other", "", "another build of quorate, such as of the release before: compared as "+systemOther)
	fs.IntVar(&cfg.Fill, "fill", 1_000_000, "keys of the fill load, of the lists of the load shards, and of the largest deletion of the load long")
	fs.IntVar(&cfg.Keys, "keys", 100_000, "keys that the put and get loads use")
	fs.StringVar(&cfg.Dir, "dir", "", "where binaries and data go; empty: a temporary directory")
	fs.StringVar(&cfg.JSON, "json", "", "file for the results as JSON")
	fs.StringVar(&cfg.SVG, "svg", "", "file for a plot")
	fs.StringVar(&cfg.Profiles, "profiles", "", "with --loads shards: folder for CPU profiles of leaders; empty: only what takes most is printed")
	fs.BoolVar(&cfg.Smoke, "smoke", false, "a short run that only shows that everything works: one round of half a second, without etcd")
	fs.BoolVar(&cfg.Flexible, "flexible", false, "instead of the loads: puts on five members with majorities and with a phase-2 quorum of two, while members are slow or paused")
	fs.DurationVar(&cfg.Delay, "delay", 40*time.Millisecond, "with --flexible: how much later what is sent to a slow member arrives")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if loads != "" {
		cfg.Loads = strings.Split(loads, ",")
	}
	cfg.Systems = strings.Split(strings.ReplaceAll(systems, "quorate-raft", systemRaft), ",")
	if cfg.Other != "" && !slices.Contains(cfg.Systems, systemOther) {
		cfg.Systems = append(cfg.Systems, systemOther)
	}
	if cfg.Other == "" && slices.Contains(cfg.Systems, systemOther) {
		return cfg, fmt.Errorf("system %s needs --other, the file of that build", systemOther)
	}
	if cfg.Smoke {
		cfg.Delay = 100 * time.Millisecond                                                                                                // so that a busy machine cannot be taken for a slow member
		cfg.Rounds, cfg.Duration, cfg.Fill, cfg.Keys, cfg.Systems = 1, 500*time.Millisecond, 2000, 1000, []string{systemRaft, systemNull} // Paxos: measureFlexible
	}
	if cfg.Rounds < 1 || cfg.Duration <= 0 || cfg.Keys < 1 || cfg.Fill < 1 {
		return cfg, fmt.Errorf("--rounds, --duration, --keys and --fill must be positive")
	}
	if cfg.Flexible {
		cfg.Systems = []string{systemRaft, systemPaxos}
	}
	if cfg.Delay <= 0 || cfg.Delay > 200*time.Millisecond {
		return cfg, fmt.Errorf("--delay must be above 0 and at most 200ms: with more the members take each other for dead")
	}
	if err := checkSystems(cfg.Systems); err != nil {
		return cfg, err
	}
	return cfg, checkLoads(cfg.Loads)
}

// pause lets something go on, or settle; figures need it, a smoke test nearly not.
func (c config) pause(d time.Duration) {
	if c.Smoke {
		d /= 10
	}
	time.Sleep(d)
}

func run(ctx context.Context, cfg config) error {
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "quorate-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cfg.Dir = dir
	}
	bin, err := build(ctx, cfg)
	if err != nil {
		return err
	}
	results := newReport(cfg)
	if results.Fsync, err = measureFsync(filepath.Join(cfg.Dir, "fsync")); err != nil {
		return err
	}
	for _, part := range []struct {
		wanted  bool
		measure func(context.Context, config, binaries, *report) error
	}{
		{!cfg.Flexible && slices.ContainsFunc(loads, func(l load) bool { return cfg.wants(l.name) }), measureLoads},
		{!cfg.Flexible && cfg.wants("failover"), measureFailover},
		{!cfg.Flexible && cfg.wants("fill"), measureFill},
		{!cfg.Flexible && cfg.wants("long"), measureLong},
		{!cfg.Flexible && slices.Contains(cfg.Loads, loadShards), measureShards},
		{!cfg.Flexible && slices.Contains(cfg.Loads, loadTransactions), measureTransactions},
		{!cfg.Flexible && (slices.Contains(cfg.Loads, loadAuth) || slices.Contains(cfg.Loads, loadAudit)), measureGuards},
		{!cfg.Flexible && slices.Contains(cfg.Loads, loadBackup), measureBackups},
		{cfg.Flexible || cfg.Smoke && len(cfg.Loads) == 0, measureFlexible},
	} {
		if !part.wanted {
			continue
		}
		if err := part.measure(ctx, cfg, bin, results); err != nil {
			return err
		}
	}
	results.print(os.Stdout)
	if cfg.JSON != "" {
		data, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(cfg.JSON, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if cfg.SVG != "" {
		if err := os.WriteFile(cfg.SVG, results.svg(), 0o644); err != nil {
			return err
		}
	}
	return results.checkFlexible()
}

// measureLoads runs every load on every system, in rounds that alternate.
func measureLoads(ctx context.Context, cfg config, bin binaries, report *report) error {
	var clusters []*cluster
	for _, name := range cfg.Systems {
		c, err := startCluster(ctx, name, bin, filepath.Join(cfg.Dir, name+"-loads"))
		if err != nil {
			return err
		}
		defer c.stop()
		clusters = append(clusters, c)
	}
	for _, l := range loads {
		if !cfg.wants(l.name) {
			continue
		}
		for round := range cfg.Rounds {
			for i := range clusters {
				c := clusters[(i+round)%len(clusters)]
				if c.system == systemNull && !l.null {
					continue
				}
				r, err := c.measure(ctx, l, cfg)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", l.name, c.system, err)
				}
				report.add(l.name, c.system, r)
				fmt.Fprintf(os.Stderr, "%-16s round %d %-13s %9.0f/s  p50 %7.2f ms  p99 %7.2f ms  server %6.1f us/op  client %6.1f us/op\n",
					l.name, round+1, c.system, r.Rate, r.P50, r.P99, r.ServerCPU, r.ClientCPU)
			}
		}
	}
	return nil
}

func (c config) wants(load string) bool {
	if len(c.Loads) == 0 {
		return true
	}
	for _, l := range c.Loads {
		if l == load {
			return true
		}
	}
	return false
}
