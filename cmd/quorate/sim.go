package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/sim"
	"github.com/quoratedb/quorate/sim/campaign"
)

// Exit codes of sim beside those of all commands.
const (
	exitCrash       = 10
	exitCorrectness = 11
	exitLiveness    = 12
	exitDiverged    = 13
)

// verdictError ends sim with the exit code of a verdict.
type verdictError struct {
	verdict sim.Verdict
	message string
}

func (e *verdictError) Error() string { return e.message }

func (e *verdictError) exitCode() int {
	switch e.verdict {
	case sim.Correctness:
		return exitCorrectness
	case sim.Liveness:
		return exitLiveness
	case campaign.Diverged:
		return exitDiverged
	}
	return exitCrash
}

const simHelp = `Runs whole clusters inside this program on virtual time: real nodes on simulated
networks, disks and clocks, with faults, and with clients whose every answer is checked.
A seed decides everything that happens; the same seed is the same run.

  --seed N      runs one seed and shows its trace, its verdict and its figures
  --seeds A..B  runs all of them in worker processes, sums up, and makes failing runs smaller
  --replay FILE runs a saved trace again and compares

Exit codes: 0 passed; 1 it could not be done, or was interrupted; 2 wrong usage; 10 crash: the
code panicked, a run did not end, or it used too much memory; 11 correctness: an answer was
wrong; 12 liveness: a healthy cluster did not serve; 13 the same run gave another trace. Of
several seeds the worst counts: 11 before 10 before 12 before 13.`

// simFlags are the flags as they were given.
type simFlags struct {
	seed, seeds, replay        string
	shards                     int
	partition                  string
	commit                     string
	consensus, engine          string
	clients, faults, checkHash string
	duration                   time.Duration
	trace                      string
	output                     string
	twice, inProcess           bool

	jobs      int
	keepGoing bool
	limit     time.Duration // of the whole campaign

	minimise     bool
	minimiseRuns int
	minimiseTime time.Duration

	runTime      time.Duration
	runMemoryMiB uint64
}

func (a *app) simCommand() *cobra.Command {
	f := &simFlags{}
	command := &cobra.Command{
		Use:   "sim",
		Short: "Run simulated clusters under faults, from a seed",
		Long:  simHelp,
		Example: `  quorate sim --seed 42                         # one run, with its trace
  quorate sim --seed 42 --faults none --trace off
  quorate sim --seed 42 --trace run.trace       # and later: quorate sim --replay run.trace
  quorate sim --seeds 1..1000 --jobs 2          # a campaign`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sim(cmd, f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.seed, "seed", "", "run this seed, a whole number")
	flags.StringVar(&f.seeds, "seeds", "", "run these seeds: 1..100 (both included), 42+10 (ten from 42 on), or 42")
	flags.StringVar(&f.replay, "replay", "", "run the run of this trace file again and compare the traces")
	flags.StringVar(&f.consensus, "consensus", "", "protocol: raft or paxos (default: drawn from the seed)")
	flags.StringVar(&f.engine, "engine", "", "disks: memory or pebble (default: what the seed says, pebble for one in ten)")
	flags.IntVar(&f.shards, "shards", 0, "how many groups the nodes hold, 1 to 64 (default: what the seed says, one for three seeds in five)")
	flags.StringVar(&f.partition, "partition", "", "makes the groups shards of one store: range or hash; none: each is one of its own (default: what the seed says, if --shards does not say how many)")
	flags.StringVar(&f.commit, "commit-protocol", "", "how transactions over several shards of one store are decided: 2pc or 3pc (default: drawn from the seed)")
	flags.StringVar(&f.clients, "clients", "", "with --seed: only these clients of the plan, such as 1,3, or none")
	flags.StringVar(&f.faults, "faults", "", "with --seed: only these faults of the plan, such as 2,5,9, or none")
	flags.DurationVar(&f.duration, "duration", 0, "with --seed: end the clients' work and the faults after this virtual time, such as 1.5s")
	flags.StringVar(&f.trace, "trace", "", `with --seed: where the trace goes: a file, - for standard output, or off (default "-"; "off" with --output json)`)
	flags.StringVar(&f.checkHash, "check-hash", "", "with --seed: fail unless the trace has this hash")
	flags.BoolVar(&f.twice, "twice", false, "run every seed twice and demand the same trace")
	flags.BoolVar(&f.inProcess, "in-process", false, "with --seed: run in this process, such as for a debugger, without limits of time and memory")
	flags.IntVar(&f.jobs, "jobs", runtime.NumCPU(), "runs at a time, each in a process of its own")
	flags.BoolVar(&f.keepGoing, "keep-going", false, fmt.Sprintf("with --seeds: do not stop after %d failing seeds", maxFailures))
	flags.DurationVar(&f.limit, "for", 0, "with --seeds: stop after this real time (0: when all seeds are done)")
	flags.BoolVar(&f.minimise, "minimise", false, "look for smaller runs that fail in the same way (default: true with --seeds)")
	flags.IntVar(&f.minimiseRuns, "minimise-runs", 300, "runs that the search may take for each failing seed")
	flags.DurationVar(&f.minimiseTime, "minimise-time", 2*time.Minute, "real time that the search may take for all failing seeds")
	flags.DurationVar(&f.runTime, "run-time-limit", 2*time.Minute, "processor time that a run may take (0: any)")
	flags.Uint64Var(&f.runMemoryMiB, "run-memory-limit", 2048, "memory that a run may take, MiB (0: any)")
	flags.StringVar(&f.output, "output", "table", "form of the output: table or json")
	for name, values := range map[string][]string{"output": {"table", "json"}, "consensus": {"raft", "paxos"}, "engine": {"memory", "pebble"}} {
		noError(command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	command.AddCommand(a.simWorkerCommand())
	return command
}

// simWorkerCommand is what the workers of a campaign run.
func (a *app) simWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "worker",
		Short:   "Run simulations for a parent process: jobs on standard input, reports on standard output",
		Example: "  quorate sim --seeds 1..100   # starts workers by itself",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.running = true
			// Not the command's context: an interrupt ends the parent, which ends its workers by closing their input.
			return campaign.Serve(a.stdin, a.stdout, a.simulator)
		},
	}
}

// onlyWith says which flags go with one of --seed, --seeds and --replay only.
var onlyWith = map[string]string{
	"clients": "seed", "faults": "seed", "duration": "seed", "trace": "seed", "check-hash": "seed", "in-process": "seed",
	"keep-going": "seeds", "for": "seeds",
}

// notWithReplay: a trace file says everything about its run.
var notWithReplay = []string{"consensus", "engine", "shards", "partition", "commit-protocol", "twice", "minimise"}

// mode is which of the three ways to use sim was asked for.
func (f *simFlags) mode(cmd *cobra.Command) (string, error) {
	var modes []string
	for _, name := range []string{"seed", "seeds", "replay"} {
		if cmd.Flags().Changed(name) {
			modes = append(modes, name)
		}
	}
	switch len(modes) {
	case 0:
		return "", errors.New("sim: say what to run: --seed 42, --seeds 1..100, or --replay FILE")
	case 1:
	default:
		return "", fmt.Errorf("sim: --%s do not go together: give one of them", strings.Join(modes, " and --"))
	}
	for name, needs := range onlyWith {
		if cmd.Flags().Changed(name) && needs != modes[0] {
			return "", fmt.Errorf("sim: --%s goes with --%s, and not with --%s", name, needs, modes[0])
		}
	}
	for _, name := range notWithReplay {
		if modes[0] == "replay" && cmd.Flags().Changed(name) {
			return "", fmt.Errorf("sim: --%s does not go with --replay: the file says what to run", name)
		}
	}
	return modes[0], nil
}

// check refuses values that make no sense whatever the mode.
func (f *simFlags) check() error {
	switch {
	case f.output != "table" && f.output != "json":
		return fmt.Errorf("--output=%s: must be table or json", f.output)
	case f.consensus != "" && f.consensus != string(sim.Raft) && f.consensus != string(sim.Paxos):
		return fmt.Errorf("--consensus=%s: must be raft or paxos", f.consensus)
	case f.engine != "" && f.engine != string(sim.Memory) && f.engine != string(sim.Pebble):
		return fmt.Errorf("--engine=%s: must be memory or pebble", f.engine)
	case !slices.Contains([]string{"", sim.ByRange, sim.ByHash, sim.NoPartition}, f.partition):
		return fmt.Errorf("--partition=%s: must be %s, %s or %s", f.partition, sim.ByRange, sim.ByHash, sim.NoPartition)
	case f.commit != "" && f.commit != string(sim.TwoPhase) && f.commit != string(sim.ThreePhase):
		return fmt.Errorf("--commit-protocol=%s: must be %s or %s", f.commit, sim.TwoPhase, sim.ThreePhase)
	case f.partition != "" && f.partition != sim.NoPartition && f.shards == 1:
		return errors.New("--partition: a store of one shard has nothing to part; leave it out, or ask for more --shards")
	case f.shards < 0 || f.shards > sim.MaxShards:
		return fmt.Errorf("--shards=%d: must be from 1 to %d", f.shards, sim.MaxShards)
	case f.jobs < 1 || f.jobs > maxJobs:
		return fmt.Errorf("--jobs=%d: must be from 1 to %d", f.jobs, maxJobs)
	case f.duration < 0 || f.limit < 0 || f.runTime < 0 || f.minimiseTime < 0:
		return errors.New("--duration, --for, --run-time-limit and --minimise-time must not be below 0")
	case f.minimiseRuns < 1:
		return fmt.Errorf("--minimise-runs=%d: must be above 0", f.minimiseRuns)
	case f.output == "json" && f.trace == "-":
		return errors.New("--trace=- and --output=json both want standard output: write the trace to a file")
	case f.inProcess && f.minimise:
		return errors.New("--minimise needs worker processes, which --in-process does without")
	}
	return nil
}

const maxJobs = 1024

// spec is the run that the flags of --seed name.
func (f *simFlags) spec() (spec campaign.Spec, err error) {
	spec = f.base()
	if spec.Seed, err = campaign.ParseSeed(f.seed); err != nil {
		return spec, fmt.Errorf("--seed: %w", err)
	}
	if spec.Clients, err = campaign.ParseNumbers(f.clients); err != nil {
		return spec, fmt.Errorf("--clients: %w", err)
	}
	if spec.Faults, err = campaign.ParseNumbers(f.faults); err != nil {
		return spec, fmt.Errorf("--faults: %w", err)
	}
	spec.Duration = f.duration
	return spec, nil
}

func (f *simFlags) base() campaign.Spec {
	return campaign.Spec{Protocol: sim.Protocol(f.consensus), Engine: sim.EngineKind(f.engine), Shards: f.shards, Partition: f.partition, Commit: sim.CommitProtocol(f.commit)}
}

func (a *app) sim(cmd *cobra.Command, f *simFlags) error {
	mode, err := f.mode(cmd)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	s := &simulation{app: a, flags: f}
	switch mode {
	case "seeds":
		seeds, err := campaign.ParseSeeds(f.seeds)
		if err != nil {
			return fmt.Errorf("--seeds: %w", err)
		}
		if !cmd.Flags().Changed("minimise") {
			f.minimise = true
		}
		first := f.base()
		first.Seed = seeds.First
		if err := a.simulator.Validate(a.simulator.Plan(first)); err != nil {
			return err
		}
		a.running = true
		return s.campaign(cmd.Context(), seeds)
	case "replay":
		a.running = true
		return s.replay(cmd.Context())
	}
	spec, err := f.spec()
	if err != nil {
		return err
	}
	if err := spec.CheckAgainst(a.simulator.Plan(campaign.Spec{Seed: spec.Seed, Protocol: spec.Protocol, Engine: spec.Engine})); err != nil {
		return err
	}
	if err := a.simulator.Validate(a.simulator.Plan(spec)); err != nil {
		return err
	}
	hash, err := f.hash()
	if err != nil {
		return err
	}
	a.running = true
	return s.one(cmd.Context(), spec, hash)
}

// hash is what --check-hash asks for; nil: nothing.
func (f *simFlags) hash() (*uint64, error) {
	if f.checkHash == "" {
		return nil, nil
	}
	hash, err := campaign.ParseHash(f.checkHash)
	if err != nil {
		return nil, fmt.Errorf("--check-hash: %w", err)
	}
	return &hash, nil
}

// simulation is one use of sim.
type simulation struct {
	app   *app
	flags *simFlags
}

// runner gives worker processes; release ends them.
func (s *simulation) runner(jobs int) (runner campaign.Runner, release func(), err error) {
	if s.flags.inProcess {
		return campaign.Here{Simulator: s.app.simulator}, func() {}, nil
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find this program's file: %w", err)
	}
	pool, err := campaign.NewPool(campaign.PoolOptions{
		Program: []string{program, "sim", "worker"}, Environment: s.app.environment, Jobs: jobs,
		Limits: campaign.Limits{Work: s.flags.runTime, MemoryBytes: s.flags.runMemoryMiB << 20},
	})
	if err != nil {
		return nil, nil, err
	}
	return pool, pool.Close, nil
}

func (s *simulation) budget() campaign.Budget {
	return campaign.Budget{Runs: s.flags.minimiseRuns, Time: s.flags.minimiseTime}
}

func (s *simulation) json() bool { return s.flags.output == "json" }

// minimise is the search for one run.
func (s *simulation) minimise(ctx context.Context, runner campaign.Runner, spec campaign.Spec, verdict sim.Verdict, budget campaign.Budget) (*campaign.Minimised, error) {
	whole := s.app.simulator.Plan(campaign.Spec{Seed: spec.Seed, Protocol: spec.Protocol, Engine: spec.Engine})
	return campaign.Minimise(ctx, runner, spec, verdict, whole, budget)
}
