package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/datadir"
)

// A directory that is being restored is not there before it is whole. So its engine need not wait for the disk at each step: syncFiles does once, in the end.

// unsynced is the file system of an engine whose files nobody needs after a crash.
type unsynced struct{ vfs.FS }

// unsyncedFile lets the disk begin to write (SyncTo), and waits for nothing.
type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error     { return nil }
func (unsyncedFile) SyncData() error { return nil }

func unsyncedOf(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (u unsynced) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsyncedOf(u.FS.Create(name, category))
}

func (u unsynced) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsyncedOf(u.FS.ReuseForWrite(from, to, category))
}

func (u unsynced) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	return unsyncedOf(u.FS.OpenReadWrite(name, category, options...))
}

func (u unsynced) OpenDir(name string) (vfs.File, error) { return unsyncedOf(u.FS.OpenDir(name)) }

// syncFiles makes the files in a directory durable, and that they are there.
func syncFiles(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("sync the files in %s: %w", path, err)
	}
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(path, entry.Name()))
		if err == nil {
			err = errors.Join(file.Sync(), file.Close())
		}
		if err != nil {
			return fmt.Errorf("sync the files in %s: %w", path, err)
		}
	}
	return datadir.SyncDirectory(path)
}
