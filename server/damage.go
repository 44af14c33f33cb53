package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/replica"
	"github.com/quoratedb/quorate/storage"
)

// A node whose data is damaged has lost it: nobody can say any more what it voted for and acknowledged. Its data is set
// aside, and it joins the cluster as if on a new machine; the others give it the data again.
//
// A file in the data directory says that this is to be done. It is there before anything is moved and until
// everything is done, so that it is done to the end however often the process is killed.

const (
	damagedFile    = "damaged"  // first line: the directory to move to; then why
	damagedPrefix  = "damaged-" // directories of what was set aside
	maxDamageBytes = 64 << 10
)

// Damaged tells whether the error means that what the node stores cannot be relied upon.
func Damaged(err error) bool {
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, replica.ErrLost) || errors.Is(err, ErrCorruptIdentity)
}

// repairs tells whether this node sets damaged data aside by itself. The only node of a cluster has nobody to get the data from.
func (o Options) repairs() bool { return !o.Node.RefuseDamaged && len(o.Cluster.Members) > 1 }

// Repairs tells whether a node that ended with the error mends itself when it is started again.
func Repairs(options Options, err error) bool {
	return options.WithDefaults().repairs() && Damaged(err)
}

// lostDataAdvice is where to read on; many of these errors name it themselves.
const lostDataAdvice = `"A node that lost its data" in docs/operations.md`

// noRepair adds to the error of a node that does not mend itself why not.
func (o Options) noRepair(err error) error {
	switch {
	case err == nil || !Damaged(err):
		return err
	case len(o.Cluster.Members) == 1:
		return fmt.Errorf("%w; no other replica has a good copy: put the files back as they were, or restore from a backup", err)
	case strings.Contains(err.Error(), lostDataAdvice):
		return fmt.Errorf("%w; with --auto-repair=false nothing is done about it", err)
	default:
		return fmt.Errorf("%w; with --auto-repair=false nothing is done about it: see %s", err, lostDataAdvice)
	}
}

// noteDamage has the next start set the data aside.
func (d *DataDir) noteDamage(reason error, now time.Time) error {
	path := filepath.Join(d.Path, damagedFile)
	if _, err := os.Stat(path); err == nil {
		return nil // the first reason counts
	}
	text := damagedPrefix + now.UTC().Format("20060102T150405.000Z") + "\n" + reason.Error() + "\n"
	if len(text) > maxDamageBytes {
		text = text[:maxDamageBytes]
	}
	if err := writeSynced(path+".new", []byte(text)); err != nil {
		return fmt.Errorf("note that the data is damaged: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note that the data is damaged: %w", err)
	}
	return syncDirectory(d.Path)
}

// setAside moves everything but the identity out of the way if that is to be done, and makes the directory one of
// a node that has lost its data. It returns why, and where to; nothing if there was nothing to do.
func (d *DataDir) setAside(identity Identity) (reason, moved string, err error) {
	marker := filepath.Join(d.Path, damagedFile)
	content, err := readBounded(marker)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read %s: %w", marker, err)
	}
	name, reason, _ := strings.Cut(string(content), "\n")
	if !strings.HasPrefix(name, damagedPrefix) || name != filepath.Base(name) {
		return "", "", fmt.Errorf("%s does not say where the damaged data is to be moved; delete it if it is not Quorate's", marker)
	}
	moved = filepath.Join(d.Path, name)
	if err := d.moveData(moved); err != nil {
		return "", "", fmt.Errorf("set the damaged data aside in %s: %w", moved, err)
	}
	identity.Format, identity.Disk, identity.Lost = DataFormat, randomID(), true
	if err := writeIdentity(d.Path, identity); err != nil {
		return "", "", err
	}
	d.Identity = identity
	if err := os.Remove(marker); err != nil {
		return "", "", fmt.Errorf("remove %s: %w", marker, err)
	}
	return strings.TrimSpace(reason), moved, syncDirectory(d.Path)
}

// moveData moves the log and the state into the directory, and deletes what was set aside before: a second copy could
// fill the disk.
func (d *DataDir) moveData(to string) error {
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
	for _, name := range []string{logDirectory, stateDirectory} {
		err := os.Rename(filepath.Join(d.Path, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := syncDirectory(to); err != nil {
		return err
	}
	return syncDirectory(d.Path)
}

// noteDamage has the next start set the data aside if that is what the error calls for.
func (s *Server) noteDamage(err error) {
	if s.dir == nil || !Damaged(err) || !s.options.repairs() {
		return
	}
	s.logger.Error("the data of this node is damaged: it will be set aside, and the node gets the data from the others", "reason", err)
	if err := s.dir.noteDamage(err, time.Now()); err != nil {
		s.logger.Error("the damaged data could not be marked to be set aside", "error", err)
	}
}

// unwitnessed says that nobody could confirm that this node's disk is as it was, and when somebody has.
func (s *Server) unwitnessed(missing []kv.NodeID) {
	if len(missing) == 0 {
		s.logger.Info("the data of this node is confirmed by the others")
		return
	}
	s.logger.Error("nobody could confirm that the data of this node is what it was: all nodes that are there have restarted as well. "+
		"If data was put back from a copy, or deleted, on most of the nodes, acknowledged writes may be missing: stop them, and start those first that have their data. "+
		"After a failure of power nothing is to be done", "might_know_better", fmt.Sprint(missing))
}

// noRepair completes an error that this node does nothing about by itself.
func (s *Server) noRepair(err error) error {
	if s.options.repairs() {
		return err
	}
	return s.options.noRepair(err)
}
