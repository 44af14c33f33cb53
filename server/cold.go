package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/storage/wal"
	"github.com/quoratedb/quorate/timeline"
)

// Cold is the data directory of a node that is stopped, as what a backup is made of. It has what the node knows to be committed: entries of its log that are
// not in its state yet are applied in memory, as when it starts. It implements backup.Origin.
type Cold struct {
	dir    *datadir.Dir
	log    *wal.Log
	engine *lsm.Engine
	shards []*coldShard // by number
	alone  bool         // the node is all of the cluster

	mu sync.Mutex // of taking views
}

type coldShard struct {
	id       kv.ShardID
	machine  *shard.Machine
	complete kv.Revision // it has all at or below that
	reasons  string      // why not more, for people
	unknown  uint64      // entries of the log of which the node does not know whether they are committed
}

// OpenCold locks a data directory, and reads the shards. It must be closed.
func OpenCold(path string) (c *Cold, err error) {
	dir, err := datadir.OpenStopped(path)
	if err != nil {
		return nil, err
	}
	c = &Cold{dir: dir}
	opened := c // what is returned with an error is nil
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("read the data directory %s: %w", path, err), opened.Close())
		}
	}()
	if c.log, err = wal.Open(wal.Options{Dir: filepath.Join(path, datadir.Log)}); err != nil {
		return nil, err
	}
	if c.engine, err = lsm.Open(lsm.Options{Dir: filepath.Join(path, datadir.State)}); err != nil {
		return nil, err
	}
	groups := c.log.Groups()
	if want := shardsOf(dir.Identity.Partition); len(groups) != want {
		return nil, fmt.Errorf("it has %d shards of %d: the node has not got the others yet; take another node of the cluster", len(groups), want)
	}
	c.alone = true
	for _, group := range groups {
		s := &coldShard{id: kv.ShardID(group)}
		c.shards = append(c.shards, s)
		if err := c.open(s, c.log.Group(group), len(groups) > 1); err != nil {
			return nil, fmt.Errorf("shard %d: %w", s.id, err)
		}
	}
	c.settle()
	return c, nil
}

// shardsOf is how many shards there are, by what a data directory says of them.
func shardsOf(partition string) int {
	shards := 1
	_, _ = fmt.Sscanf(partition, "--initial-shards=%d", &shards) // one, if it says nothing
	return shards
}

// coldCacheBytes is for blocks and rows of each shard.
const coldCacheBytes = 1 << 20

// open reads a shard, and applies what its log has beyond that.
func (c *Cold) open(s *coldShard, log storage.GroupLog, many bool) (err error) {
	s.machine, err = shard.Open(c.engine, shard.Options{Shard: s.id, Sequenced: many, Rand: newRand(), LogEnd: log.Last(), Versions: mvcc.Options{CacheBytes: coldCacheBytes}})
	if err != nil {
		return err
	}
	applied := s.machine.AppliedIndex()
	switch {
	case applied == 0:
		return errors.New("the node has nothing of it yet; take another node of the cluster")
	case applied+1 < log.First():
		return fmt.Errorf("%w: the state ends at entry %d, and the log starts at %d", storage.ErrCorrupt, applied, log.First())
	}
	upTo := log.HardState().Commit
	// What the only replica has in its log is committed.
	alone := func() bool {
		config := s.machine.Config()
		return len(config.Voters) == 1 && len(config.Outgoing) == 0
	}
	if term, err := log.Term(applied); err != nil || term != s.machine.AppliedTerm() {
		upTo = applied // a snapshot was installed, and the log not yet begun anew
	} else if alone() {
		upTo = log.Last()
	}
	batch := c.engine.NewBatch()
	defer batch.Close()
	write := func() error {
		err := c.engine.Apply(batch)
		batch.Reset()
		return err
	}
	known := replaying{machine: s.machine, log: log, upTo: min(upTo, log.Last()), paxos: Consensus(c.dir.Identity.Protocol.Name) == ConsensusPaxos, batch: batch, write: write}
	if _, err := known.run(); err != nil {
		return err
	}
	c.alone = c.alone && alone() && s.machine.AppliedIndex() == max(applied, log.Last())
	if last := log.Last(); last > s.machine.AppliedIndex() {
		s.unknown = uint64(last - s.machine.AppliedIndex())
	}
	return nil
}

// settle finds out up to where each shard is complete. Where the node is all of the cluster, nothing was ever written that is not here, so a shard without
// writes has all there is. Elsewhere its own log tells, and no more: what others have written to it the node may not have heard of.
func (c *Cold) settle() {
	newest := c.newest()
	for _, s := range c.shards {
		s.complete = s.machine.Closed()
		switch undecided := s.machine.Metrics().UndecidedTransactions; {
		case undecided > 0:
			s.reasons = fmt.Sprintf("%d transactions over several shards are undecided there", undecided)
		case c.alone:
			s.complete = newest
		case s.complete < newest:
			s.reasons = "the node does not know of anything later there, and is not all of the cluster"
		}
	}
}

// newest is the highest revision that any shard has.
func (c *Cold) newest() (newest kv.Revision) {
	for _, s := range c.shards {
		newest = max(newest, s.machine.Highest())
	}
	return newest
}

// Complete is the revision up to which all shards are complete, and Newest the highest that any of them has. why says, for people, what holds it back.
func (c *Cold) Complete() (complete, newest kv.Revision, why string) {
	newest = c.newest()
	complete = newest
	var reasons []string
	for _, s := range c.shards {
		complete = min(complete, s.complete)
		if s.complete < newest {
			reasons = append(reasons, fmt.Sprintf("shard %d is complete up to %d (%s)", s.id, s.complete, s.reasons))
		}
	}
	const named = 4
	if more := len(reasons) - named; more > 0 {
		reasons = append(reasons[:named], fmt.Sprintf("%d more shards", more))
	}
	return complete, newest, strings.Join(reasons, ", ")
}

// Unknown is how many entries the log has of which the node does not know whether they are committed. They are not in a backup.
func (c *Cold) Unknown() (entries uint64) {
	for _, s := range c.shards {
		entries += s.unknown
	}
	return entries
}

// Present implements backup.Origin. A directory of which one shard is compacted above where another one is complete is refused. The time is when the log was
// last written to.
func (c *Cold) Present(context.Context) (*backup.Present, error) {
	revision, _, why := c.Complete()
	p := &backup.Present{Cluster: c.dir.Identity.Cluster, Revision: revision, Source: c.dir.Identity.Partition}
	for _, s := range c.shards {
		p.Compacted = max(p.Compacted, s.machine.Compacted())
		p.Shards = append(p.Shards, backup.PresentShard{Shard: s.id})
	}
	if p.Compacted > revision {
		return nil, fmt.Errorf("the data directory %s: its shards cannot give one revision: the history is compacted up to %d, and %s: %w", c.dir.Path, p.Compacted, why, kv.ErrCompacted)
	}
	var err error
	if p.Leases, err = c.leases(); err != nil {
		return nil, err
	}
	p.Users = c.shards[0].machine.Auth().Rows()
	p.Time, err = lastWrite(filepath.Join(c.dir.Path, datadir.Log))
	return p, err
}

// leases lists all leases as they were granted.
func (c *Cold) leases() (leases []kv.Lease, err error) {
	system := c.shards[0].machine
	all, err := system.Read(nil, 0, &kv.Request{Kind: kv.KindLeaseLeases, AuthVersion: kv.Unjudged})
	if err != nil {
		return nil, err
	}
	for _, id := range all.LeaseLeases.IDs {
		one, err := system.Read(nil, 0, &kv.Request{Kind: kv.KindLeaseTimeToLive, AuthVersion: kv.Unjudged, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id}})
		if err != nil {
			return nil, err
		}
		if ttl := one.LeaseTimeToLive.GrantedTTLSeconds; ttl > 0 {
			leases = append(leases, kv.Lease{ID: id, TTLSeconds: ttl})
		}
	}
	return leases, nil
}

// lastWrite is when something in a directory was written last.
func lastWrite(path string) (last time.Time, err error) {
	err = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.ModTime().After(last) && info.Mode().IsRegular() {
			last = info.ModTime()
		}
		return err
	})
	return last, err
}

// Series implements backup.Timekeeper.
func (c *Cold) Series(context.Context) (timeline.Series, error) {
	return c.shards[0].machine.Times(), nil
}

// Export implements backup.Origin.
func (c *Cold) Export(ctx context.Context, id kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(kv.Revision) error, fn func(*backup.Version) error) error {
	i := slices.IndexFunc(c.shards, func(s *coldShard) bool { return s.id == id })
	if i < 0 {
		return kv.ErrShardNotHere
	}
	s := c.shards[i]
	if s.complete < upTo {
		return fmt.Errorf("shard %d is complete up to revision %d (%s): %w", id, s.complete, s.reasons, kv.ErrFutureRevision)
	}
	c.mu.Lock()
	view := s.machine.View()
	c.mu.Unlock()
	defer view.Close()
	if view.Compacted() > upTo {
		return kv.ErrCompacted
	}
	if err := begun(view.Compacted()); err != nil {
		return err
	}
	for done := false; !done; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var err error
		from, done, err = view.Versions(from, view.Compacted(), upTo, exportBatchBytes, func(e *mvcc.Effect) error { return fn(exported(e)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// exported is a version as backups have it.
func exported(e *mvcc.Effect) *backup.Version {
	return &backup.Version{Sub: e.At.Sub, KeyValue: kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}}
}

// Close lets go of the directory.
func (c *Cold) Close() (err error) {
	if c.engine != nil {
		err = errors.Join(err, c.engine.Close())
	}
	if c.log != nil {
		err = errors.Join(err, c.log.Close())
	}
	return errors.Join(err, c.dir.Close())
}
