package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
)

type backupJSON struct {
	ID          string        `json:"id"`
	Kind        string        `json:"kind,omitempty"`
	Parent      string        `json:"parent,omitempty"`
	Cluster     string        `json:"cluster_id,omitempty"`
	Revision    kv.Revision   `json:"revision,omitempty"`
	HistoryFrom kv.Revision   `json:"history_from_revision"`
	Taken       time.Time     `json:"taken,omitzero"`
	Seconds     float64       `json:"seconds"`
	Versions    int64         `json:"versions"`
	Leases      int64         `json:"leases"`
	Users       bool          `json:"users"` // and roles
	Bytes       int64         `json:"bytes"` // of keys and values
	Stored      int64         `json:"stored_bytes"`
	Encrypted   bool          `json:"encrypted"`
	Source      string        `json:"source,omitempty"`
	Writer      string        `json:"writer,omitempty"`
	Shards      []kv.ShardID  `json:"shards,omitempty"`
	Files       []backup.File `json:"files,omitempty"`
	Damage      string        `json:"damage,omitempty"`
}

func newBackupJSON(b *backup.Backup) backupJSON {
	shown := backupJSON{ID: b.ID}
	if b.Damage != nil {
		shown.Damage = b.Damage.Error()
		return shown
	}
	shown = backupJSON{ID: b.ID, Kind: b.Kind(), Parent: b.Parent, Cluster: b.Cluster.String(), Revision: b.Revision, HistoryFrom: b.HistoryFrom, Taken: b.Taken,
		Seconds: b.Finished.Sub(b.Began).Seconds(), Versions: b.Digest.Versions, Leases: b.LeaseCount, Users: b.UserRows > 0, Bytes: b.Digest.Bytes, Stored: b.StoredBytes(), Encrypted: len(b.Keys) > 0,
		Source: b.Source, Writer: b.Writer}
	for _, s := range b.Shards {
		shown.Shards = append(shown.Shards, s.Shard)
	}
	return shown
}

func (a *app) backupListCommand() *cobra.Command {
	var f targetFlags
	command := &cobra.Command{
		Use:   "list TARGET",
		Short: "List the backups at a target",
		Long: `Lists the backups at a target, the oldest first. From each, every revision from the
first to the last of REVISIONS can be restored, as long as its PARENT is there.`,
		Example: "  quorate backup list /var/backups/quorate",
		Args:    cobra.ExactArgs(1),
		RunE: a.atTarget(&f, func(ctx context.Context, v *backup.Vault, _ []string) error {
			all, err := v.List(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{}
			shown := []backupJSON{}
			for _, b := range all {
				one := newBackupJSON(b)
				shown = append(shown, one)
				if b.Damage != nil {
					rows = append(rows, []string{b.ID, "", "", "", "", "", one.Damage})
					continue
				}
				rows = append(rows, []string{b.ID, one.Kind, fmt.Sprintf("%d-%d", b.HistoryFrom, b.Revision), b.Taken.Local().Format(time.DateTime), strconv.FormatInt(one.Versions, 10),
					sizeText(one.Stored), orDash(one.Parent)})
			}
			if a.json() {
				return writeJSON(a.stdout, shown)
			}
			return table(a.stdout, []string{"ID", "KIND", "REVISIONS", "TAKEN", "VERSIONS", "STORED", "PARENT"}, rows)
		}),
	}
	f.addPatience(command)
	a.addOutputFlag(command)
	return command
}

// sizeText is a number of bytes for people.
func sizeText(bytes int64) string {
	const step = 1024
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(bytes), 0
	for size >= step && unit < len(units)-1 {
		size, unit = size/step, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

func (a *app) backupShowCommand() *cobra.Command {
	var f targetFlags
	command := &cobra.Command{
		Use:     "show TARGET [ID]",
		Short:   "Show what a backup consists of",
		Long:    "Shows a backup, the newest one if no ID is given, and what it needs to be restored.",
		Example: "  quorate backup show /var/backups/quorate latest",
		Args:    cobra.RangeArgs(1, 2),
		RunE: a.atTarget(&f, func(ctx context.Context, v *backup.Vault, arguments []string) error {
			all, b, err := findBackup(ctx, v, arguments)
			if err != nil {
				return err
			}
			one := newBackupJSON(b)
			for _, s := range b.Shards {
				one.Files = append(one.Files, s.Files...)
			}
			one.Files = append(append(one.Files, b.Leases...), append(b.Users, b.Times...)...)
			if a.json() {
				return writeJSON(a.stdout, one)
			}
			if b.Damage != nil {
				return fmt.Errorf("backup %s: %w", b.ID, b.Damage)
			}
			needs := []string{}
			chain, err := backup.Chain(all, b)
			for _, parent := range chain {
				needs = append(needs, parent.ID)
			}
			if err != nil {
				needs = []string{err.Error()}
			}
			lines := [][2]string{
				{"backup", one.ID}, {"kind", one.Kind}, {"cluster", one.Cluster}, {"taken", b.Taken.Local().Format(time.RFC3339)},
				{"revisions", fmt.Sprintf("%d to %d", b.HistoryFrom, b.Revision)}, {"versions", strconv.FormatInt(one.Versions, 10)}, {"leases", strconv.FormatInt(one.Leases, 10)},
				{"users and roles", strconv.FormatBool(one.Users)},
				{"keys and values", sizeText(one.Bytes)}, {"stored", fmt.Sprintf("%s in %s", sizeText(one.Stored), plural(int64(len(one.Files)), "file"))},
				{"encrypted", strconv.FormatBool(one.Encrypted)}, {"shards", fmt.Sprintf("%d (%s)", len(b.Shards), orDash(b.Source))},
				{"took", b.Finished.Sub(b.Began).Round(time.Millisecond).String()}, {"written by", orDash(b.Writer)}, {"restored from", strings.Join(needs, ", ")},
			}
			for _, line := range lines {
				if _, err := fmt.Fprintf(a.stdout, "%-16s %s\n", line[0], line[1]); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	f.addPatience(command)
	a.addOutputFlag(command)
	return command
}

// findBackup gives the backup that an argument names, the newest one without an argument, and all.
func findBackup(ctx context.Context, v *backup.Vault, arguments []string) ([]*backup.Backup, *backup.Backup, error) {
	all, err := v.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	id := "latest"
	if len(arguments) > 0 {
		id = arguments[0]
	}
	b, err := backup.Find(all, id)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, nil, &notFoundError{err.Error()}
	}
	return all, b, err
}
