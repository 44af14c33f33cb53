package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/cluster"
	"github.com/quoratedb/quorate/server"
)

// createFlags are those of quorate backup create.
type createFlags struct {
	targetFlags
	incremental bool
	parent      string
	recipients  []string
	rate        string
	parallel    int
	fresh       bool
	retry       time.Duration
	cold        bool
	dataDir     string
	incomplete  bool
	without     bool // users
	fence       bool
	hash        string
}

// exportStall is how long a node may send nothing.
const exportStall = 30 * time.Second

func (a *app) backupCreateCommand() *cobra.Command {
	var f createFlags
	command := &cobra.Command{
		Use:   "create TARGET",
		Short: "Back up a running cluster, or the data directory of a stopped node",
		Long: `Reads all shards at one revision through the nodes of --endpoints, in turn, while the
cluster goes on working, and writes them to TARGET. Nothing there looks like a backup
before it is complete. If it is interrupted the same command goes on with it, unless the
history was compacted above its revision meanwhile.

With --incremental it reads what came since the newest backup there (or --parent), with
every version in between: the history must not have been compacted above that.

With --cold it reads the data directory of a node that is stopped, up to the revision of
which the node knows that it has everything. What others wrote, and it had not heard of
when it stopped, is not in it. If a node of several knows of later writes in one shard,
and of none in another, it cannot tell whether it misses something there: that is
refused, unless --incomplete takes what is certain.

With --fence the whole cluster refuses writes first, and the backup has all that was ever
written: for a migration. The cluster goes on refusing them, whatever becomes of the backup,
until quorate fence release. --incremental after a full one makes the time short.`,
		Example: `  quorate backup create /var/backups/quorate
  quorate backup create --incremental --recipients team.txt s3://backups/production
  quorate backup create --fence --incremental s3://backups/production
  quorate backup create --cold --data-dir /var/lib/quorate /var/backups/quorate`,
		Args: cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.createBackup(ctx, &f, arguments[0]) }),
	}
	flags := command.Flags()
	flags.BoolVar(&f.incremental, "incremental", false, "only what came since another backup")
	flags.StringVar(&f.parent, "parent", "", "the backup that an incremental one goes on from (default: the newest)")
	flags.StringArrayVar(&f.recipients, "recipients", nil, "encrypt it: a file with the recipients of age, one in a line, who can read it; may be given several times")
	flags.StringVar(&f.rate, "rate-limit", "", "keys and values that are read in a second, such as 20MiB (default: no limit)")
	flags.IntVar(&f.parallel, "parallel", 4, "how many shards are read at once")
	flags.BoolVar(&f.fresh, "fresh", false, "do not go on with one that was interrupted")
	flags.DurationVar(&f.retry, "retry", time.Minute, "how long nodes that do not answer are asked again")
	flags.StringVar(&f.hash, "hash", "full", "ask a node for the hash of its state, which reads all of it, for backup verify --deep: full (of full backups), always, or never")
	flags.BoolVar(&f.fence, "fence", false, "have the cluster refuse writes first, until quorate fence release, and back up all that was written")
	flags.BoolVar(&f.cold, "cold", false, "of a stopped node: read --data-dir, and ask nobody")
	flags.StringVar(&f.dataDir, "data-dir", "", "with --cold: the data directory of the node")
	flags.BoolVar(&f.incomplete, "incomplete", false, "with --cold: leave out what is later than the revision up to which all shards are known to be complete")
	flags.BoolVar(&f.without, "without-users", false, "leave out users and roles, among them the hashes of passwords: what is restored is open to everybody")
	f.addPatience(command)
	a.addClientFlags(command, requestTimeout)
	return command
}

// parseSize reads a number of bytes: 1000, 64KiB, 20MiB, 1GiB.
func parseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for unit, f := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if n, found := strings.CutSuffix(text, unit); found {
			number, factor = n, f
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > (1<<62)/factor {
		return 0, usagef("%q is not a number of bytes: write 1000, 64KiB, 20MiB or 1GiB", text)
	}
	return n * factor, nil
}

func (f *createFlags) options(a *app, meter *meter) (backup.CreateOptions, error) {
	options := backup.CreateOptions{Incremental: f.incremental, Parent: f.parent, Writer: server.Version, Parallel: f.parallel, Fresh: f.fresh, Cold: f.cold,
		WithoutUsers: f.without, Present: f.fence}
	switch {
	case f.cold && f.fence:
		return options, usagef("--fence is of a cluster that runs; with --cold nobody writes")
	case f.cold != (f.dataDir != ""):
		return options, usagef("--cold and --data-dir go together: which directory of a stopped node to read")
	case f.incomplete && !f.cold:
		return options, usagef("--incomplete is of a backup with --cold")
	case f.parent != "" && !f.incremental:
		return options, usagef("--parent is of an incremental backup: give --incremental, too")
	case f.hash != "full" && f.hash != "always" && f.hash != "never":
		return options, usagef("--hash=%s: must be full, always or never", f.hash)
	case f.parallel < 1 || f.parallel > 64:
		return options, usagef("--parallel=%d: must be between 1 and 64", f.parallel)
	}
	options.Hash = f.hash == "always" || f.hash == "full" && !f.incremental
	var err error
	if options.Recipients, err = readAge(f.recipients, "--recipients", age.ParseRecipients); err != nil {
		return options, err
	}
	if f.rate != "" {
		perSecond, err := parseSize(f.rate)
		if err != nil {
			return options, err
		}
		options.Wait = limitTo(perSecond)
	}
	var mu sync.Mutex
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		meter.end()
		fmt.Fprintf(a.stderr, "quorate: %s\n", text)
	}
	options.Notice = say
	options.Retry = func(ctx context.Context, failures int, err error) error {
		const pause = time.Second
		if !errors.Is(err, cluster.ErrUnavailable) || time.Duration(failures)*pause >= f.retry {
			return err
		}
		if failures == 0 {
			say(err.Error() + "; trying another node")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
			return nil
		}
	}
	began := time.Now()
	options.Progress = func(p backup.Progress) {
		mu.Lock()
		defer mu.Unlock()
		text := fmt.Sprintf("backup %s: %s read, %s stored, %d of %d shards", p.ID, sizeText(p.ReadBytes), sizeText(p.Stored), p.Done, p.Shards)
		if !f.incremental && p.ReadBytes > 0 && p.TotalBytes > p.ReadBytes {
			left := time.Duration(float64(time.Since(began)) * float64(p.TotalBytes-p.ReadBytes) / float64(p.ReadBytes))
			text += fmt.Sprintf(", about %v left", left.Round(time.Second))
		}
		meter.show(text)
	}
	return options, nil
}

// limitTo waits so that so many bytes pass in a second.
func limitTo(perSecond int64) func(context.Context, int) error {
	const unit = 256 // bytes: a burst may be longer than the largest value
	limiter := rate.NewLimiter(rate.Limit(float64(perSecond)/unit), 1<<20)
	limiter.AllowN(time.Now(), 1<<20-int(min(1<<20-1, perSecond/unit))) // it does not begin with a burst of many seconds
	return func(ctx context.Context, bytes int) error { return limiter.WaitN(ctx, (bytes+unit-1)/unit) }
}

func (a *app) createBackup(ctx context.Context, f *createFlags, address string) (err error) {
	meter := a.newMeter()
	options, err := f.options(a, meter)
	if err != nil {
		return err
	}
	v, t, err := f.open(ctx, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	origin, done, err := f.origin(a)
	if err != nil {
		return fmt.Errorf("backup create: %w", err)
	}
	defer func() { err = errors.Join(err, done()) }()
	if f.fence {
		if err := a.raiseFence(ctx); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				fmt.Fprintln(a.stderr, "quorate: the cluster still refuses writes: repeat the command, or run quorate fence release")
			}
		}()
	}
	b, err := v.Create(ctx, origin, options)
	meter.end()
	switch {
	case ctx.Err() != nil:
		return errors.New("backup create: interrupted; the same command goes on with it")
	case errors.Is(err, cluster.ErrUnavailable):
		return &unavailableError{"backup create: " + err.Error()}
	case err != nil:
		return fmt.Errorf("backup create: %w%s", err, advice(err.Error()))
	}
	if b.UserRows > 0 && len(b.Keys) == 0 {
		fmt.Fprintln(a.stderr, "quorate: note: the backup has users and the hashes of their passwords, and is not encrypted: --recipients encrypts it, --without-users leaves them out")
	}
	if a.json() {
		return writeJSON(a.stdout, newBackupJSON(b))
	}
	if f.fence {
		fmt.Fprintln(a.stderr, "quorate: note: the cluster refuses writes, until quorate fence release")
	}
	_, err = fmt.Fprintf(a.stdout, "backup %s: %s, of revision %d (each from %d on can be restored), %s, %s stored, in %v\n", b.ID, b.Kind(), b.Revision, b.HistoryFrom,
		plural(b.Digest.Versions, "version"), sizeText(b.StoredBytes()), b.Finished.Sub(b.Began).Round(time.Millisecond))
	return err
}

// raiseFence has the cluster refuse writes.
func (a *app) raiseFence(ctx context.Context) error {
	return a.request(ctx, "backup create --fence", func(ctx context.Context, client *clientv3.Client) error {
		_, _, err := askFence(ctx, client, pb.AlarmRequest_ACTIVATE)
		return err
	})
}

// origin is what is backed up; done lets go of it.
func (f *createFlags) origin(a *app) (origin backup.Origin, done func() error, err error) {
	if f.cold {
		return f.coldOrigin(a)
	}
	endpoints, err := a.cleanEndpoints()
	if err != nil {
		return nil, nil, err
	}
	var nodes []cluster.Node
	var clients []*clientv3.Client
	done = func() (err error) {
		for _, client := range clients {
			err = errors.Join(err, client.Close())
		}
		return err
	}
	for _, endpoint := range endpoints {
		client, err := a.newClient([]string{endpoint}, a.timeout)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make a client of %s: %w", endpoint, err), done())
		}
		clients = append(clients, client)
		nodes = append(nodes, cluster.Node{Name: endpoint, Conn: client.ActiveConnection()})
	}
	return cluster.New(nodes, max(a.timeout, exportStall)), done, nil
}

// coldOrigin is the data directory of a stopped node. It says what will not be in the backup.
func (f *createFlags) coldOrigin(a *app) (backup.Origin, func() error, error) {
	cold, err := server.OpenCold(f.dataDir)
	if err != nil {
		return nil, nil, err
	}
	complete, newest, why := cold.Complete()
	if complete < newest && !f.incomplete {
		err := fmt.Errorf("the data directory %s has writes up to revision %d, and is known to be complete up to %d only: %s. Back the cluster up while it runs, "+
			"or give --incomplete to leave out what is later than %d", f.dataDir, newest, complete, why, complete)
		return nil, nil, errors.Join(err, cold.Close())
	}
	if complete < newest {
		fmt.Fprintf(a.stderr, "quorate: note: writes at revisions %d to %d are left out: %s\n", complete+1, newest, why)
	}
	if unknown := cold.Unknown(); unknown > 0 {
		fmt.Fprintf(a.stderr, "quorate: note: %s of the log, which may not be committed, are left out\n", plural(int64(unknown), "record"))
	}
	return cold, cold.Close, nil
}
