package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A node whose data is damaged has lost it: nobody can say any more what it voted for and acknowledged. Its data is set
// aside, and it joins the cluster as if on a new machine; the others give it the data again.
//
// A note in the data directory says that this is to be done. It is there before anything is moved and until
// everything is done, so that it is done to the end however often the process is killed.

const (
	damagedFile   = "damaged"  // first line: the directory to move to; then why
	damagedPrefix = "damaged-" // directories of what was set aside
	maxNoteBytes  = 64 << 10
)

// NoteDamage has the next Open set the data aside. The first reason counts.
func (d *Dir) NoteDamage(reason error, now time.Time) error {
	if _, err := os.Stat(filepath.Join(d.Path, damagedFile)); err == nil {
		return nil
	}
	return d.writeNote(damageNote(reason, now))
}

func (d *Dir) writeNote(note []byte) error {
	path := filepath.Join(d.Path, damagedFile)
	if err := writeSynced(path+".new", note); err != nil {
		return fmt.Errorf("note that the data is damaged: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note that the data is damaged: %w", err)
	}
	return SyncDirectory(d.Path)
}

func (d *Dir) removeNote() error {
	path := filepath.Join(d.Path, damagedFile)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return SyncDirectory(d.Path)
}

// moveData moves the log and the state into the directory, and deletes what was set aside before: a second copy could
// fill the disk.
func (d *Dir) moveData(to string) error {
	older, err := filepath.Glob(filepath.Join(d.Path, damagedPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range older {
		if path != to {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{Log, State} {
		err := os.Rename(filepath.Join(d.Path, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := SyncDirectory(to); err != nil {
		return err
	}
	return SyncDirectory(d.Path)
}
