package lsm

import (
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configure an Engine.
type Options struct {
	Dir string
	FS  vfs.FS // default: the operating system's
	// CacheBytes is for uncompressed blocks of tables. Default 64 MiB.
	CacheBytes int64
	// MemTableBytes is when a memtable is flushed. Default 16 MiB: an access to a larger skip
	// list costs more cache misses than the rarer flushes save (3.2 against 4.0 us a put).
	MemTableBytes int
	// PendingMemTables is how many memtables may wait for their flush before Apply waits. Default 2.
	PendingMemTables int
	// MaxOpenFiles is a soft limit. Default 500.
	MaxOpenFiles int
	// ExportFileBytes is about where Export begins a new file. Default 64 MiB.
	ExportFileBytes int
	// ReadOnly opens an existing engine without writing anything.
	ReadOnly bool
	// Inline flushes, compacts and removes files within the calls that lead to it and not in the background, and
	// compacts less cleverly. For tests that must do the same every time.
	Inline   bool
	Listener Listener
}

// Listener hears what happens in the background. Its functions are called from
// goroutines of the engine; they must return soon and not call the engine. Nil functions are skipped.
type Listener struct {
	// Failed tells, once, that the engine stopped. Every call returns the same error from now on.
	Failed func(error)
	// Corrupt tells that a read found bytes that are not what was written. The reader gets the same error.
	Corrupt func(error)
	// Stalled tells that Apply had to wait until memtables were flushed or level 0 was compacted.
	Stalled func(reason string, waited time.Duration)
	// Flushed and Compacted tell that such a job ended.
	Flushed   func(bytes uint64, took time.Duration)
	Compacted func(reason string, took time.Duration)
	// DiskSlow tells of a disk operation that takes long and has not ended yet.
	DiskSlow func(path string, took time.Duration)
	// Message passes on what Pebble finds worth saying when something is odd.
	Message func(string)
}

// WithDefaults returns a copy with defaults filled in.
func (o Options) WithDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.PendingMemTables == 0 {
		o.PendingMemTables = 2
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = 500
	}
	if o.ExportFileBytes == 0 {
		o.ExportFileBytes = 64 << 20
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Dir == "":
		return fmt.Errorf("lsm: the directory of the state engine is not set")
	case o.CacheBytes < 0 || o.PendingMemTables < 1 || o.MaxOpenFiles < 0 || o.ExportFileBytes < 1:
		return fmt.Errorf("lsm: a size is negative or zero: %+v", o)
	case o.MemTableBytes < 4<<10 || o.MemTableBytes > 1<<30:
		return fmt.Errorf("lsm: memtables of %d bytes; they must have 4 KiB to 1 GiB", o.MemTableBytes)
	}
	return nil
}

// Level 0 sublevels at which compaction begins and at which Apply waits. Every sublevel
// is one more table to look into for each read.
const (
	l0CompactionSublevels = 4
	l0StopSublevels       = 24
)

// pebbleOptions is the tuning.
//
//   - Blocks of 4 KiB: a version row is about 300 bytes, so a random read decompresses a dozen
//     rows; smaller blocks double the index for a microsecond.
//   - Compression by Pebble's "fastest" profile (MinLZ or Snappy): it costs less than writing the
//     bytes it saves and does nothing to values that do not compress. See docs/decisions/0003.
//   - Level 0 is written to be read once, by the next compaction: large blocks, not compressed.
//   - A Bloom filter of 10 bits per key on every level, the last one included: the lookups that
//     reach the engine are mostly of keys that do not exist yet.
//   - Our own waiting in place of Pebble's write stalls, which nothing can interrupt.
func (o Options) pebbleOptions() *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		CacheSize:                   o.CacheBytes,
		DisableWAL:                  true,
		ErrorIfNotExists:            o.ReadOnly,
		FormatMajorVersion:          pebble.FormatNewest,
		ReadOnly:                    o.ReadOnly,
		MaxOpenFiles:                o.MaxOpenFiles,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: math.MaxInt16,
		L0CompactionThreshold:       l0CompactionSublevels,
		L0StopWritesThreshold:       math.MaxInt16,
		LBaseMaxBytes:               64 << 20,
		// One compaction normally, two when it falls behind: more would take the CPU from the requests.
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	for i, mebibytes := range []int64{8, 8, 16, 32, 64, 64, 64} {
		p.TargetFileSizes[i] = mebibytes << 20
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = 4 << 10
		p.Levels[i].IndexBlockSize = 32 << 10
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	p.Levels[0].BlockSize = 32 << 10
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		s := pebble.DBCompressionFastest
		s.Name, s.Levels[0] = "fastest below level 0", block.NoCompression
		return s
	})
	// A lazily ingested table lives in the write-ahead log, which we do not have.
	p.Experimental.DisableIngestAsFlushable = func() bool { return true }
	p.Experimental.FileCacheShards = 2
	if o.Inline {
		p.DisableAutomaticCompactions, p.DisableTableStats = true, true
	}
	return p
}
