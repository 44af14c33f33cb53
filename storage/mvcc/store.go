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
// Methods promoted from Reader need it shared.
type Store struct {
	Reader
	engine      storage.Engine
	cache       cache
	dirtyBytes  int64 // of the keys that no flush took yet; frozenBytes of those of the flush in progress
	frozenBytes int64
	values      arena // of dirty keys
	index       indexer
	staged      bulk // not in force yet
	under       *UnderBulk
	flush       uint64 // see FlushNumber
	// logCompacted is the compacted revision as of what is applied; that of the Reader may be from later, after a crash. flushedCompacted is
	// it as of the last finished flush, frozenCompacted as of the one in progress.
	logCompacted, flushedCompacted, frozenCompacted kv.Revision
	rowBuffer                                       []byte
	keyBuffer                                       []byte
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
		revision: options.Revision, compacted: options.Compacted, replaying: options.Replaying, bound: kv.Unnumbered,
	}
	s.cache, s.dirtyBytes, s.frozenBytes, s.values, s.index = newCache(options.CacheBytes), 0, 0, arena{}, indexer{}
	s.cached, s.staged = &s.cache, bulk{}
	s.under = nil
	s.logCompacted, s.flushedCompacted = options.Compacted, options.Compacted
	if err := s.loadCompaction(); err != nil {
		return fmt.Errorf("open versions: %w", err)
	}
	if err := s.buildIndex(); err != nil {
		return fmt.Errorf("open versions: count the keys: %w", err)
	}
	return nil
}

// Apply adds effects of revisions up to and including rev: version rows to
// b, metas to memory. The caller applies b before it releases the lock. Effects
// are in the order of their locators. Revisions ascend per key; of different keys the later ones may be applied first. Exclusive.
//
// It panics if an effect is not newer than the version of its key that it replaces: that would break the promise
// that a revision, once seen, never changes.
func (s *Store) Apply(b storage.Batch, effects []Effect, rev kv.Revision) {
	last := Locator{}
	for i := range effects {
		e := &effects[i]
		if !last.Less(e.At) || e.At.Rev > rev || !e.Prev.Less(e.At) {
			panic(fmt.Sprintf("mvcc: effect at %d.%d with previous version %d.%d applied after %d.%d, up to revision %d",
				e.At.Rev, e.At.Sub, e.Prev.Rev, e.Prev.Sub, last.Rev, last.Sub, rev))
		}
		if s.bulk.pending(e.Key) != nil {
			panic(fmt.Sprintf("mvcc: effect at %d.%d of key %q applied before one of a bulk that is pending", e.At.Rev, e.At.Sub, e.Key))
		}
		last = e.At
		s.apply(b, e)
	}
	s.revision = max(s.revision, rev)
}

// SetClosed says that what is applied from now on may have any revision above rev: the state is complete up to rev at most (Closed), whatever is applied, until
// SetClosed is called again. kv.Unnumbered: no revision but those above the newest one will come, as it is after Reset. Exclusive.
func (s *Store) SetClosed(rev kv.Revision) { s.bound = rev }

func (s *Store) apply(b storage.Batch, e *Effect) {
	m, byKey := e.Meta(), s.options.keepsByKey(e)
	s.keyBuffer = s.appendVersionKey(s.keyBuffer[:0], e.At)
	s.rowBuffer = appendVersionRow(s.rowBuffer[:0], e, byKey)
	b.Set(s.keyBuffer, s.rowBuffer)
	if s.replaying && byKey {
		// It was replaced before the crash, perhaps, and its value moved. Now it is where a newest version's is, and nowhere else.
		s.keyBuffer = s.appendVersionValueKey(s.keyBuffer[:0], e.At)
		b.Delete(s.keyBuffer)
	}
	var value []byte
	if byKey {
		// Overwritten ones count too: they may keep the memory that they share with others.
		s.dirtyBytes += int64(len(e.Value))
		value = s.values.copy(e.Value)
	}
	replacesDirty := false
	key := s.active.set(e.Key, liveDelta(e.Version != 0, e.PrevLive), func(old dirtyMeta, exists bool) dirtyMeta {
		if exists {
			replacesDirty = true
			s.replace(b, &old, e)
			old.Meta, old.byKey, old.value = m, byKey, value
			return old
		}
		s.dirtyBytes += dirtyEntryBytes + int64(len(e.Key))
		fresh := e.Prev.Rev == 0 || !e.PrevLive && e.Prev.Rev < s.compacted
		return dirtyMeta{latest: latest{m, e.Prev}, fresh: fresh, byKey: byKey, value: value}
	})
	if s.flushing && !replacesDirty && string(e.Key) > s.flushedTo {
		if old, ok := s.frozen.get(text(e.Key)); ok { // it is not written yet, and Replaced must find it
			s.replace(b, &old.value, e)
		}
	}
	s.cache.put(key, m)
}

// replace is called when a version that is not written by key yet is not the newest any more.
func (s *Store) replace(b storage.Batch, old *dirtyMeta, e *Effect) {
	if !old.At.Less(e.At) {
		panic(fmt.Sprintf("mvcc: effect at %d.%d of key %q applied after %d.%d", e.At.Rev, e.At.Sub, e.Key, old.At.Rev, old.At.Sub))
	}
	if old.byKey {
		s.keyBuffer = s.appendVersionValueKey(s.keyBuffer[:0], old.At)
		b.Set(s.keyBuffer, old.value)
	}
}

// Replaced returns a version that is not the newest of its key any more, and the locator of the one before. ok is false when there is
// no such row, most likely because it is compacted. It needs no lock: it reads the engine, and what UnderBulk returned when the version was replaced already.
//
// When a version that nobody may read any more really disappears differs between replicas. Who
// shows prev_kv to clients asks for it only if At.Rev-1 of the event is not below
// the compacted revision.
func (s *Store) Replaced(at Locator, under *UnderBulk) (row kv.KeyValue, prev Locator, ok bool, err error) {
	if v, ok := under.version(at); ok {
		return v.keyValue(), v.prev, true, nil
	}
	v, ok, err := s.versionRow(at)
	if err != nil || !ok {
		return kv.KeyValue{}, Locator{}, false, err
	}
	// The value moves from the row by key behind the version, at a moment between two looks, perhaps, and may be compacted after that.
	for look := 0; v.byKey && look < 2; look++ {
		if err := s.lookForReplaced(&v, under); err != nil {
			return kv.KeyValue{}, Locator{}, false, err
		}
	}
	if v.byKey {
		_, ok, err := s.versionRow(at)
		if ok && err == nil {
			err = v.filled(nil, false, nil)
		}
		return kv.KeyValue{}, Locator{}, false, err
	}
	return v.keyValue(), v.prev, true, nil
}

func (s *Store) lookForReplaced(v *version, under *UnderBulk) error {
	value, ok, err := s.movedValue(v.at)
	if err == nil && !ok {
		value, ok, err = s.valueByKey(v.key, v.at)
	}
	if err == nil && !ok {
		value, ok = under.value(v.key, v.at)
	}
	if err != nil || !ok {
		return err
	}
	return v.filled(value, true, nil)
}

// View freezes the current state. It costs a few allocations and an engine snapshot.
// The caller closes the view. Exclusive.
func (s *Store) View() *View {
	snapshot := s.engine.NewSnapshot()
	v := &View{Reader: s.Reader, close: snapshot.Close}
	v.source, v.cached = snapshot, nil
	v.active = s.active.clone()
	v.frozen = s.frozen.clone()
	v.bulk.keys = s.bulk.keys.clone()
	v.base = s.base.clone()
	return v
}

// View is a frozen state. All its methods may be used from any goroutine, without a lock.
type View struct {
	Reader
	close func() error
}

// Sharing returns another view of the same state, for whose end close is called. This one must stay open until then.
func (v *View) Sharing(close func() error) *View { return &View{Reader: v.Reader, close: close} }

// Close releases the engine snapshot. The view must not be used any more.
func (v *View) Close() error { return v.close() }

// Memory is what a store holds of what a node bounds for all of its stores together.
type Memory struct {
	DirtyBytes  int64 // of keys that no flush took yet
	FrozenBytes int64 // of keys of the flush in progress
	CacheBytes  int64 // of the newest metas that are cached
}

// Plus and Minus add up what several stores hold.
func (m Memory) Plus(n Memory) Memory {
	return Memory{m.DirtyBytes + n.DirtyBytes, m.FrozenBytes + n.FrozenBytes, m.CacheBytes + n.CacheBytes}
}

// Minus is the opposite of Plus.
func (m Memory) Minus(n Memory) Memory {
	return Memory{m.DirtyBytes - n.DirtyBytes, m.FrozenBytes - n.FrozenBytes, m.CacheBytes - n.CacheBytes}
}

// Memory returns what the store holds, about. Shared.
func (s *Store) Memory() Memory {
	return Memory{DirtyBytes: s.dirtyBytes, FrozenBytes: s.frozenBytes, CacheBytes: s.cache.youngBytes + s.cache.oldBytes}
}

// ShrinkCache forgets the older part of what is cached, or all of it if there are no parts. Exclusive.
func (s *Store) ShrinkCache() { s.cache.shrink() }

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
		DirtyKeys:           s.active.count + s.frozen.count + s.Pending(),
		DirtyBytes:          s.dirtyBytes,
		CacheEntries:        s.cache.len(),
		IndexBuckets:        s.base.count,
		PhysicallyCompacted: s.progress.done,
	}
}
