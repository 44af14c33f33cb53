package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
)

func (a *app) backupVerifyCommand() *cobra.Command {
	var f targetFlags
	command := &cobra.Command{
		Use:   "verify TARGET [ID...]",
		Short: "Re-read backups and compare every checksum",
		Long: `Reads everything that backups consist of, all of them if no ID is given, compares it
with their manifests, and looks whether each has the backups that it goes on from.
An encrypted backup needs --identity.`,
		Example: "  quorate backup verify s3://backups/production\n  quorate backup verify /var/backups/quorate latest",
		Args:    cobra.MinimumNArgs(1),
		RunE: a.atTarget(&f, func(ctx context.Context, v *backup.Vault, arguments []string) error {
			return a.verifyBackups(ctx, v, arguments)
		}),
	}
	f.add(command)
	a.addOutputFlag(command)
	return command
}

type verifyJSON struct {
	Verified []string `json:"verified"`
	Bytes    int64    `json:"bytes"`
	Wrong    []string `json:"wrong"`
}

func (a *app) verifyBackups(ctx context.Context, v *backup.Vault, ids []string) error {
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
	if a.json() {
		if err := writeJSON(a.stdout, result); err != nil {
			return err
		}
	} else {
		for _, wrong := range result.Wrong {
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
	return err
}
