package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/restore"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
)

// RestoreOptions say what a data directory is made of.
type RestoreOptions struct {
	// Snapshot is a file that etcd, or Quorate, has made.
	Snapshot string
	// SkipHashCheck takes one without a hash, or with a wrong one.
	SkipHashCheck bool
	// DropAuth leaves users and roles out: nobody has to log in.
	DropAuth bool
	// BumpRevision is added to the newest revision, and everything below that counts as compacted: whoever watches, or pages, at a revision that was given out
	// after the snapshot is told so. 0: the store goes on from the revision of the snapshot, with its history.
	BumpRevision int64
}

// Restored is what became of it.
type Restored struct {
	Cluster             kv.ClusterID
	Token               string // of the cluster, which its nodes are to be started with
	Revision, Compacted kv.Revision
	Versions            int64
	Leases              int
	Notes               []string // for people
}

// Restore makes the data directory of a node of a new cluster from a snapshot. What is there afterwards is what a node has that has installed a snapshot of
// each shard at the beginning of its log; from the same snapshot and options all nodes get the same state. Unless a token is given, it follows from the
// snapshot and what is made of it, so that nodes which were restored in another way are of another cluster. The directory is not there until it is whole.
func Restore(ctx context.Context, options Options, r RestoreOptions) (restored Restored, err error) {
	file, err := os.Open(r.Snapshot)
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	source, err := etcdsnap.Open(file, stat.Size(), r.SkipHashCheck)
	if err != nil {
		return Restored{}, fmt.Errorf("restore from %s: %w", r.Snapshot, err)
	}
	users, notes, err := usersOf(source)
	if err != nil && !r.DropAuth {
		return Restored{}, fmt.Errorf("restore from %s: its users and roles: %w; --drop-auth restores it without them", r.Snapshot, err)
	}
	if options.Cluster.Token == DefaultToken {
		options.Cluster.Token = r.token(source.Hash)
	}
	restored, err = restoreFrom(ctx, options, snapshotSource{source}, kv.Revision(r.BumpRevision), keptUsers(users, r.DropAuth))
	if err != nil {
		return Restored{}, fmt.Errorf("restore from %s: %w", r.Snapshot, err)
	}
	restored.Notes = append(append(restored.Notes, notes...), notesOfUsers(users, r.DropAuth)...)
	return restored, nil
}

// restoreFrom makes the directory.
func restoreFrom(ctx context.Context, options Options, source restore.Source, bump kv.Revision, users *auth.State) (restored Restored, err error) {
	path, err := freeDirectory(options.Node.DataDir)
	if err != nil {
		return Restored{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	if restored, err = restoreInto(ctx, path, options, source, bump, users); err != nil {
		return Restored{}, err
	}
	return restored, moveInto(path, options.Node.DataDir)
}

// snapshotSource is a snapshot of etcd's.
type snapshotSource struct{ *etcdsnap.Reader }

func (s snapshotSource) History(_ context.Context, fn func(*kv.KeyValue, int64) error) (kv.Revision, error) {
	return s.Versions(func(v *etcdsnap.Version) error { return fn(&v.KeyValue, v.Position) })
}

func (s snapshotSource) From() kv.Revision { return s.Compacted }

func (s snapshotSource) Granted(_ context.Context, fn func(kv.LeaseID, int64) error) error {
	return s.Leases(func(l kv.Lease) error { return fn(l.ID, l.TTLSeconds) })
}

func (r RestoreOptions) token(hash []byte) string {
	what := fmt.Appendf(hash, " %d", r.BumpRevision)
	if r.DropAuth {
		what = append(what, " without users"...)
	}
	sum := sha256.Sum256(what)
	return fmt.Sprintf("restored-%x", sum[:8])
}

// freeDirectory is where the data directory is put together: beside where it will be, which has to be empty.
func freeDirectory(dataDir string) (string, error) {
	entries, err := os.ReadDir(dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("restore: %w", err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("restore: the data directory %s is not empty; give another one, or move what is there away", dataDir)
	}
	path := filepath.Clean(dataDir) + ".restoring"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("restore: %w; if another restore has left it behind that was killed, remove it", err)
	}
	return path, nil
}

func moveInto(path, dataDir string) error {
	if err := os.Remove(dataDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore: put the data directory in its place: %w", err)
	}
	if err := os.Rename(path, dataDir); err != nil {
		return fmt.Errorf("restore: put the data directory in its place: %w", err)
	}
	return datadir.SyncDirectory(filepath.Dir(filepath.Clean(dataDir)))
}

func restoreInto(ctx context.Context, path string, options Options, source restore.Source, bump kv.Revision, users *auth.State) (restored Restored, err error) {
	owner := options.directory()
	owner.Path = path
	dir, err := datadir.Open(owner, time.Now())
	if err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	filled, err := fillState(ctx, filepath.Join(path, datadir.State), options, source, bump, users)
	if err != nil {
		return Restored{}, err
	}
	if err := beginLogs(filepath.Join(path, datadir.Log), options.Cluster.groups()); err != nil {
		return Restored{}, err
	}
	restored = Restored{Cluster: options.Cluster.ID(), Token: options.Cluster.Token, Revision: filled.Revision, Compacted: filled.Compacted, Versions: filled.Versions,
		Leases: filled.Leases, Notes: filled.Notes}
	return restored, datadir.SyncDirectory(path)
}

// fillState makes the state, and has it durable.
func fillState(ctx context.Context, path string, options Options, source restore.Source, bump kv.Revision, users *auth.State) (filled restore.Filled, err error) {
	into, err := options.restoreOptions()
	if err != nil {
		return filled, err
	}
	if users != nil {
		into.Users = users.Founded(secretOf(users, options.Cluster.ID()))
	}
	engine, err := lsm.Open(lsm.Options{Dir: path, FS: unsynced{vfs.Default}})
	if err != nil {
		return filled, err
	}
	filled, err = restore.Fill(ctx, engine, source, bump, into)
	if err == nil {
		flushed := make(chan error, 1)
		engine.Flush(func(err error) { flushed <- err })
		err = <-flushed
	}
	if err = errors.Join(err, engine.Close()); err != nil {
		return filled, err
	}
	return filled, syncFiles(path)
}

// restoreOptions say what the shards of the node are.
func (o Options) restoreOptions() (into restore.Options, err error) {
	if into.Table, err = partition.New(o.Cluster.Partition); err != nil {
		return into, err
	}
	f := o.foundation()
	_, members := f.first()
	into.Members, into.Sequenced, into.Rand, into.MinLeaseTTLSeconds = members, o.Cluster.many(), newRand, shard.MinLeaseTTLSeconds(o.Cluster.ElectionTimeout)
	into.Nodes = f.founders
	return into, nil
}

// beginLogs has the log of each group begin where the state is, as after the installation of a snapshot.
func beginLogs(path string, groups []consensus.GroupID) (err error) {
	log, err := wal.Open(wal.Options{Dir: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	var parts []storage.GroupAppend
	for _, group := range groups {
		parts = append(parts, storage.GroupAppend{Group: group, Reset: &storage.LogPosition{Index: restore.Index, Term: restore.Term},
			HardState: &consensus.HardState{Term: restore.Term, Commit: restore.Index}})
	}
	if err := log.Write(parts, nil); err != nil {
		return err
	}
	return log.Sync()
}
