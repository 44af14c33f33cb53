package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// dirtyEntryBytes is what a dirty key costs besides its bytes.
const dirtyEntryBytes = 128

// Store is the versioned state of a shard over an engine. The caller holds a
// readers-writer lock: every method says whether it needs it exclusively or shared.
// Methods promoted from Reader need it shared, Row excepted, which needs none.
type Store struct {
	Reader
	engine     storage.Engine
	cache      cache
	dirtyBytes int64
	values     arena // of dirty keys
	index      indexer
	// flushedCompacted is the compacted revision as of the last finished flush,
	// frozenCompacted as of the one in progress.
	flushedCompacted, frozenCompacted kv.Revision
	rowBuffer                         []byte
	keyBuffer                         []byte
}

// Open reads what the store needs in memory: one scan of the latest rows.
func Open(engine storage.Engine, options Options) (*Store, error) {
	s := &Store{engine: engine}
	return s, s.Reset(options)
}

// Reset forgets everything in memory and opens the engine's content anew: after a
// snapshot was ingested. Exclusive.
func (s *Store) Reset(options Options) error {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return err
	}
	s.Reader = Reader{
		source: s.engine, options: options,
		revision: options.Revision, compacted: options.Compacted, flushed: options.Revision,
	}
	s.cache, s.dirtyBytes, s.values, s.index = newCache(options.CacheBytes), 0, arena{}, indexer{}
	s.cached = &s.cache
	s.flushedCompacted = options.Compacted
	if err := s.loadCompaction(); err != nil {
		return fmt.Errorf("open versions: %w", err)
	}
	if err := s.buildIndex(); err != nil {
		return fmt.Errorf("open versions: count the keys: %w", err)
	}
	return nil
}

// Apply adds effects of the revisions after Revision() up to and including rev: version rows to
// b, metas to memory. The caller applies b before it releases the lock. Effects
// are in the order of their locators. Exclusive.
//
// It panics if an effect is not newer than everything applied: that would break the promise
// that a revision, once seen, never changes.
func (s *Store) Apply(b storage.Batch, effects []Effect, rev kv.Revision) {
	if rev < s.revision {
		panic(fmt.Sprintf("mvcc: apply of revision %d after revision %d", rev, s.revision))
	}
	last := Locator{s.revision, 1<<32 - 1}
	for i := range effects {
		e := &effects[i]
		if !last.Less(e.At) || e.At.Rev > rev || !e.Prev.Less(e.At) {
			panic(fmt.Sprintf("mvcc: effect at %d.%d with previous version %d.%d applied after %d.%d, up to revision %d",
				e.At.Rev, e.At.Sub, e.Prev.Rev, e.Prev.Sub, last.Rev, last.Sub, rev))
		}
		last = e.At
		s.apply(b, e)
	}
	s.revision = rev
}

func (s *Store) apply(b storage.Batch, e *Effect) {
	s.keyBuffer = appendVersionKey(s.keyBuffer[:0], e.At)
	s.rowBuffer = appendVersionRow(s.rowBuffer[:0], e)
	b.Set(s.keyBuffer, s.rowBuffer)
	m := e.Meta()
	var value []byte
	copied := e.Version != 0 && len(e.Value) <= s.options.CopyBytes
	if copied {
		// Overwritten copies count too: they may keep the memory that they share with others.
		s.dirtyBytes += int64(len(e.Value))
		value = s.values.copy(e.Value)
	}
	key := s.active.set(e.Key, liveDelta(e.Version != 0, e.PrevLive), func(old dirtyMeta, exists bool) dirtyMeta {
		if exists {
			old.Meta, old.copied, old.value = m, copied, value
			return old
		}
		s.dirtyBytes += dirtyEntryBytes + int64(len(e.Key))
		fresh := e.Prev.Rev == 0 || !e.PrevLive && e.Prev.Rev < s.compacted
		return dirtyMeta{latest: latest{m, e.Prev}, fresh: fresh, copied: copied, value: value}
	})
	s.cache.put(key, m)
}

// View freezes the current state. It costs a few allocations and an engine snapshot.
// The caller closes the view. Exclusive.
func (s *Store) View() *View {
	v := &View{Reader: s.Reader, snapshot: s.engine.NewSnapshot()}
	v.source, v.cached = v.snapshot, nil
	v.active = s.active.clone()
	v.base = s.base.clone()
	return v
}

// View is a frozen state. All its methods may be used from any goroutine, without a lock.
type View struct {
	Reader
	snapshot storage.Snapshot
}

// Close releases the engine snapshot. The view must not be used any more.
func (v *View) Close() error { return v.snapshot.Close() }

// Metrics are figures about a store.
type Metrics struct {
	Keys         int64 // live keys
	DirtyKeys    int   // keys whose latest row waits for a flush, those of a flush in progress included
	DirtyBytes   int64 // what the keys that no flush took yet cost
	CacheEntries int
	IndexBuckets int // entries of the counting index
	// PhysicallyCompacted is the compacted revision below which all rows are gone.
	PhysicallyCompacted kv.Revision
}

// Metrics returns current figures. Shared.
func (s *Store) Metrics() Metrics {
	return Metrics{
		Keys:                s.liveKeys(),
		DirtyKeys:           s.active.count + s.frozen.count,
		DirtyBytes:          s.dirtyBytes,
		CacheEntries:        s.cache.len(),
		IndexBuckets:        s.base.count,
		PhysicallyCompacted: s.progress.done,
	}
}
