package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/storage/wal"
)

// RestoreOptions say what a data directory is made of.
type RestoreOptions struct {
	// Snapshot is a file that etcd, or Quorate, has made.
	Snapshot string
	// SkipHashCheck takes one without a hash, or with a wrong one.
	SkipHashCheck bool
	// DropAuth takes one whose users have to log in: here nobody has to.
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

// The log of a restored shard begins behind the entry that this is. It is not the one that a new shard begins at: a node whose directory is empty has that, and
// is to get the state.
const (
	restoredIndex = consensus.BootstrapIndex + 1
	restoredTerm  = consensus.BootstrapTerm
)

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
	if source.AuthEnabled && !r.DropAuth {
		return Restored{}, fmt.Errorf("restore from %s: its users have to log in, and Quorate has no users and roles yet: everybody who reaches the nodes "+
			"would read and write everything. --drop-auth restores it without them", r.Snapshot)
	}
	if options.Cluster.Token == DefaultToken {
		options.Cluster.Token = r.token(source.Hash)
	}
	restored, err = restoreFrom(ctx, options, snapshotSource{source}, kv.Revision(r.BumpRevision))
	if err != nil {
		return Restored{}, fmt.Errorf("restore from %s: %w", r.Snapshot, err)
	}
	if source.Users > 0 {
		restored.Notes = append(restored.Notes, fmt.Sprintf("%d users and roles are left out: Quorate has none yet", source.Users))
	}
	return restored, nil
}

// restoreFrom makes the directory.
func restoreFrom(ctx context.Context, options Options, source restoreSource, bump kv.Revision) (restored Restored, err error) {
	path, err := freeDirectory(options.Node.DataDir)
	if err != nil {
		return Restored{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	if restored, err = restoreInto(ctx, path, options, source, bump); err != nil {
		return Restored{}, err
	}
	return restored, moveInto(path, options.Node.DataDir)
}

// restoreSource is what a store is made of.
type restoreSource interface {
	// versions gives the history to fn, in its order, and returns the newest revision. position is that of the change within its revision. What the version
	// has is valid until fn returns.
	versions(ctx context.Context, fn func(v *kv.KeyValue, position int64) error) (last kv.Revision, err error)
	// compacted is where the history begins; 0: it is whole.
	compacted() kv.Revision
	// leases gives the leases to fn, after the versions.
	leases(ctx context.Context, fn func(id kv.LeaseID, ttlSeconds int64) error) error
}

// snapshotSource is a snapshot of etcd's.
type snapshotSource struct{ *etcdsnap.Reader }

func (s snapshotSource) versions(_ context.Context, fn func(*kv.KeyValue, int64) error) (kv.Revision, error) {
	return s.Versions(func(v *etcdsnap.Version) error { return fn(&v.KeyValue, v.Position) })
}

func (s snapshotSource) compacted() kv.Revision { return s.Compacted }

func (s snapshotSource) leases(_ context.Context, fn func(kv.LeaseID, int64) error) error {
	return s.Leases(func(l etcdsnap.Lease) error { return fn(l.ID, l.TTLSeconds) })
}

func (r RestoreOptions) token(hash []byte) string {
	sum := sha256.Sum256(fmt.Appendf(hash, " %d", r.BumpRevision))
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

func restoreInto(ctx context.Context, path string, options Options, source restoreSource, bump kv.Revision) (restored Restored, err error) {
	owner := options.directory()
	owner.Path = path
	dir, err := datadir.Open(owner, time.Now())
	if err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	engine, err := lsm.Open(lsm.Options{Dir: filepath.Join(path, datadir.State)})
	if err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	work, err := newRestoring(ctx, engine, options)
	if err != nil {
		return Restored{}, err
	}
	defer work.close()
	if restored, err = work.run(source, bump); err != nil {
		return Restored{}, err
	}
	restored.Cluster, restored.Token = options.Cluster.ID(), options.Cluster.Token
	flushed := make(chan error, 1)
	engine.Flush(func(err error) { flushed <- err })
	if err := <-flushed; err != nil {
		return Restored{}, err
	}
	if err := beginLogs(filepath.Join(path, datadir.Log), options.Cluster.groups()); err != nil {
		return Restored{}, err
	}
	return restored, datadir.SyncDirectory(path)
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
		parts = append(parts, storage.GroupAppend{Group: group, Reset: &storage.LogPosition{Index: restoredIndex, Term: restoredTerm},
			HardState: &consensus.HardState{Term: restoredTerm, Commit: restoredIndex}})
	}
	if err := log.Write(parts, nil); err != nil {
		return err
	}
	return log.Sync()
}

// restoring fills the shards.
type restoring struct {
	ctx      context.Context
	engine   *lsm.Engine
	table    *partition.Table
	shards   []*restoredShard // as the table has them
	byID     map[kv.ShardID]*restoredShard
	minTTL   int64
	rows     int // that are not flushed
	bytes    int
	versions int64
}

type restoredShard struct {
	machine *shard.Machine
	filling *shard.Restoration
	batch   storage.Batch
}

// What is held in memory before it is flushed, and how much a batch of the engine takes, of all shards.
const (
	restoreRows       = 64 << 10
	restoreBytes      = 32 << 20
	restoreBatchBytes = 1 << 20
	restoreCacheBytes = 32 << 20
)

func newRestoring(ctx context.Context, engine *lsm.Engine, options Options) (*restoring, error) {
	table, err := partition.New(options.Cluster.Partition)
	if err != nil {
		return nil, err
	}
	w := &restoring{ctx: ctx, engine: engine, table: table, byID: make(map[kv.ShardID]*restoredShard),
		minTTL: shard.MinLeaseTTLSeconds(options.Cluster.ElectionTimeout)}
	s := &Server{options: options} // only asked who the nodes are
	nodes, members := s.nodes()
	start := consensus.SnapshotMeta{Index: restoredIndex, Term: restoredTerm, Config: members}
	for _, d := range table.Descriptors() {
		var records []kv.NodeRecord
		if d.Shard == kv.SystemShard && len(nodes) > 0 {
			records = s.nodeRecords()
		}
		one := &restoredShard{batch: engine.NewBatch()}
		w.shards, w.byID[d.Shard] = append(w.shards, one), one
		err := one.begin(engine, start, records, shard.Options{Shard: d.Shard, Sequenced: s.many(), Rand: newRand(), MinLeaseTTLSeconds: w.minTTL,
			Versions: mvcc.Options{CacheBytes: max(1, restoreCacheBytes/int64(len(table.Descriptors())))}})
		if err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (s *restoredShard) begin(engine *lsm.Engine, start consensus.SnapshotMeta, records []kv.NodeRecord, o shard.Options) (err error) {
	if s.machine, err = shard.Open(engine, o); err != nil {
		return err
	}
	if err = s.machine.Bootstrap(start, records, s.batch); err != nil {
		return err
	}
	s.filling, err = s.machine.BeginRestoration()
	return err
}

// close gives back the batches; what they have is lost.
func (w *restoring) close() {
	for _, s := range w.shards {
		s.batch.Close()
	}
}

func (w *restoring) run(source restoreSource, bump kv.Revision) (restored Restored, err error) {
	last, err := source.versions(w.ctx, w.add)
	if err != nil {
		return Restored{}, err
	}
	restored.Revision, restored.Compacted, restored.Versions = last, source.compacted(), w.versions
	if bump > 0 {
		restored.Revision += bump
		restored.Compacted = restored.Revision
	}
	if restored.Leases, restored.Notes, err = w.grant(source); err != nil {
		return Restored{}, err
	}
	for _, s := range w.shards {
		if err := s.filling.Finish(restored.Revision, restored.Compacted, s.batch); err != nil {
			return Restored{}, err
		}
	}
	return restored, w.flush()
}

// add brings a version to its shard.
func (w *restoring) add(v *kv.KeyValue, position int64) error {
	at, err := restoredAt(v.ModRevision, position)
	if err != nil {
		return err
	}
	s := w.byID[w.table.Overlapping(kv.Span{Start: v.Key})[0].Shard]
	// The state keeps the key; what the source has read goes.
	row := *v
	row.Key, row.Value = slices.Clone(v.Key), slices.Clone(v.Value)
	if err := s.filling.Apply(&row, at, s.batch); err != nil {
		return err
	}
	w.versions++
	if s.batch.SizeBytes() > restoreBatchBytes/len(w.shards) {
		if err := w.write(s); err != nil {
			return err
		}
	}
	if w.rows, w.bytes = w.rows+1, w.bytes+len(row.Key)+len(row.Value); w.rows >= restoreRows || w.bytes >= restoreBytes {
		return w.flush()
	}
	return nil
}

// restoredAt is where a change is within its revision. Places are given as to the operations of a transaction over several shards, as many as there are, so
// that the changes of a revision come in their order from whichever shards; the last place has the rest, in the order of keys if it is of one deletion.
func restoredAt(revision kv.Revision, position int64) (mvcc.Locator, error) {
	const lastPlace = 1<<(32-mvcc.PlaceBits) - 1
	place := min(position, lastPlace)
	within := position - place
	if within >= 1<<mvcc.PlaceBits {
		return mvcc.Locator{}, fmt.Errorf("revision %d has more than %d changes, which is more than Quorate can keep", revision, lastPlace+1<<mvcc.PlaceBits)
	}
	return mvcc.Locator{Rev: revision, Sub: uint32(place)<<mvcc.PlaceBits | uint32(within)}, nil
}

func (w *restoring) write(s *restoredShard) error {
	err := w.engine.Apply(s.batch)
	s.batch.Reset()
	return err
}

// flush has everything in the engine that was in memory.
func (w *restoring) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	for _, s := range w.shards {
		if err := w.write(s); err != nil {
			return err
		}
		if !s.machine.Freeze() {
			continue // nothing has changed
		}
		for done := false; !done; {
			var err error
			if done, err = s.machine.FlushChunk(s.batch, 4096); err != nil {
				return err
			}
			if err := w.write(s); err != nil {
				return err
			}
		}
		s.machine.FlushDone()
	}
	w.rows, w.bytes = 0, 0
	return nil
}

// grant adds the leases. Keys may have one that is not there any more: it was ending when the snapshot was made, and goes on doing that.
func (w *restoring) grant(source restoreSource) (granted int, notes []string, err error) {
	keysIn := w.whereabouts()
	err = source.leases(w.ctx, func(id kv.LeaseID, ttlSeconds int64) error {
		if ttlSeconds > shard.MaxLeaseTTLSeconds {
			return fmt.Errorf("lease %x has a TTL of %d s, above %d", int64(id), ttlSeconds, int64(shard.MaxLeaseTTLSeconds))
		}
		granted++
		w.give(id, ttlSeconds, keysIn[id])
		delete(keysIn, id)
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	if gone := len(keysIn); gone > 0 {
		notes = append(notes, fmt.Sprintf("%d leases that keys have are not in the snapshot: they were ending when it was made, and end %d s after the "+
			"cluster has started", gone, w.minTTL))
	}
	for _, id := range slices.Sorted(maps.Keys(keysIn)) {
		granted++
		w.give(id, w.minTTL, keysIn[id])
	}
	return granted, notes, nil
}

// whereabouts lists the shards that have keys of each lease.
func (w *restoring) whereabouts() map[kv.LeaseID][]kv.ShardID {
	keysIn := make(map[kv.LeaseID][]kv.ShardID)
	for _, d := range w.table.Descriptors() {
		for id := range w.byID[d.Shard].filling.Held() {
			keysIn[id] = append(keysIn[id], d.Shard)
		}
	}
	return keysIn
}

func (w *restoring) give(id kv.LeaseID, ttlSeconds int64, keysIn []kv.ShardID) {
	w.byID[kv.SystemShard].filling.Grant(id, ttlSeconds, keysIn)
	for _, in := range keysIn {
		if in != kv.SystemShard {
			w.byID[in].filling.Note(id)
		}
	}
}
