package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Dir is a data directory that this process owns until Close.
type Dir struct {
	Path     string
	Identity Identity
	// Fresh tells that the directory was empty and got its identity just now.
	Fresh bool
	// Reason says why damaged data was set aside just now, in the directory SetAside; both are empty if none was.
	Reason, SetAside string
	lock             *os.File
}

// Open locks a data directory, creating it when it is missing, and makes sure that it belongs to the owner. An empty directory
// becomes the owner's. ErrInUse: another process has it, or had it a moment ago.
func Open(options Options, now time.Time) (*Dir, error) {
	path := options.Path
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory %s: %w: %w", path, ErrNotWritable, err)
	}
	// Look before the lock file is made: a foreign directory stays as it was.
	names, err := namesIn(path)
	if err == nil {
		err = refuseForeign(names)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	lock, err := lockDirectory(filepath.Join(path, lockFile))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	dir := &Dir{Path: path, lock: lock}
	if err := dir.settle(options, now); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", path, err), lock.Close())
	}
	return dir, nil
}

// Close gives the directory up.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock the data directory %s: %w", d.Path, err)
	}
	return nil
}

// settle reads what is there, and does what is decided.
func (d *Dir) settle(options Options, now time.Time) error {
	found, err := d.read()
	if err != nil {
		return err
	}
	p, err := decide(found, options, now)
	if err != nil {
		return err
	}
	d.Identity, d.Fresh = p.identity, p.fresh
	// Before the identity: whoever has that belongs to the cluster.
	if err := d.rememberMembers(options.Members); err != nil {
		return err
	}
	if p.note != nil {
		if err := d.writeNote(p.note); err != nil {
			return err
		}
	}
	if p.aside != "" {
		d.Reason, d.SetAside = p.reason, filepath.Join(d.Path, p.aside)
		if err := d.moveData(d.SetAside); err != nil {
			return fmt.Errorf("set the damaged data aside in %s: %w", d.SetAside, err)
		}
	}
	if p.write {
		if err := writeIdentity(d.Path, p.identity); err != nil {
			return err
		}
	}
	if p.aside != "" {
		return d.removeNote()
	}
	if p.fresh {
		// The directory's own entry must survive a power loss too.
		return SyncDirectory(filepath.Dir(filepath.Clean(d.Path)))
	}
	return nil
}

func (d *Dir) read() (found contents, err error) {
	found.identity, err = readBounded(filepath.Join(d.Path, identityFile), maxIdentityBytes, ErrCorruptIdentity)
	switch {
	case errors.Is(err, ErrCorruptIdentity):
		found.unreadable = err
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return contents{}, fmt.Errorf("read %s: %w", identityFile, err)
	}
	if found.note, err = readBounded(filepath.Join(d.Path, damagedFile), maxIdentityBytes, ErrCorruptIdentity); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return contents{}, fmt.Errorf("read %s: %w", damagedFile, err)
	}
	for _, name := range []string{Log, State} {
		names, err := namesIn(filepath.Join(d.Path, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return contents{}, err
		}
		found.data = found.data || len(names) > 0
	}
	return found, nil
}

func namesIn(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}
