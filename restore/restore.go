// Package restore fills the shards of a new store with the history of another one. What is there afterwards is what a node has that has installed a snapshot of
// each shard at the beginning of its log: from the same source and options all nodes get the same state.
package restore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The log of a restored shard begins behind the entry that this is. It is not the one that a new shard begins at: a node whose directory is empty has that, and
// is to get the state.
const (
	Index = consensus.BootstrapIndex + 1
	Term  = consensus.BootstrapTerm
)

// Source is what a store is made of.
type Source interface {
	// History gives the versions to fn, in the order of the history, and returns the newest revision. position is that of the change within its revision. What
	// the version has is valid until fn returns.
	History(ctx context.Context, fn func(v *kv.KeyValue, position int64) error) (last kv.Revision, err error)
	// From is where the history begins; 0: it is whole.
	From() kv.Revision
	// Granted gives the leases to fn, after the versions.
	Granted(ctx context.Context, fn func(id kv.LeaseID, ttlSeconds int64) error) error
}

// Options say what the store is.
type Options struct {
	Table   *partition.Table
	Members consensus.Config // of each shard
	Nodes   []kv.NodeRecord  // for the system shard
	// Sequenced and MinLeaseTTLSeconds are as in shard.Options.
	Sequenced          bool
	MinLeaseTTLSeconds int64
	Rand               func() *rand.Rand
	Users              *auth.Change // nil: there are none
	// FlushRows is how many versions are gathered before they are written. Default: 48 Ki.
	FlushRows int
	// TableBytes is what a table of the engine has at least, if there is as much. Default: 256 KiB.
	TableBytes int
}

// Filled is what became of it.
type Filled struct {
	Revision, Compacted kv.Revision
	Versions            int64
	Leases              int
	Notes               []string // for people
}

// Fill fills an empty engine. bump is added to the newest revision, and everything below that counts as compacted; 0: the history stays. What it has written
// is durable after the engine's next flush.
func Fill(ctx context.Context, engine storage.Engine, source Source, bump kv.Revision, o Options) (filled Filled, err error) {
	work, err := newFilling(ctx, engine, o)
	if err != nil {
		return Filled{}, err
	}
	defer work.close()
	if o.Users != nil {
		system := work.byID[kv.SystemShard]
		system.filling.Users(o.Users, &system.rows)
	}
	return work.run(source, bump)
}

// filling fills the shards. What it gathers in memory is flushed as sorted tables: while the engine writes those, the next versions are read.
type filling struct {
	ctx      context.Context
	engine   storage.Engine
	table    *partition.Table
	shards   []*restoredShard // by their numbers, as their rows are
	byID     map[kv.ShardID]*restoredShard
	minTTL   int64
	limit    int // FlushRows
	count    int // of versions that are not flushed
	bytes    int
	versions int64
	seen     *seen
	loading  chan error // nil: the engine writes nothing
}

// restoredShard has rows that are gathered, and the ones that the engine writes.
type restoredShard struct {
	machine       *shard.Machine
	filling       *shard.Restoration
	rows, written rows
}

// What is held in memory before it is flushed, and how much a batch of the engine takes, of all shards.
const (
	restoreRows       = 48 << 10
	restoreBytes      = 16 << 20
	restoreBatchBytes = 1 << 20
	// restoreBucketRows has the store count nothing: whoever opens it does.
	restoreBucketRows = 1 << 30
)

func newFilling(ctx context.Context, engine storage.Engine, o Options) (*filling, error) {
	w := &filling{ctx: ctx, engine: engine, table: o.Table, byID: make(map[kv.ShardID]*restoredShard), seen: newSeen(), minTTL: o.MinLeaseTTLSeconds,
		limit: cmp.Or(o.FlushRows, restoreRows)}
	start := consensus.SnapshotMeta{Index: Index, Term: Term, Config: o.Members}
	for _, d := range o.Table.Descriptors() {
		var records []kv.NodeRecord
		if d.Shard == kv.SystemShard {
			records = o.Nodes
		}
		batch := engine.NewBatch()
		empty := rows{Batch: batch, tableBytes: cmp.Or(o.TableBytes, minTableBytes)}
		one := &restoredShard{rows: empty, written: empty}
		w.shards, w.byID[d.Shard] = append(w.shards, one), one
		err := one.begin(engine, start, records, shard.Options{Shard: d.Shard, Sequenced: o.Sequenced, Rand: o.Rand(), MinLeaseTTLSeconds: w.minTTL,
			Versions: mvcc.Options{CacheBytes: -1, BucketRows: restoreBucketRows}})
		if err != nil {
			w.close()
			return nil, err
		}
	}
	slices.SortFunc(w.shards, func(a, b *restoredShard) int { return cmp.Compare(a.machine.Shard(), b.machine.Shard()) })
	return w, nil
}

func (s *restoredShard) begin(engine storage.Engine, start consensus.SnapshotMeta, records []kv.NodeRecord, o shard.Options) (err error) {
	if s.machine, err = shard.Open(engine, o); err != nil {
		return err
	}
	if err = s.machine.Bootstrap(start, records, &s.rows); err != nil {
		return err
	}
	s.filling, err = s.machine.BeginRestoration()
	return err
}

// close gives back the batches, once nobody uses them; what they have is lost.
func (w *filling) close() {
	_ = w.wait() // who needs to know has waited
	for _, s := range w.shards {
		s.rows.Close()
	}
}

func (w *filling) run(source Source, bump kv.Revision) (restored Filled, err error) {
	last, err := source.History(w.ctx, w.add)
	if err != nil {
		return Filled{}, err
	}
	restored.Revision, restored.Compacted, restored.Versions = last, source.From(), w.versions
	if bump > 0 {
		restored.Revision += bump
		restored.Compacted = restored.Revision
	}
	if restored.Leases, restored.Notes, err = w.grant(source); err != nil {
		return Filled{}, err
	}
	for _, s := range w.shards {
		if err := s.filling.Finish(restored.Revision, restored.Compacted, &s.rows); err != nil {
			return Filled{}, err
		}
	}
	if err := w.flush(); err != nil {
		return Filled{}, err
	}
	return restored, w.wait()
}

// add brings a version to its shard.
func (w *filling) add(v *kv.KeyValue, position int64) error {
	at, err := restoredAt(v.ModRevision, position)
	if err != nil {
		return err
	}
	s := w.byID[w.table.Overlapping(kv.Span{Start: v.Key})[0].Shard]
	if err := s.filling.Apply(v, at, !w.seen.add(v.Key), &s.rows); err != nil {
		return err
	}
	w.versions++
	if s.rows.SizeBytes() > restoreBatchBytes/len(w.shards) {
		if err := w.write(s); err != nil {
			return err
		}
	}
	if w.count, w.bytes = w.count+1, w.bytes+len(v.Key)+len(v.Value); w.count >= w.limit || w.bytes >= restoreBytes {
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

// write brings the rows that become no tables into the engine.
func (w *filling) write(s *restoredShard) error {
	err := w.engine.Apply(s.rows.Batch)
	s.rows.Batch.Reset()
	return err
}

// flush has the engine begin to write what is gathered. It is read in memory until that is done (wait).
func (w *filling) flush() error {
	if err := w.wait(); err != nil {
		return err
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var tables []storage.Rows
	for _, s := range w.shards {
		if s.machine.Freeze() { // else nothing has changed
			for done := false; !done; {
				var err error
				if done, err = s.machine.FlushChunk(&s.rows, restoreRows); err != nil {
					return err
				}
			}
		}
		if err := w.write(s); err != nil {
			return err
		}
		s.rows, s.written = s.written, s.rows
		s.rows.forget()
		tables = append(tables, s.written.tables()...)
	}
	w.count, w.bytes = 0, 0
	loading := make(chan error, 1)
	w.loading = loading
	w.engine.Load(tables, func(err error) { loading <- err })
	return nil
}

// wait waits until what was flushed is in the engine.
func (w *filling) wait() error {
	if w.loading == nil {
		return nil
	}
	err := <-w.loading
	w.loading = nil
	if err != nil {
		return err
	}
	for _, s := range w.shards {
		s.machine.FlushDone()
	}
	return nil
}

// grant adds the leases. Keys may have one that is not there any more: it was ending when the snapshot was made, and goes on doing that.
func (w *filling) grant(source Source) (granted int, notes []string, err error) {
	keysIn := w.whereabouts()
	err = source.Granted(w.ctx, func(id kv.LeaseID, ttlSeconds int64) error {
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
func (w *filling) whereabouts() map[kv.LeaseID][]kv.ShardID {
	keysIn := make(map[kv.LeaseID][]kv.ShardID)
	for _, d := range w.table.Descriptors() {
		for id := range w.byID[d.Shard].filling.Held() {
			keysIn[id] = append(keysIn[id], d.Shard)
		}
	}
	return keysIn
}

func (w *filling) give(id kv.LeaseID, ttlSeconds int64, keysIn []kv.ShardID) {
	w.byID[kv.SystemShard].filling.Grant(id, ttlSeconds, keysIn)
	for _, in := range keysIn {
		if in != kv.SystemShard {
			w.byID[in].filling.Note(id)
		}
	}
}
