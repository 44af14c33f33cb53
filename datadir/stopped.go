package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenStopped locks the data directory of a node that is stopped, whosever it is, so that what it has can be read. Nothing in it is changed. ErrInUse: the
// node is running. ErrNoIdentity: nothing there says whose it is.
func OpenStopped(path string) (*Dir, error) {
	dir, err := openStopped(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	return dir, nil
}

func openStopped(path string) (_ *Dir, err error) {
	// Look before the lock file is made: what is no data directory stays as it was.
	if _, err := os.Stat(filepath.Join(path, identityFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s; give the --data-dir of a node of Quorate", ErrNoIdentity, identityFile)
	} else if err != nil {
		return nil, err
	}
	lock, err := lockDirectory(filepath.Join(path, lockFile))
	if err != nil {
		return nil, err
	}
	dir := &Dir{Path: path, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	found, err := dir.read()
	if err == nil {
		err = found.unreadable
	}
	if err != nil {
		return nil, err
	}
	if dir.Identity, err = decodeIdentity(found.identity); err != nil {
		return nil, fmt.Errorf("%s: %w", identityFile, err)
	}
	switch {
	case found.note != nil:
		return nil, errors.New("its data was found damaged, and is about to be set aside; take another node of the cluster")
	case !found.data:
		return nil, errors.New("it has no data: the node has never run, or has lost what it had; take another node of the cluster")
	case dir.Identity.Format < formatOneShard:
		return nil, fmt.Errorf("%w: format %d, and this version reads %d to %d", ErrOlderFormat, dir.Identity.Format, formatOneShard, Format)
	}
	return dir, nil
}

// Refound makes the directory that of a node of another cluster, which goes on with the data: what of the old one is still somewhere neither talks to it nor hears
// from it. If the process ends in between, the directory is nobody's until Refound was called again: it does not open.
func (d *Dir) Refound(m *Members) error {
	identity := d.Identity
	identity.Cluster = m.Cluster
	if err := writeIdentity(d.Path, identity); err != nil {
		return err
	}
	if err := d.WriteMembers(m); err != nil {
		return err
	}
	d.Identity = identity
	return nil
}
