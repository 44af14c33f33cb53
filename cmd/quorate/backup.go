package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/target"
)

func (a *app) backupCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "backup",
		Short: "Make backups, look at them, and remove old ones",
		Long: `A backup is of all keys at one revision, with their history and the leases. TARGET
is a directory or a URL: file:///var/backups/quorate, s3://bucket/prefix?region=...
It holds the backups of one cluster. quorate restore makes a cluster of one.`,
		Example: `  quorate backup create s3://backups/production              # all of it
  quorate backup create --incremental s3://backups/production  # what came since then
  quorate backup verify s3://backups/production
  quorate backup prune --keep 2 s3://backups/production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(a.backupCreateCommand(), a.backupListCommand(), a.backupShowCommand(), a.backupDiffCommand(), a.backupVerifyCommand(), a.backupPruneCommand(), a.backupRotateCommand())
	return command
}

// targetFlags are those of who reads backups.
type targetFlags struct {
	identities []string
	patience   time.Duration
}

func (f *targetFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringArrayVar(&f.identities, "identity", nil, "a file with an identity of age, which opens encrypted backups; may be given several times")
	f.addPatience(command)
}

func (f *targetFlags) addPatience(command *cobra.Command) {
	command.Flags().DurationVar(&f.patience, "target-patience", 2*time.Minute, "how long a target that does not answer is tried again")
}

// open gives the backups at a target.
func (f *targetFlags) open(ctx context.Context, address string) (*backup.Vault, io.Closer, error) {
	identities, err := readAge(f.identities, "--identity", age.ParseIdentities)
	if err != nil {
		return nil, nil, err
	}
	if f.patience <= 0 {
		return nil, nil, usagef("--target-patience=%v: must be above 0", f.patience)
	}
	t, err := target.Open(ctx, address, target.Options{Patience: f.patience})
	if errors.Is(err, target.ErrURL) {
		return nil, nil, usageError{err}
	}
	if err != nil {
		return nil, nil, err
	}
	return backup.Open(t, backup.Options{Identities: identities, Now: time.Now, Random: rand.Uint32}), t, nil
}

// readAge reads files of identities or recipients.
func readAge[T any](names []string, flag string, parse func(io.Reader) ([]T, error)) (all []T, err error) {
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		some, err := parse(file)
		_ = file.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", flag, name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// atTarget is a command that needs no cluster.
func (a *app) atTarget(f *targetFlags, body func(ctx context.Context, v *backup.Vault, arguments []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, arguments []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		a.running = true
		v, t, err := f.open(cmd.Context(), arguments[0])
		if err != nil {
			return err
		}
		err = body(cmd.Context(), v, arguments[1:])
		return errors.Join(err, t.Close())
	}
}
