package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/server"
)

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore TARGET | --from-etcd-snapshot=FILE [--FLAG=VALUE...]",
		Short: "Make the data directory of a node of a new cluster from a backup, or a snapshot of etcd",
		Long: `Makes the data directory of one node from the backups at TARGET (quorate backup), or
from a snapshot that etcd or Quorate has made (etcdctl snapshot save). Run it on every
node of the new cluster, with the same flags, before any of them is started. Keys keep
their versions and leases; a lease has its whole TTL again.

Of backups:
  --at-revision=N            restore this revision (default: the newest that was backed up)
  --at-time=TIME             restore what was there then, as far as backups tell: RFC 3339, or 2026-11-30 12:00:00 in local time
  --prefix=P                 only the keys that begin so
  --keep-revisions           go on from the revision that is restored, with its history. Otherwise the store goes
                             on a billion revisions above all that were backed up, and its history is compacted, so
                             that clients which remember revisions notice
  --drop-auth                leave out users and roles: nobody has to log in
  --identity=FILE            identities of age, for encrypted backups
  --target-patience=DURATION how long a target that does not answer is tried again (default 2m)

Of a snapshot, where revisions and history are kept:
  --from-etcd-snapshot=FILE  the snapshot
  --skip-hash-check          take one without a hash (a copy of member/snap/db), or with a wrong one
  --drop-auth                leave out users and roles: nobody has to log in
  --bump-revision=N          go on N revisions above the newest one of the snapshot
  --mark-compacted           and have the history end there; one is not given without the other

All other flags are those of quorate serve, and say what cluster this is: --name,
--data-dir, --initial-cluster, --initial-shards, --consensus and so on. If no
--initial-cluster-token is given, one is made, which serve has to be given.`,
		Example: `  quorate restore s3://backups/production --name n1 --data-dir /var/lib/quorate \
    --initial-advertise-peer-urls http://10.0.0.1:2380 \
    --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380
  quorate restore /var/backups/quorate --at-time "2026-11-30 12:00:00" --data-dir /tmp/then --initial-shards 8
  quorate restore --from-etcd-snapshot backup.db --data-dir /var/lib/quorate`,
		DisableFlagParsing: true, // as with serve
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.restore(cmd, arguments)
		},
	}
}

// restoring is what restore's own flags say.
type restoring struct {
	snapshot server.RestoreOptions
	marked   bool
	target   string
	flags    targetFlags
	revision kv.Revision // 0: the newest
	at       time.Time
	prefix   string
	keep     bool
}

// of takes a flag that has a value.
func (r *restoring) of(name, value string) (err error) {
	switch name {
	case "from-etcd-snapshot":
		r.snapshot.Snapshot = value
	case "bump-revision":
		if r.snapshot.BumpRevision, err = strconv.ParseInt(value, 10, 64); err != nil || r.snapshot.BumpRevision < 1 || r.snapshot.BumpRevision > maxBump {
			return fmt.Errorf("must be between 1 and %d", int64(maxBump))
		}
	case "at-revision":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 {
			return errors.New("must be a revision, from 1 on")
		}
		r.revision = kv.Revision(n)
	case "at-time":
		r.at, err = parseTime(value)
	case "prefix":
		r.prefix = value
	case "identity":
		r.flags.identities = append(r.flags.identities, value)
	case "target-patience":
		r.flags.patience, err = time.ParseDuration(value)
	}
	return err
}

// restoreFlags are the flags that only restore has. The others are left.
func restoreFlags(arguments []string) (r restoring, rest []string, err error) {
	r.flags.patience = 2 * time.Minute
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		r.target, arguments = arguments[0], arguments[1:]
	}
	switches := map[string]*bool{"skip-hash-check": &r.snapshot.SkipHashCheck, "drop-auth": &r.snapshot.DropAuth, "mark-compacted": &r.marked, "keep-revisions": &r.keep}
	ofSnapshots := []string{"from-etcd-snapshot", "bump-revision", "skip-hash-check", "mark-compacted"}
	ofBoth := []string{"drop-auth"}
	ofBackups := []string{"at-revision", "at-time", "prefix", "identity", "target-patience", "keep-revisions"}
	for i := 0; i < len(arguments); i++ {
		name, value, given := strings.Cut(strings.TrimLeft(arguments[i], "-"), "=")
		known := slices.Contains(ofSnapshots, name)
		wrong := known && r.target != "" || !known && slices.Contains(ofBackups, name) && r.target == ""
		known = known || slices.Contains(ofBackups, name) || slices.Contains(ofBoth, name)
		switch to := switches[name]; {
		case !strings.HasPrefix(arguments[i], "-") || !known:
			rest = append(rest, arguments[i])
			continue
		case wrong && r.target == "":
			err = errors.New("it is of backups: give the TARGET first")
		case wrong:
			err = errors.New("it is of a snapshot, and a TARGET is given")
		case to != nil:
			if *to = true; given {
				*to, err = strconv.ParseBool(value)
			}
		case !given && i+1 == len(arguments):
			err = errors.New("a value is missing")
		default:
			if !given {
				i++
				value = arguments[i]
			}
			err = r.of(name, value)
		}
		if err != nil {
			return r, nil, fmt.Errorf("--%s: %w", name, err)
		}
	}
	switch {
	case r.target == "" && r.snapshot.Snapshot == "":
		return r, nil, errors.New("give the TARGET of the backups first, or --from-etcd-snapshot, which names a snapshot")
	case r.revision != 0 && !r.at.IsZero():
		return r, nil, errors.New("--at-revision and --at-time: give one of them")
	case r.marked != (r.snapshot.BumpRevision > 0):
		return r, nil, errors.New("--bump-revision and --mark-compacted go together: revisions that are left out have no history")
	}
	return r, rest, nil
}

// bumpBackup is how far above everything that was backed up a restored store goes on: more than a store writes between two backups.
const bumpBackup = 1_000_000_000

// maxBump leaves revisions for the cluster to give out.
const maxBump = 1 << 60

func (a *app) restore(cmd *cobra.Command, arguments []string) error {
	if len(arguments) == 0 || arguments[0] == "--help" || arguments[0] == "-h" {
		return cmd.Help()
	}
	options, rest, err := restoreFlags(arguments)
	if err != nil {
		return err
	}
	parsed, err := serveflags.Parse(rest, a.environment, false)
	switch {
	case err != nil:
		return err
	case parsed.Help, parsed.Version:
		return cmd.Help()
	}
	a.running = true
	restored, err := a.restoreOne(cmd.Context(), parsed.Options, &options)
	if err != nil {
		return err
	}
	for _, note := range restored.Notes {
		fmt.Fprintf(a.stderr, "quorate: note: %s\n", note)
	}
	_, err = fmt.Fprintf(a.stdout, "restored %s: revision %d, compacted at %d, %d versions of keys, %d leases\n"+
		"cluster %v; start the node with --initial-cluster-token=%s\n",
		parsed.Options.Node.DataDir, restored.Revision, restored.Compacted, restored.Versions, restored.Leases, restored.Cluster, restored.Token)
	return err
}

func (a *app) restoreOne(ctx context.Context, options server.Options, r *restoring) (restored server.Restored, err error) {
	if r.target == "" {
		return server.Restore(ctx, options, r.snapshot)
	}
	v, t, err := r.flags.open(ctx, r.target)
	if err != nil {
		return restored, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	all, err := v.List(ctx)
	if err != nil {
		return restored, err
	}
	newest := backup.Newest(all)
	revision := cmp.Or(r.revision, newest)
	if !r.at.IsZero() {
		if revision, err = v.RevisionAt(ctx, all, r.at); err != nil {
			return restored, err
		}
	}
	chain, err := backup.Covering(all, revision)
	if err != nil {
		return restored, err
	}
	source, err := v.Source(ctx, chain, revision, []byte(r.prefix))
	if err != nil {
		return restored, err
	}
	above := newest + bumpBackup
	if r.keep {
		above = 0
	}
	return server.RestoreBackup(ctx, options, source, server.BackupRestoreOptions{Above: above, DropAuth: r.snapshot.DropAuth})
}
