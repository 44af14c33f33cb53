package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
)

// minUnfinished is the least that is waited for whoever goes on with a backup. They give a sign of life each minute, and wait for a target for two.
const minUnfinished = time.Hour

func (a *app) backupPruneCommand() *cobra.Command {
	var f targetFlags
	keep, dryRun, unfinished := 0, false, time.Duration(0)
	command := &cobra.Command{
		Use:   "prune --keep N TARGET",
		Short: "Remove old backups",
		Long: `Keeps the newest N full backups and all that is newer than the oldest of these, and
removes the others, but never one that a kept backup needs. With --unfinished it also
removes what is left of backups that are not finished, and that nobody has gone on with
for so long: an hour or more.`,
		Example: "  quorate backup prune --keep 2 s3://backups/production\n  quorate backup prune --keep 2 --dry-run s3://backups/production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if !cmd.Flags().Changed("keep") || keep < 1 {
				return errors.New("--keep is how many full backups stay: 1 or more")
			}
			if unfinished != 0 && unfinished < minUnfinished {
				return usagef("--unfinished=%v: must be %v or more: somebody may be at work, by another clock", unfinished, minUnfinished)
			}
			return a.atTarget(&f, func(ctx context.Context, v *backup.Vault, _ []string) error {
				return a.prune(ctx, v, keep, dryRun, unfinished)
			})(cmd, arguments)
		},
	}
	command.Flags().IntVar(&keep, "keep", 0, "how many full backups stay, with all that is newer than the oldest of them")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	command.Flags().DurationVar(&unfinished, "unfinished", 0, "also remove what is not finished and was not gone on with for so long, an hour or more (default: nothing)")
	f.addPatience(command)
	a.addOutputFlag(command)
	return command
}

type pruneJSON struct {
	Kept    []string `json:"kept"`
	Removed []string `json:"removed"`
	DryRun  bool     `json:"dry_run"`
}

func (a *app) prune(ctx context.Context, v *backup.Vault, keep int, dryRun bool, unfinished time.Duration) error {
	all, err := v.List(ctx)
	if err != nil {
		return err
	}
	kept, removed, err := backup.Prunable(all, keep)
	if err != nil {
		return err
	}
	result := pruneJSON{Kept: []string{}, Removed: []string{}, DryRun: dryRun}
	for _, b := range kept {
		result.Kept = append(result.Kept, b.ID)
	}
	did := func(id string) {
		result.Removed = append(result.Removed, id)
		if !a.json() {
			fmt.Fprintf(a.stdout, "%s %s\n", map[bool]string{false: "removed", true: "would remove"}[dryRun], id)
		}
	}
	for i, b := range slices.Backward(removed) { // the youngest first: it may go on from others
		if !dryRun {
			if err := v.Remove(ctx, slices.Concat(kept, removed[:i+1]), b); err != nil {
				return err
			}
		}
		did(b.ID)
	}
	if unfinished > 0 {
		if err := v.AbandonOlder(ctx, time.Now().Add(-unfinished), dryRun, func(id string) { did(id + " (unfinished)") }); err != nil {
			return err
		}
	}
	if a.json() {
		return writeJSON(a.stdout, result)
	}
	_, err = fmt.Fprintf(a.stdout, "%s kept, %d removed\n", plural(int64(len(kept)), "backup"), len(result.Removed))
	return err
}

func (a *app) backupRotateCommand() *cobra.Command {
	var f targetFlags
	var recipients []string
	command := &cobra.Command{
		Use:   "rotate-keys --identity FILE --recipients FILE TARGET",
		Short: "Let others read encrypted backups",
		Long: `Encrypts the keys of all encrypted backups to the recipients that are given, and to
nobody else. The data is not written anew: who could read a backup until now, and has
kept its key, still can.`,
		Example: "  quorate backup rotate-keys --identity old.txt --recipients new-recipients.txt s3://backups/production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if len(recipients) == 0 || len(f.identities) == 0 {
				return errors.New("--identity opens the backups, and --recipients are who is to read them: both are needed")
			}
			return a.atTarget(&f, func(ctx context.Context, v *backup.Vault, _ []string) error {
				to, err := readAge(recipients, "--recipients", age.ParseRecipients)
				if err != nil {
					return err
				}
				all, err := v.List(ctx)
				if err != nil {
					return err
				}
				rotated := int64(0)
				for _, b := range all {
					if len(b.Keys) == 0 {
						continue
					}
					if err := v.Rotate(ctx, b, to); err != nil {
						return fmt.Errorf("backup %s: %w; %s before it have the new recipients", b.ID, err, plural(rotated, "backup"))
					}
					rotated++
				}
				_, err = fmt.Fprintf(a.stdout, "%s can be read by the new recipients only\n", plural(rotated, "backup"))
				return err
			})(cmd, arguments)
		},
	}
	command.Flags().StringArrayVar(&recipients, "recipients", nil, "a file with recipients of age, one in a line; may be given several times")
	f.add(command)
	return command
}
