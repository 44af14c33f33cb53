package lsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/quoratedb/quorate/storage"
)

// Engine is a storage.Engine on Pebble. Reads are safe for concurrent use.
type Engine struct {
	options Options
	pebble  *pebble.Options
	db      *pebble.DB
	lock    *pebble.Lock
	failure *failure
	closed  atomic.Bool

	// applying excludes Ingest from Apply and Flush, which take turns anyway.
	applying    sync.Mutex
	activeBytes int          // applied since the memtable was last rotated; an estimate from above
	unflushed   atomic.Int64 // activeBytes, for Metrics
	dirty       bool         // something was applied since the last rotation
	// snapshotting is held while a snapshot is taken, and exclusively by an Ingest that depends on there being none.
	snapshotting sync.RWMutex
	snapshots    atomic.Int64

	flushes   flushQueue
	compacted chan struct{} // capacity 1: a compaction ended
	stalls    atomic.Int64
	lastApply atomic.Int64 // when a batch was applied, in nanoseconds of Unix time
	loaded    atomic.Int64 // tables that Load has begun to write; their names
	reclaim   reclaimer
	owned     sync.WaitGroup // goroutines that Close waits for
}

var _ storage.Engine = (*Engine)(nil)

// Open opens the engine in the directory, or creates it.
func Open(o Options) (*Engine, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	mapLarge()
	e := &Engine{options: o, failure: newFailure(), compacted: make(chan struct{}, 1)}
	e.flushes.init(o.PendingMemTables)
	e.reclaim.context, e.reclaim.cancel = context.WithCancel(context.Background())
	e.pebble = o.pebbleOptions()
	e.pebble.FS = &gate{o.FS, o.Dir, e.failure, e.pace}
	e.pebble.Logger = logger{e}
	e.pebble.EventListener = e.eventListener()
	if err := e.open(); err != nil {
		return nil, err
	}
	e.failure.opened.Store(true)
	e.settle()
	e.owned.Go(e.completeFlushes)
	return e, nil
}

func (e *Engine) open() error {
	dir := e.options.Dir
	if !e.options.ReadOnly {
		if err := e.pebble.FS.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("lsm: create the state's directory %s: %w", dir, err)
		}
	}
	lock, err := pebble.LockDirectory(dir, e.pebble.FS)
	if err != nil {
		return fmt.Errorf("lsm: lock the state's directory %s: %w; probably another process uses it", dir, err)
	}
	e.pebble.Lock = lock
	if err := e.lookAtFiles(); err != nil {
		return errors.Join(err, lock.Close())
	}
	db, err := openPebble(dir, e.failure, e.pebble)
	if err == nil && e.failure.err() != nil {
		close(e.failure.closing)
		err = errors.Join(e.failure.err(), db.Close())
	}
	if err != nil {
		return errors.Join(describeOpen(dir, err), lock.Close())
	}
	e.db, e.lock = db, lock
	return nil
}

// openPebble turns a panic, which is how Pebble takes some errors of the disk, into an error.
// The panic may be about something that an error before it had left behind; then that error is the one.
func openPebble(dir string, f *failure, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("open: %v", r)
			if refused := f.refused.Load(); refused != nil {
				err = fmt.Errorf("open: %w", *refused)
			} else if cause, ok := r.(error); ok {
				err = fmt.Errorf("open: %w", cause)
			}
		}
	}()
	return pebble.Open(dir, o)
}

func describeOpen(dir string, err error) error {
	switch {
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("lsm: the state in %s was written by a newer version of the program: %w; use that version", dir, err)
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		return fmt.Errorf("lsm: there is no state in %s: %w", dir, err)
	case errors.Is(err, pebble.ErrDBNotPristine): // the version of its format is gone
		return corrupt(dir, fmt.Errorf("there are files but no marker.format-version: %w", err))
	case strings.Contains(err.Error(), "object size mismatch"): // a table is shorter than the manifest says; Pebble does not call it corruption
		return corrupt(dir, err)
	}
	return describe(dir, err)
}

// lookAtFiles tells damage from a creation that was interrupted, which has no tables. Tables without the file that names the manifest are damage: Pebble would
// take the directory for a new one, and delete them. A name of a manifest that is not there, without tables, is what a crash may leave of the first
// start: it is removed, and Pebble begins anew.
func (e *Engine) lookAtFiles() error {
	fs, dir := e.options.FS, e.options.Dir
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("lsm: list the state in %s: %w", dir, err)
	}
	tables, dangling, named := 0, []string(nil), false
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			tables++
		}
		if rest, marker := strings.CutPrefix(name, "marker.manifest."); marker {
			_, manifest, _ := strings.Cut(rest, ".")
			if named = named || slices.Contains(names, manifest); !slices.Contains(names, manifest) {
				dangling = append(dangling, name)
			}
		}
	}
	switch {
	case tables > 0 && !named && len(dangling) == 0:
		return corrupt(dir, fmt.Errorf("there are %d tables but no marker.manifest, which says what is in them", tables))
	case tables > 0 || named || e.options.ReadOnly:
		return nil
	}
	for _, name := range dangling {
		if err := fs.Remove(fs.PathJoin(dir, name)); err != nil {
			return fmt.Errorf("lsm: remove what an interrupted first start left in %s: %w", dir, err)
		}
	}
	return nil
}

// err is what every call checks first.
func (e *Engine) err() error {
	if e.closed.Load() {
		return fmt.Errorf("%w: the state engine in %s", storage.ErrClosed, e.options.Dir)
	}
	return e.failure.err()
}

// Get implements storage.Reader.
func (e *Engine) Get(key, dst []byte) ([]byte, bool, error) {
	if err := e.err(); err != nil {
		return dst, false, err
	}
	return get(e, e.db, key, dst)
}

func get(e *Engine, r pebble.Reader, key, dst []byte) ([]byte, bool, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, e.failure.err()
	}
	if err != nil {
		return dst, false, e.readError(err)
	}
	dst = append(dst, value...)
	if err := closer.Close(); err != nil {
		return dst, false, e.readError(err)
	}
	return dst, true, e.failure.err()
}

// readError adds what the reader needs to know. A failed read does not stop the engine: what was read before is right.
func (e *Engine) readError(err error) error {
	if failed := e.failure.err(); failed != nil {
		return failed
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) {
		err = describe(e.options.Dir, withPath(err))
		if f := e.options.Listener.Corrupt; f != nil {
			f(err)
		}
		return err
	}
	return fmt.Errorf("lsm: read the state in %s: %w", e.options.Dir, err)
}

// withPath names the corrupt file, which Pebble hides in the error's payload.
func withPath(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("file %s: %w", info.Path, err)
	}
	return err
}

// NewIterator implements storage.Reader.
func (e *Engine) NewIterator(lower, upper []byte) storage.Iterator {
	if err := e.err(); err != nil {
		return &iterator{engine: e, problem: err}
	}
	return newIterator(e, e.db, lower, upper)
}

// NewSnapshot implements storage.Engine.
func (e *Engine) NewSnapshot() storage.Snapshot {
	e.snapshotting.RLock()
	defer e.snapshotting.RUnlock()
	if err := e.err(); err != nil {
		return &snapshot{engine: e, problem: err}
	}
	e.snapshots.Add(1)
	return &snapshot{engine: e, snapshot: e.db.NewSnapshot()}
}

// NewBatch implements storage.Engine.
func (e *Engine) NewBatch() storage.Batch { return &batch{batch: e.db.NewBatch()} }

// Apply implements storage.Engine. It waits when flushes or compactions fall behind.
func (e *Engine) Apply(b storage.Batch) error {
	own, ok := b.(*batch)
	if !ok {
		return fmt.Errorf("lsm: a batch of type %T does not belong to this engine", b)
	}
	e.applying.Lock()
	defer e.applying.Unlock()
	if err := e.err(); err != nil {
		return err
	}
	if own.problem != nil {
		return fmt.Errorf("lsm: apply: %w", own.problem)
	}
	if own.batch.Empty() {
		return nil
	}
	if err := e.makeRoom(own.memTableBytes()); err != nil {
		return err
	}
	if err := e.db.Apply(own.batch, pebble.NoSync); err != nil {
		err = describe(e.options.Dir, fmt.Errorf("apply a batch: %w", err))
		e.failure.fail(err)
		return err
	}
	e.lastApply.Store(time.Now().UnixNano())
	e.activeBytes += own.memTableBytes()
	e.unflushed.Add(int64(own.memTableBytes()))
	e.dirty = true
	return e.failure.err()
}

// Metrics implements storage.Engine.
func (e *Engine) Metrics() storage.Metrics {
	if e.closed.Load() {
		return storage.Metrics{}
	}
	m := e.db.Metrics()
	total := m.Total()
	garbage := m.Table.Garbage.PointDeletionsBytesEstimate + m.Table.Garbage.RangeDeletionsBytesEstimate
	return storage.Metrics{
		DiskBytes:          int64(m.DiskSpaceUsage()),
		UnflushedBytes:     e.unflushed.Load(),
		LiveBytes:          max(0, total.TablesSize-int64(garbage)),
		MemoryBytes:        int64(m.MemTable.Size) + int64(m.MemTable.ZombieSize) + m.BlockCache.Size,
		FlushCount:         m.Flush.Count,
		CompactionCount:    m.Compact.Count,
		WriteStalls:        e.stalls.Load(),
		ReadAmplification:  m.ReadAmp(),
		CompactionDebtSize: int64(m.Compact.EstimatedDebt),
	}
}

// SizeOf estimates how many bytes the spans have in files. What is not flushed yet does not count, and what was deleted counts until it is merged away.
func (e *Engine) SizeOf(spans []storage.Span) (bytes int64, err error) {
	if err := e.err(); err != nil {
		return 0, err
	}
	for _, span := range spans {
		size, err := e.db.EstimateDiskUsage(span.Lower, span.Upper)
		if err != nil {
			return 0, e.readError(err)
		}
		bytes += int64(size)
	}
	return bytes, nil
}

// Close implements storage.Engine. What is not flushed is lost, as in a crash; a node
// that stops in good order flushes first. Flushes that have not ended get ErrClosed.
// Nobody may use the engine, its snapshots or iterators any more.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.reclaim.cancel()
	close(e.failure.closing)
	e.applying.Lock() // waits for an Apply that is under way
	e.flushes.close()
	e.applying.Unlock()
	e.owned.Wait()
	return errors.Join(e.closePebble(), e.lock.Close())
}

// closePebble: what Pebble thinks of its own end matters only if it was well before.
func (e *Engine) closePebble() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("lsm: close the state in %s: %v", e.options.Dir, r)
		}
		if e.failure.err() != nil {
			err = nil
		}
	}()
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("lsm: close the state in %s: %w", e.options.Dir, err)
	}
	return nil
}

// logger is what Pebble says. Only what is odd is passed on.
type logger struct{ engine *Engine }

// Infof implements pebble.Logger. Its news come through the event listener.
func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if f := l.engine.options.Listener.Message; f != nil {
		f(fmt.Sprintf(format, args...))
	}
}

// Fatalf returns, and the engine is stopped: Pebble would have ended the process. What leads here from a
// failing disk is hidden from Pebble by silentFile; what is left are its own assertions, whose callers return an error next.
func (l logger) Fatalf(format string, args ...any) {
	l.engine.failure.fail(describe(l.engine.options.Dir, fatalError(format, args)))
}

// fatalError keeps the cause, so that a full disk can be told from a broken one.
func fatalError(format string, args []any) error {
	err := fmt.Errorf("%s", fmt.Sprintf(format, args...))
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			return fmt.Errorf("%w (%w)", err, cause)
		}
	}
	return err
}

func (e *Engine) eventListener() *pebble.EventListener {
	l := e.options.Listener
	events := &pebble.EventListener{
		BackgroundError: func(err error) {
			if pebble.IsCorruptionError(err) {
				err = withPath(err)
			}
			e.failure.fail(describe(e.options.Dir, err))
		},
		// A reader gets the error itself; a compaction reports it as a background error.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if l.Message != nil {
				l.Message(fmt.Sprintf("file %s is corrupt: %v", info.Path, info.Details))
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			select {
			case e.compacted <- struct{}{}:
			default:
			}
			if l.Compacted != nil && info.Err == nil {
				l.Compacted(info.Reason, info.TotalDuration)
			}
		},
		FlushEnd: func(info pebble.FlushInfo) {
			if l.Flushed != nil && info.Err == nil {
				l.Flushed(info.InputBytes, info.TotalDuration)
			}
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			if l.DiskSlow != nil {
				l.DiskSlow(info.Path, info.Duration)
			}
		},
	}
	return events
}

func (e *Engine) stalled(reason string, since time.Time) {
	e.stalls.Add(1)
	if f := e.options.Listener.Stalled; f != nil {
		f(reason, time.Since(since))
	}
}
