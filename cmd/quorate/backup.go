package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/kv"
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
	command.AddCommand(a.backupCreateCommand(), a.backupListCommand(), a.backupShowCommand(), a.backupVerifyCommand(), a.backupPruneCommand(), a.backupRotateCommand())
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
		Seconds: b.Finished.Sub(b.Began).Seconds(), Versions: b.Digest.Versions, Leases: b.LeaseCount, Bytes: b.Digest.Bytes, Stored: b.StoredBytes(), Encrypted: len(b.Keys) > 0,
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
			one.Files = append(one.Files, b.Leases...)
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

func (a *app) backupPruneCommand() *cobra.Command {
	var f targetFlags
	keep, dryRun, unfinished := 0, false, time.Duration(0)
	command := &cobra.Command{
		Use:   "prune --keep N TARGET",
		Short: "Remove old backups",
		Long: `Keeps the newest N full backups and all that is newer than the oldest of these, and
removes the others, but never one that a kept backup needs. With --unfinished it also
removes what is left of backups that were begun so long ago and never finished.`,
		Example: "  quorate backup prune --keep 2 s3://backups/production\n  quorate backup prune --keep 2 --dry-run s3://backups/production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if !cmd.Flags().Changed("keep") || keep < 1 {
				return errors.New("--keep is how many full backups stay: 1 or more")
			}
			return a.atTarget(&f, func(ctx context.Context, v *backup.Vault, _ []string) error {
				return a.prune(ctx, v, keep, dryRun, unfinished)
			})(cmd, arguments)
		},
	}
	command.Flags().IntVar(&keep, "keep", 0, "how many full backups stay, with all that is newer than the oldest of them")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	command.Flags().DurationVar(&unfinished, "unfinished", 0, "also remove what was begun longer ago than that and is not finished (default: nothing)")
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
		begun, err := v.Unfinished(ctx)
		if err != nil {
			return err
		}
		for _, m := range begun {
			if time.Since(m.Began) < unfinished || slices.ContainsFunc(all, func(b *backup.Backup) bool { return b.ID == m.ID }) {
				continue
			}
			if !dryRun {
				if err := v.Abandon(ctx, m.ID); err != nil {
					return err
				}
			}
			did(m.ID + " (unfinished)")
		}
	}
	if a.json() {
		return writeJSON(a.stdout, result)
	}
	_, err = fmt.Fprintf(a.stdout, "%s kept, %d removed\n", plural(int64(len(kept)), "backup"), cmp.Or(0, len(result.Removed)))
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

// meter shows progress in one line of a terminal, and elsewhere a line now and then.
type meter struct {
	w        io.Writer
	terminal bool
	last     time.Time
	shown    bool
}

// meterInterval is how often progress is shown: on a terminal, and elsewhere.
const (
	meterInterval = 200 * time.Millisecond
	lineInterval  = 10 * time.Second
)

func (a *app) newMeter() *meter {
	file, is := a.stderr.(*os.File)
	m := &meter{w: a.stderr, last: time.Now()}
	if is {
		info, err := file.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return m
}

func (m *meter) show(text string) {
	now := time.Now()
	switch {
	case m.terminal && now.Sub(m.last) >= meterInterval:
		fmt.Fprintf(m.w, "\r%s\x1b[K", text)
		m.shown = true
	case !m.terminal && now.Sub(m.last) >= lineInterval:
		fmt.Fprintln(m.w, text)
	default:
		return
	}
	m.last = now
}

func (m *meter) end() {
	if m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}
