package server

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
)

// BackupRestoreOptions say how a data directory is made of a backup.
type BackupRestoreOptions struct {
	// Above is the lowest revision that the restored store may go on from: all that were issued are below it. Everything before counts as compacted, so
	// whoever watches, or pages, at a revision that was given out before is told so. 0: the store goes on from the revision that is restored, with its
	// history.
	Above kv.Revision
}

// RestoreBackup makes the data directory of a node of a new cluster from a backup, as Restore does from a snapshot.
func RestoreBackup(ctx context.Context, options Options, source *backup.Source, r BackupRestoreOptions) (Restored, error) {
	if options.Cluster.Token == DefaultToken {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", source.ID(), r.Above))
		options.Cluster.Token = fmt.Sprintf("restored-%x", sum[:8])
	}
	restored, err := restoreFrom(ctx, options, source, max(0, r.Above-source.Revision()))
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	return restored, nil
}
