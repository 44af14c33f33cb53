package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type compactFlags struct{ physical, latest bool }

func (a *app) compactCommand() *cobra.Command {
	f := &compactFlags{}
	command := &cobra.Command{
		Use:     "compact [REVISION]",
		Aliases: []string{"compaction"}, // as etcdctl
		Short:   "Forget history before a revision",
		Long: `Forgets what keys were before REVISION: reads at older revisions, and watches
that begin there, are refused from then on. What keys are now is not touched.`,
		Example: `  quorate compact 1200
  quorate compact --latest        # all history, up to the present revision`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.compact(ctx, f, arguments) }),
	}
	command.Flags().BoolVar(&f.latest, "latest", false, "up to the present revision, in place of REVISION")
	command.Flags().BoolVar(&f.physical, "physical", false, "answer only when the leader has deleted the rows")
	return command
}

func (a *app) compact(ctx context.Context, f *compactFlags, arguments []string) error {
	revision := int64(0)
	switch {
	case f.latest == (len(arguments) == 1):
		return usagef("give either a REVISION or --latest")
	case !f.latest:
		var err error
		if revision, err = strconv.ParseInt(arguments[0], 10, 64); err != nil || revision < 1 {
			return usagef("%q is not a revision: a whole number from 1 on", arguments[0])
		}
	}
	return a.request(ctx, "compact", func(ctx context.Context, client *clientv3.Client) error {
		if f.latest {
			return a.compactLatest(ctx, client, f)
		}
		if err := compactAt(ctx, client, f, revision); err != nil {
			return err
		}
		return a.printCompact(revision, false)
	})
}

func compactAt(ctx context.Context, client *clientv3.Client, f *compactFlags, revision int64) error {
	var options []clientv3.CompactOption
	if f.physical {
		options = append(options, clientv3.WithCompactPhysical())
	}
	_, err := client.Compact(ctx, revision, options...)
	return err
}

// compactLatest compacts at the revision of a read. That nothing was written since the last compaction is no failure.
func (a *app) compactLatest(ctx context.Context, client *clientv3.Client, f *compactFlags) error {
	read, err := client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	revision := read.Header.Revision
	err = compactAt(ctx, client, f, revision)
	already := errors.Is(err, rpctypes.ErrCompacted)
	if err != nil && !already {
		return err
	}
	return a.printCompact(revision, already)
}

func (a *app) printCompact(revision int64, already bool) error {
	if a.json() {
		return writeJSON(a.stdout, struct {
			Compacted int64 `json:"compacted"`
		}{revision})
	}
	when := "is"
	if already {
		when = "was already"
	}
	_, err := fmt.Fprintf(a.stdout, "history before revision %d %s forgotten\n", revision, when)
	return err
}
