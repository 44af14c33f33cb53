package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/server"
)

// diffFlags are those of quorate backup diff.
type diffFlags struct {
	targetFlags
	scratchFlags
	prefix  string
	summary bool
}

// scratchFlags are those of who needs room on disk.
type scratchFlags struct{ scratch string }

func (f *scratchFlags) addScratch(command *cobra.Command) {
	command.Flags().StringVar(&f.scratch, "scratch-dir", "", "where to keep temporary files; they are removed (default: the system's directory for them)")
}

func (a *app) backupDiffCommand() *cobra.Command {
	var f diffFlags
	command := &cobra.Command{
		Use:   "diff TARGET A B",
		Short: "Show which keys differ between two backups",
		Long: `Lists the keys that B, the ID of a backup or "latest", has beyond A (+), has no more (-),
or that were written in between (~), in the order of keys, and how many there are. Each is
taken at its newest revision. Sizes are in bytes, of values; those of the summary are of
keys and values.

It reads both backups with what they go on from, and needs room for all their keys, not
their values, in --scratch-dir, where they are not encrypted.`,
		Example: "  quorate backup diff /var/backups/quorate 20261130T120000.000Z-r900-0a1b2c3d latest",
		Args:    cobra.ExactArgs(3),
		RunE: a.atTarget(&f.targetFlags, func(ctx context.Context, v *backup.Vault, arguments []string) error {
			return a.diffBackups(ctx, v, &f, arguments)
		}),
	}
	command.Flags().StringVar(&f.prefix, "prefix", "", "only keys that begin so")
	command.Flags().BoolVar(&f.summary, "summary", false, "do not list the keys")
	f.addScratch(command)
	f.add(command)
	a.addOutputFlag(command)
	return command
}

// differenceJSON is a key in the list. Key is in base64, as with the other commands.
type differenceJSON struct {
	Key    []byte    `json:"key"`
	Change string    `json:"change"` // added, removed, changed
	A      *sideJSON `json:"a,omitempty"`
	B      *sideJSON `json:"b,omitempty"`
}

type sideJSON struct {
	ModRevision kv.Revision `json:"mod_revision"`
	Version     int64       `json:"version"`
	ValueBytes  int64       `json:"value_bytes"`
}

// diffSummaryJSON is what follows the list.
type diffSummaryJSON struct {
	A       diffSideJSON  `json:"a"`
	B       diffSideJSON  `json:"b"`
	Added   backup.Amount `json:"added"`
	Removed backup.Amount `json:"removed"`
	Changed backup.Amount `json:"changed"`
	Same    backup.Amount `json:"same"`
}

type diffSideJSON struct {
	ID       string      `json:"id"`
	Revision kv.Revision `json:"revision"`
	backup.Amount
}

func (a *app) diffBackups(ctx context.Context, v *backup.Vault, f *diffFlags, ids []string) error {
	all, err := v.List(ctx)
	if err != nil {
		return err
	}
	var chosen [2]*backup.Backup
	var sources [2]*backup.Source
	for i, id := range ids {
		if chosen[i], err = backup.Find(all, id); err != nil {
			return &notFoundError{err.Error()}
		}
		chain, err := backup.Chain(all, chosen[i])
		if err != nil {
			return err
		}
		if sources[i], err = v.Source(ctx, chain, chosen[i].Revision, []byte(f.prefix)); err != nil {
			return err
		}
	}
	list := differenceList{app: a}
	each := list.add
	if f.summary {
		each = nil
	}
	if err := list.begin(); err != nil {
		return err
	}
	d, err := server.DiffBackups(ctx, sources[0], sources[1], f.scratch, each)
	if err != nil {
		return fmt.Errorf("backup diff: %w", err)
	}
	return list.end(diffSummaryJSON{A: diffSideJSON{chosen[0].ID, chosen[0].Revision, d.A}, B: diffSideJSON{chosen[1].ID, chosen[1].Revision, d.B},
		Added: d.Added, Removed: d.Removed, Changed: d.Changed, Same: d.Same})
}

// differenceList prints keys one by one: there may be many.
type differenceList struct {
	app   *app
	count int
}

func (l *differenceList) begin() error {
	if !l.app.json() {
		return nil
	}
	_, err := fmt.Fprint(l.app.stdout, `{"keys":[`)
	return err
}

func (l *differenceList) add(d *backup.Difference) error {
	if l.count++; !l.app.json() {
		var err error
		switch {
		case d.A.Revision == 0:
			_, err = fmt.Fprintf(l.app.stdout, "+ %q %d\n", d.Key, d.B.Bytes)
		case d.B.Revision == 0:
			_, err = fmt.Fprintf(l.app.stdout, "- %q %d\n", d.Key, d.A.Bytes)
		default:
			_, err = fmt.Fprintf(l.app.stdout, "~ %q %d -> %d\n", d.Key, d.A.Bytes, d.B.Bytes)
		}
		return err
	}
	one := differenceJSON{Key: d.Key, Change: "changed", A: sideOf(d.A), B: sideOf(d.B)}
	switch {
	case one.A == nil:
		one.Change = "added"
	case one.B == nil:
		one.Change = "removed"
	}
	return l.encode(map[bool]string{true: "", false: ","}[l.count == 1], one)
}

func (l *differenceList) encode(before string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(l.app.stdout, "%s%s", before, text)
	}
	return err
}

func sideOf(s backup.Side) *sideJSON {
	if s.Revision == 0 {
		return nil
	}
	return &sideJSON{s.Revision, s.Version, s.Bytes}
}

func (l *differenceList) end(s diffSummaryJSON) error {
	if l.app.json() {
		if err := l.encode(`],"summary":`, s); err != nil {
			return err
		}
		_, err := fmt.Fprintln(l.app.stdout, "}")
		return err
	}
	amount := func(keys backup.Amount) string {
		return fmt.Sprintf("%s (%s)", plural(keys.Keys, "key"), sizeText(keys.Bytes))
	}
	_, err := fmt.Fprintf(l.app.stdout, "%s, at revision %d: %s\n%s, at revision %d: %s\nadded %s, removed %s, changed %s, the same %s\n", s.A.ID, s.A.Revision, amount(s.A.Amount),
		s.B.ID, s.B.Revision, amount(s.B.Amount), amount(s.Added), amount(s.Removed), amount(s.Changed), amount(s.Same))
	return err
}
