package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// RestoreCheck is what came of a restore that was only made to look at it.
type RestoreCheck struct {
	// Compared are the backups at whose revisions the restored store has the hash that the cluster had.
	Compared []string
	// NotCompared are the others, with why: they carry no hash, for one.
	NotCompared []error
	Wrong       []error
}

// CheckRestore restores a chain of backups, of which the source has all, into a scratch store on disk within dir (empty: the system's directory for temporary
// files), and looks at what is there: at the revision of each backup, all versions that the backups have and no others; the hash of the cluster's, where the
// backups carry one; and that the versions of each key follow on each other. It needs as much room as the restored store.
func CheckRestore(ctx context.Context, chain []*backup.Backup, source *backup.Source, dir string) (check RestoreCheck, err error) {
	err = withScratch(dir, func(path string) error {
		return withScratchEngine(path, func(engine storage.Engine) error {
			recount := backup.NewRecount(chain, engine)
			source.Tap(recount.Add)
			data := filepath.Join(path, "data")
			var options Options
			options.Node.DataDir = data
			_, err := RestoreBackup(ctx, options.WithDefaults(), source, BackupRestoreOptions{})
			wanted, wrong := recount.Finish()
			check.Wrong = append(check.Wrong, wrong...)
			if err != nil {
				return err
			}
			check.compare(chain, recount)
			return check.readBack(ctx, data, wanted)
		})
	})
	return check, err
}

// compare holds the hashes of the cluster against what was read.
func (c *RestoreCheck) compare(chain []*backup.Backup, recount *backup.Recount) {
	for _, b := range chain {
		switch err := recount.Compare(b); {
		case err == nil:
			c.Compared = append(c.Compared, b.ID)
		case errors.Is(err, backup.ErrNoHash):
			c.NotCompared = append(c.NotCompared, fmt.Errorf("backup %s: %w", b.ID, err))
		default:
			c.Wrong = append(c.Wrong, fmt.Errorf("backup %s: %w", b.ID, err))
		}
	}
}

// readBack reads the restored store, as its node would after a start, and compares what it has at each revision.
func (c *RestoreCheck) readBack(ctx context.Context, data string, wanted []backup.Restored) (err error) {
	cold, err := OpenCold(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cold.Close()) }()
	var got backup.Digest
	reached := func(before kv.Revision) {
		for len(wanted) > 0 && wanted[0].Revision < before {
			if w := wanted[0]; got != w.Digest {
				c.Wrong = append(c.Wrong, fmt.Errorf("restored, at revision %d there are %d versions of %d bytes, and not the %d of %d bytes that were backed up (their sums are %x and %x)",
					w.Revision, got.Versions, got.Bytes, w.Digest.Versions, w.Digest.Bytes, got.Sum, w.Digest.Sum))
			}
			wanted = wanted[1:]
		}
	}
	err = cold.Export(ctx, kv.SystemShard, mvcc.Locator{}, wanted[len(wanted)-1].Revision, func(kv.Revision) error { return nil }, func(v *backup.Version) error {
		reached(v.ModRevision)
		got.Add(v)
		return nil
	})
	if err == nil {
		reached(kv.Unnumbered)
	}
	return err
}
