package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
	"github.com/quoratedb/quorate/server"
)

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore --from-etcd-snapshot=FILE [--FLAG=VALUE...]",
		Short: "Make the data directory of a node of a new cluster from a snapshot of etcd",
		Long: `Makes the data directory of one node from a snapshot that etcd or Quorate has made
(etcdctl snapshot save). Run it on every node of the new cluster, with the same file
and the same flags, before any of them is started. All keys keep their revisions,
versions, history and leases; a lease has its whole TTL again.

  --from-etcd-snapshot=FILE  the snapshot
  --skip-hash-check          take one without a hash (a copy of member/snap/db), or with a wrong one
  --drop-auth                take one whose users have to log in: here nobody has to
  --bump-revision=N          go on N revisions above the newest one of the snapshot
  --mark-compacted           and have the history end there; one is not given without the other

All other flags are those of quorate serve, and say what cluster this is: --name,
--data-dir, --initial-cluster, --initial-shards, --consensus and so on. If no
--initial-cluster-token is given, one is made, which serve has to be given.`,
		Example: `  quorate restore --from-etcd-snapshot backup.db --name n1 --data-dir /var/lib/quorate \
    --initial-advertise-peer-urls http://10.0.0.1:2380 \
    --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380`,
		DisableFlagParsing: true, // as with serve
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.restore(cmd, arguments)
		},
	}
}

// restoreFlags are the flags that only restore has. The others are left.
func restoreFlags(arguments []string) (r server.RestoreOptions, rest []string, err error) {
	marked := false
	switches := map[string]*bool{"skip-hash-check": &r.SkipHashCheck, "drop-auth": &r.DropAuth, "mark-compacted": &marked}
	for i := 0; i < len(arguments); i++ {
		name, value, given := strings.Cut(strings.TrimLeft(arguments[i], "-"), "=")
		target := switches[name]
		switch {
		case !strings.HasPrefix(arguments[i], "-") || target == nil && name != "from-etcd-snapshot" && name != "bump-revision":
			rest = append(rest, arguments[i])
			continue
		case target != nil:
			if *target = true; given {
				*target, err = strconv.ParseBool(value)
			}
		case !given && i+1 == len(arguments):
			err = errors.New("a value is missing")
		default:
			if !given {
				i++
				value = arguments[i]
			}
			if name == "from-etcd-snapshot" {
				r.Snapshot = value
			} else if r.BumpRevision, err = strconv.ParseInt(value, 10, 64); err == nil && (r.BumpRevision < 1 || r.BumpRevision > maxBump) {
				err = fmt.Errorf("must be between 1 and %d", int64(maxBump))
			}
		}
		if err != nil {
			return r, nil, fmt.Errorf("--%s: %w", name, err)
		}
	}
	switch {
	case r.Snapshot == "":
		return r, nil, errors.New("--from-etcd-snapshot is missing: it names the snapshot")
	case marked != (r.BumpRevision > 0):
		return r, nil, errors.New("--bump-revision and --mark-compacted go together: revisions that are left out have no history")
	}
	return r, rest, nil
}

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
	restored, err := server.Restore(cmd.Context(), parsed.Options, options)
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
