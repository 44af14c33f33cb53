package mvcc

import (
	"cmp"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/keys"
)

// Options configure a Store.
type Options struct {
	// Rows tell where the shard's rows are. Default: those of the system shard.
	Rows keys.Rows
	// Revision is the greatest one applied, as it is durable in the engine together with the applied
	// index. Whatever the engine holds of what was applied later is treated as not yet existing; the
	// replay of the log writes it again. Default: 1, the revision of an empty store.
	Revision kv.Revision
	// Compacted is the compacted revision at that same moment. 0: never compacted.
	Compacted kv.Revision
	// Flush is the number of the flush that ended at that moment (Store.FlushNumber). 0: none ever did.
	Flush uint64
	// Replaying: the log has entries that were not applied at that moment. They may have been before a crash, so that the engine may hold versions that are
	// to be applied again. See Store.Replayed.
	Replaying bool

	// ByKeyBytes is up to which size the value of a newest version is kept in key order, where lists read it. Larger ones stay where their version
	// is. Default: 1 KiB. Negative: none is kept by key. It may be another one at every start.
	ByKeyBytes int
	// NeedsFlush says yes when the dirty map holds as many keys or bytes. Defaults: 32,768 keys, 16 MiB.
	MaxDirtyKeys  int
	MaxDirtyBytes int64
	// CacheBytes bounds the memory of the cache of newest metas, roughly. Default: 32 MiB. Negative: no cache.
	CacheBytes int64
	// BucketRows is the number of latest rows that share one entry of the counting index. A list that ends within a bucket scans what
	// is before it there, in each shard that it reads. Default: 128.
	BucketRows int
	// ChunkKeys and ChunkBytes bound what a count at an old revision collects before it looks for the versions, and ChunkKeys what any read
	// does; ChunkBytes is also the size of a stream's chunks unless one is asked for. Defaults: 131,072 keys, 32 MiB. The more of them at a
	// time, the nearer to each other are their rows.
	ChunkKeys  int
	ChunkBytes int64
}

// WithDefaults returns a copy in which every zero field has its default.
func (o Options) WithDefaults() Options {
	if len(o.Rows.Segments) == 0 {
		o.Rows = keys.RowsOf(kv.SystemShard)
	}
	o.Revision = cmp.Or(o.Revision, 1)
	o.ByKeyBytes = cmp.Or(o.ByKeyBytes, 1<<10)
	o.MaxDirtyKeys = cmp.Or(o.MaxDirtyKeys, 32<<10)
	o.MaxDirtyBytes = cmp.Or(o.MaxDirtyBytes, 16<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, 32<<20)
	o.BucketRows = cmp.Or(o.BucketRows, 128)
	o.ChunkKeys = cmp.Or(o.ChunkKeys, 128<<10)
	o.ChunkBytes = cmp.Or(o.ChunkBytes, 32<<20)
	return o
}

// Validate checks options that have their defaults.
func (o Options) Validate() error {
	if err := o.Rows.Validate(); err != nil {
		return fmt.Errorf("mvcc options: %w", err)
	}
	switch {
	case o.Revision < 1:
		return fmt.Errorf("mvcc options: revision %d is below 1, the revision of an empty store", o.Revision)
	case o.Compacted < 0 || o.Compacted > o.Revision:
		return fmt.Errorf("mvcc options: compacted revision %d is not between 0 and the revision %d", o.Compacted, o.Revision)
	case o.MaxDirtyKeys < 1 || o.MaxDirtyBytes < 1 || o.BucketRows < 1 || o.ChunkKeys < 1 || o.ChunkBytes < 1:
		return fmt.Errorf("mvcc options: a limit is not positive: %+v", o)
	}
	return nil
}
