package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/server"
)

func (a *app) backupVerifyCommand() *cobra.Command {
	var f verifyFlags
	command := &cobra.Command{
		Use:   "verify TARGET [ID...]",
		Short: "Re-read backups and compare every checksum",
		Long: `Reads everything that backups consist of, all of them if no ID is given, compares it
with their manifests, and looks whether each has the backups that it goes on from.
An encrypted backup needs --identity.

With --deep it also restores each backup, with what it goes on from, into a scratch store,
and compares what that has, at the revisions of all of them, with the backups, and its hash
with that of the cluster where a backup carries it (backup create --hash). That takes as
much room in --scratch-dir as the restored stores, one at a time, and is not encrypted.`,
		Example: "  quorate backup verify s3://backups/production\n  quorate backup verify --deep /var/backups/quorate latest",
		Args:    cobra.MinimumNArgs(1),
		RunE: a.atTarget(&f.targetFlags, func(ctx context.Context, v *backup.Vault, arguments []string) error {
			return a.verifyBackups(ctx, v, &f, arguments)
		}),
	}
	command.Flags().BoolVar(&f.deep, "deep", false, "also restore them into a scratch store, and look at that")
	f.addScratch(command)
	f.add(command)
	a.addOutputFlag(command)
	return command
}

// verifyFlags are those of quorate backup verify.
type verifyFlags struct {
	targetFlags
	scratchFlags
	deep bool
}

type verifyJSON struct {
	Verified []string `json:"verified"`
	Bytes    int64    `json:"bytes"`
	Wrong    []string `json:"wrong"`
	// Of --deep: which backups were restored, which of them have the hash of the cluster's, and why the others were not compared with that.
	Restored    []string `json:"restored,omitempty"`
	Compared    []string `json:"compared,omitempty"`
	NotCompared []string `json:"not_compared,omitempty"`
}

func (a *app) verifyBackups(ctx context.Context, v *backup.Vault, f *verifyFlags, ids []string) error {
	all, err := v.List(ctx)
	if err != nil {
		return err
	}
	chosen := all
	if len(ids) > 0 {
		chosen = nil
		for _, id := range ids {
			b, err := backup.Find(all, id)
			if err != nil {
				return &notFoundError{err.Error()}
			}
			chosen = append(chosen, b)
		}
	}
	result := verifyJSON{Verified: []string{}, Wrong: []string{}}
	total := int64(0)
	for _, b := range chosen {
		total += b.StoredBytes()
	}
	meter := a.newMeter()
	note := func(of string, wrong []error) {
		for _, w := range wrong {
			result.Wrong = append(result.Wrong, strings.TrimPrefix(of+": ", ": ")+w.Error())
		}
	}
	for _, b := range chosen {
		wrong, err := v.Verify(ctx, b, func(bytes int64) {
			result.Bytes += bytes
			meter.show(fmt.Sprintf("verify: %s of %s", sizeText(result.Bytes), sizeText(total)))
		})
		if err != nil {
			meter.end()
			return fmt.Errorf("backup %s: %w", b.ID, err)
		}
		note(b.ID, wrong)
		if _, err := backup.Chain(all, b); err != nil && b.Damage == nil {
			note("", []error{err})
		}
		result.Verified = append(result.Verified, b.ID)
	}
	meter.end()
	if len(ids) == 0 {
		wrong, err := v.VerifyRest(ctx)
		if err != nil {
			return err
		}
		note("", wrong)
	}
	if f.deep {
		if err := a.verifyDeep(ctx, v, f, all, chosen, &result); err != nil {
			return err
		}
	}
	if a.json() {
		if err := writeJSON(a.stdout, result); err != nil {
			return err
		}
	} else {
		for _, wrong := range slices.Concat(result.Wrong, result.NotCompared) {
			fmt.Fprintln(a.stdout, wrong)
		}
	}
	switch bad := len(result.Wrong); {
	case bad > 0:
		return fmt.Errorf("backup verify: %s; what is damaged cannot be restored: make a full backup, and look at the target", plural(int64(bad), "thing")+" wrong")
	case a.json():
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "%s, %s: all is as it was written\n", plural(int64(len(chosen)), "backup"), sizeText(result.Bytes))
	if err == nil && f.deep {
		_, err = fmt.Fprintf(a.stdout, "%s restored, as they were written; at %d of them the hash is that of the cluster\n", plural(int64(len(result.Restored)), "backup"), len(result.Compared))
	}
	return err
}

// verifyDeep restores backups. One that another of them goes on from is looked at together with that.
func (a *app) verifyDeep(ctx context.Context, v *backup.Vault, f *verifyFlags, all, chosen []*backup.Backup, result *verifyJSON) error {
	seen := map[string]bool{}
	told := func(to *[]string, errs []error) {
		for _, err := range errs {
			if !slices.Contains(*to, err.Error()) { // two chains may have one beginning
				*to = append(*to, err.Error())
			}
		}
	}
	for _, b := range slices.Backward(chosen) { // the newest first: it has what older ones have
		chain, err := backup.Chain(all, b)
		if err != nil || seen[b.ID] {
			continue // that it is broken was said
		}
		source, err := v.Source(ctx, chain, b.Revision, nil)
		var check server.RestoreCheck
		if err == nil {
			check, err = server.CheckRestore(ctx, chain, source, f.scratch)
		}
		told(&result.Wrong, check.Wrong)
		told(&result.NotCompared, check.NotCompared)
		switch {
		case errors.Is(err, backup.ErrDamaged):
			told(&result.Wrong, []error{err})
		case err != nil:
			return fmt.Errorf("backup verify --deep: backup %s: %w", b.ID, err)
		}
		for _, one := range chain {
			if !seen[one.ID] && err == nil {
				result.Restored = append(result.Restored, one.ID)
			}
			seen[one.ID] = true
		}
		for _, id := range check.Compared {
			if !slices.Contains(result.Compared, id) {
				result.Compared = append(result.Compared, id)
			}
		}
	}
	return nil
}
