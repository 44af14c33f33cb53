package server

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
)

// BackupRestoreOptions say how a data directory is made of a backup.
type BackupRestoreOptions struct {
	// Above is the lowest revision that the restored store may go on from: all that were issued are below it. Everything before counts as compacted, so
	// whoever watches, or pages, at a revision that was given out before is told so. 0: the store goes on from the revision that is restored, with its
	// history.
	Above kv.Revision
	// DropAuth leaves users and roles out: nobody has to log in.
	DropAuth bool
}

// RestoreBackup makes the data directory of a node of a new cluster from a backup, as Restore does from a snapshot.
func RestoreBackup(ctx context.Context, options Options, source *backup.Source, r BackupRestoreOptions) (Restored, error) {
	if options.Cluster.Token == DefaultToken {
		what := fmt.Appendf(nil, "%s %d", source.ID(), r.Above)
		if r.DropAuth {
			what = append(what, " without users"...)
		}
		sum := sha256.Sum256(what)
		options.Cluster.Token = fmt.Sprintf("restored-%x", sum[:8])
	}
	rows, err := source.Users(ctx)
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	users, err := auth.FromRows(rows)
	if err != nil {
		return Restored{}, fmt.Errorf("restore: the users and roles of the backup: %w; --drop-auth restores it without them", err)
	}
	restored, err := restoreFrom(ctx, options, source, max(0, r.Above-source.Revision()), keptUsers(users, r.DropAuth))
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	restored.Notes = append(restored.Notes, notesOfUsers(users, r.DropAuth)...)
	return restored, nil
}
