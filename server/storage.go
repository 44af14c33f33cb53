package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
)

// openDirectory makes the data directory this process' own.
func (s *Server) openDirectory() (err error) {
	if s.dir, err = patiently(func() (*datadir.Dir, error) { return datadir.Open(s.options.directory(), time.Now()) }); err != nil {
		return err
	}
	if s.dir.SetAside != "" {
		s.logger.Warn("the damaged data was set aside; this node joins as a new replica and gets the data from the others",
			"reason", s.dir.Reason, "kept_in", s.dir.SetAside)
	}
	return nil
}

// directory says whose data directory it has to be.
func (o Options) directory() datadir.Options {
	f := o.foundation()
	return datadir.Options{
		Path: o.Node.DataDir,
		Owner: datadir.Identity{Cluster: o.Cluster.ID(), Node: o.NodeID(), Name: o.Node.Name, Protocol: o.Cluster.protocol(),
			Partition: o.Cluster.partition(), Commit: o.Cluster.commit()},
		Members:  f.members(),
		Existing: o.Node.InitialClusterState == ClusterExisting && !f.added,
		Repair:   o.repairs(),
		NewDisk:  randomID(),
	}
}

// openStorage opens the log and the state engine.
func (s *Server) openStorage() error {
	// Snapshots that were being put together or received when the process ended are worthless.
	staging := filepath.Join(s.dir.Path, datadir.Staging)
	if err := os.RemoveAll(staging); err != nil {
		return fmt.Errorf("clear %s: %w", staging, err)
	}
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", staging, err)
	}
	// The log comes first: wherever there is state there was a log, and openLog can tell that it is gone.
	if err := s.openLog(); err != nil {
		return err
	}
	if err := s.openState(); err != nil {
		return err
	}
	s.lookAtSize()
	// The entries of the three directories must survive a power loss as their content does.
	return datadir.SyncDirectory(s.dir.Path)
}

// openLog opens the log, and says what it had to repair.
func (s *Server) openLog() error {
	path := filepath.Join(s.dir.Path, datadir.Log)
	if err := s.refuseLostLog(path); err != nil {
		return err
	}
	log, err := wal.Open(wal.Options{Dir: path, FS: s.files(), Listener: wal.Listener{
		Waited: func(waited time.Duration) {
			s.logger.Warn("writes had to wait for a new segment of the log", "waited", waited)
		},
		Problem: func(err error) { s.logger.Warn("the log has a problem that has no consequence yet", "error", err) },
	}})
	if err != nil {
		return err
	}
	s.log = log
	found := log.Recovery()
	if found.TornBytes > 0 {
		s.logger.Warn("the log ended in a write that a crash had interrupted and nobody was told of; it was cut off", "file", found.TornFile, "bytes", found.TornBytes)
	}
	return nil
}

// refuseLostLog looks for state without a log. Then votes and acknowledged entries are lost; going on could
// lose what the cluster has acknowledged.
func (s *Server) refuseLostLog(path string) error {
	state, err := filepath.Glob(filepath.Join(s.dir.Path, datadir.State, "MANIFEST-*"))
	if err != nil {
		return fmt.Errorf("list the state in %s: %w", s.dir.Path, err)
	}
	segments, err := filepath.Glob(filepath.Join(path, "*.wal"))
	if err != nil {
		return fmt.Errorf("list the log in %s: %w", path, err)
	}
	if len(state) == 0 || len(segments) > 0 {
		return nil
	}
	return fmt.Errorf("%w: the data directory %s has state but no log in %s: what this node voted for and acknowledged is lost; "+
		"put the log back if it was moved, otherwise see \"A node that lost its data\" in docs/operations.md", storage.ErrCorrupt, s.dir.Path, path)
}

// refuseLostState looks for a log without state. Which replica this is stands in the state.
func (s *Server) refuseLostState() error {
	state, err := filepath.Glob(filepath.Join(s.dir.Path, datadir.State, "MANIFEST-*"))
	if err != nil {
		return fmt.Errorf("list the state in %s: %w", s.dir.Path, err)
	}
	if len(state) > 0 || !slices.ContainsFunc(s.log.Groups(), func(group consensus.GroupID) bool {
		return s.log.Group(group).HardState() != (consensus.HardState{})
	}) {
		return nil
	}
	return fmt.Errorf("%w: the data directory %s has a log but no state in %s; put the state back if it was moved, otherwise see \"A node that lost its data\" in docs/operations.md",
		storage.ErrCorrupt, s.dir.Path, filepath.Join(s.dir.Path, datadir.State))
}

// openState opens the state engine.
func (s *Server) openState() (err error) {
	if err := s.refuseLostState(); err != nil {
		return err
	}
	s.engine, err = lsm.Open(lsm.Options{Dir: filepath.Join(s.dir.Path, datadir.State), FS: s.files(), MaxOpenFiles: s.plan.State, Listener: lsm.Listener{
		Failed:  func(err error) { s.fail(fmt.Errorf("the state engine stopped: %w", err)) },
		Corrupt: func(err error) { s.fail(fmt.Errorf("a read found damaged data: %w", err)) },
		Stalled: func(reason string, waited time.Duration) {
			s.logger.Warn("writes had to wait", "reason", reason, "waited", waited)
		},
		DiskSlow: func(path string, took time.Duration) {
			s.logger.Warn("a disk operation is slow", "path", path, "took", took)
		},
		Message: func(text string) { s.logger.Warn("state engine", "message", text) },
	}})
	return err
}
