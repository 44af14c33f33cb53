package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Options configure a Store.
type Options struct {
	// Shard owns the store's rows; it is part of the key of the store's own state row. Default: the system shard.
	Shard kv.ShardID
	// Revision is the last applied one, as it is durable in the engine together with the applied
	// index. Whatever the engine holds of later revisions is treated as not yet existing; the
	// replay of the log writes it again. Default: 1, the revision of an empty store.
	Revision kv.Revision
	// Compacted is the compacted revision at that same moment. 0: never compacted.
	Compacted kv.Revision

	// CopyBytes is up to which size a value is written a second time, in key order. Lists read it there instead of looking the
	// version up. Default: 1 KiB. Negative: no copies.
	CopyBytes int
	// NeedsFlush says yes when the dirty map holds as many keys or bytes. Defaults: 32,768 keys, 16 MiB.
	MaxDirtyKeys  int
	MaxDirtyBytes int64
	// CacheBytes bounds the memory of the cache of newest metas, roughly. Default: 32 MiB. Negative: no cache.
	CacheBytes int64
	// BucketRows is the number of latest rows that share one entry of the counting index. Default: 512.
	BucketRows int
	// ChunkKeys and ChunkBytes bound what a count at an old revision collects before it looks for the versions, and ChunkKeys what any read
	// does; ChunkBytes is also the size of a stream's chunks unless one is asked for. Defaults: 131,072 keys, 32 MiB. The more of them at a
	// time, the nearer to each other are their rows.
	ChunkKeys  int
	ChunkBytes int64
}

// WithDefaults returns a copy in which every zero field has its default.
func (o Options) WithDefaults() Options {
	setDefault(&o.Shard, kv.SystemShard)
	setDefault(&o.Revision, 1)
	setDefault(&o.CopyBytes, 1<<10)
	setDefault(&o.MaxDirtyKeys, 32<<10)
	setDefault(&o.MaxDirtyBytes, 16<<20)
	setDefault(&o.CacheBytes, 32<<20)
	setDefault(&o.BucketRows, 512)
	setDefault(&o.ChunkKeys, 128<<10)
	setDefault(&o.ChunkBytes, 32<<20)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate checks options that have their defaults.
func (o Options) Validate() error {
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
