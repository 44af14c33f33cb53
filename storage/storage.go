// Package storage defines the state engine of a node, an ordered map of bytes with
// atomic batches and snapshots, and provides the deterministic in-memory engine
// (Memory). The engine on disk is package storage/lsm; the log is package storage/wal.
//
// The engine has no write-ahead log. What Apply made visible becomes durable in
// order, as a prefix of the batches, at the latest when Flush returns. A shard's
// applied index travels in the same batch as its effects, and the log is
// replayed from the durable applied index after a crash.
package storage

import (
	"context"
	"errors"
)

// Reader reads one consistent state, or the current one when it is an Engine.
type Reader interface {
	// Get returns a copy of the value appended to dst. found is false if there is none.
	Get(key, dst []byte) (value []byte, found bool, err error)
	// NewIterator iterates over lower <= key < upper; nil means unbounded. The caller closes it.
	// An iterator sees the state at the moment of its creation.
	NewIterator(lower, upper []byte) Iterator
}

// Iterator walks keys in order. It starts unpositioned. Key and Value are valid until
// the next move. After a move that returned false, Error tells whether the end was
// reached or reading failed.
type Iterator interface {
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Valid() bool
	Key() []byte
	Value() []byte
	Error() error
	Close() error
}

// Snapshot is a state frozen at a moment. It must be closed.
type Snapshot interface {
	Reader
	Close() error
}

// Batch collects changes that take effect together, in the order given.
type Batch interface {
	Set(key, value []byte)
	Delete(key []byte)
	DeleteRange(lower, upper []byte) // lower <= key < upper
	Count() int
	SizeBytes() int
	Reset()
	Close()
}

// Span is a half-open interval of engine keys. Both bounds are set.
type Span struct{ Lower, Upper []byte }

// Row is a key, and its value unless it is deleted.
type Row struct {
	Key, Value []byte
	Deleted    bool
}

// Rows gives rows to yield, until that returns false. They ascend by their keys, and no key comes twice. What a row has is valid until yield returns.
type Rows func(yield func(Row) bool)

// Engine is the state engine of a node.
type Engine interface {
	Reader
	NewBatch() Batch
	// Apply makes the batch visible atomically. It is not durable yet. Only one goroutine applies at a time.
	Apply(Batch) error
	NewSnapshot() Snapshot
	// Flush makes everything applied so far durable, and calls done (from any goroutine) when it is,
	// or with the error that prevented it. Flushes complete in order.
	Flush(done func(error))
	// Export writes the content of the spans at the snapshot into files in dir that Ingest
	// understands, and returns their names in order. progress may be nil.
	Export(ctx context.Context, s Snapshot, spans []Span, dir string, progress func(bytes int64)) (files []string, err error)
	// Inspect makes sure that Ingest would take the files for the spans, without changing anything, and reads what they hold under the key. It may be
	// called beside everything else.
	Inspect(ctx context.Context, files []string, spans []Span, key []byte) (value []byte, found bool, err error)
	// Ingest replaces the content of the spans by that of the files, in one atomic
	// and durable step. The files are consumed.
	Ingest(ctx context.Context, files []string, spans []Span) error
	// Load is Apply for many rows: it writes each table, whose rows lie apart from those of the others, at once where it belongs, and makes all of them visible in one
	// step. They are durable then, after everything that was applied before. It calls done (from any goroutine) when they are, or with the error that prevented
	// it; until then the tables belong to the engine, and nothing is applied or loaded that has keys of theirs.
	Load(tables []Rows, done func(error))
	// NewScrub begins a pass over everything that is on disk.
	NewScrub() Scrub
	// Reclaim gives the space of deleted data back, in the background, and calls done (from any goroutine) when Metrics shows it, or
	// with the error that prevented it. What a snapshot or an iterator still reads stays until that is closed.
	Reclaim(done func(error))
	Metrics() Metrics
	Close() error
}

// Metrics are figures about an engine.
type Metrics struct {
	DiskBytes          int64 // all files of the engine
	UnflushedBytes     int64 // applied and not in a file yet, uncompressed
	LiveBytes          int64 // estimate of what a fully compacted engine would hold
	MemoryBytes        int64 // memtables and cache
	FlushCount         int64
	CompactionCount    int64
	WriteStalls        int64
	ReadAmplification  int
	CompactionDebtSize int64
}

// ErrCorrupt is wrapped by errors that mean that bytes on disk are not what was written.
var ErrCorrupt = errors.New("storage: corrupt data")
