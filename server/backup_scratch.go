package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
)

// DiffBackups is backup.Diff with a scratch store on disk: in a new directory within dir (empty: that of the system for temporary files), which is removed
// afterwards.
func DiffBackups(ctx context.Context, a, b *backup.Source, dir string, fn func(*backup.Difference) error) (d backup.Differences, err error) {
	err = withScratch(dir, func(path string) error {
		return withScratchEngine(path, func(engine storage.Engine) error {
			d, err = backup.Diff(ctx, a, b, engine, fn)
			return err
		})
	})
	return d, err
}

// withScratch has a directory that nobody else has.
func withScratch(dir string, body func(path string) error) error {
	path, err := os.MkdirTemp(dir, "quorate-scratch-")
	if err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}
	return errors.Join(body(path), os.RemoveAll(path))
}

// withScratchEngine has an empty engine on disk.
func withScratchEngine(path string, body func(engine storage.Engine) error) error {
	engine, err := lsm.Open(lsm.Options{Dir: filepath.Join(path, "keys"), FS: unsynced{vfs.Default}})
	if err != nil {
		return fmt.Errorf("make a scratch store: %w", err)
	}
	return errors.Join(body(engine), engine.Close())
}
