package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// Reader is everything that can be read of a store's state. Store embeds the current
// state (its methods need the shared lock), View a frozen one (no lock).
// No method changes anything.
type Reader struct {
	source              storage.Reader
	options             Options
	revision, compacted kv.Revision

	// cached has the newest metas of keys written lately; nil in a view, which is of a moment.
	cached *cache

	// The newest meta of a key is in the first of these that has the key:
	// active, frozen, latest row in the engine.
	active, frozen tree[dirtyMeta]

	// base counts the latest rows in the engine, as of baseRevision.
	base tree[bucket]
	// flushed is the revision that the latest rows were complete at before the flush
	// in progress. During a flush, keys up to flushedTo have reached frozenAt already.
	flushed, frozenAt kv.Revision
	flushing          bool
	flushedTo         string // "" when no key was flushed yet; no key is empty

	progress progress
}

// dirtyMeta is the newest version of a key whose latest row is not yet written. Its
// weight in the tree is by how much the key changes the number of live keys in what lies beneath.
type dirtyMeta struct {
	latest
	fresh  bool   // the engine has no latest row of the key, as far as the effects tell
	copied bool   // value is the version's; large ones are left where they are
	value  []byte // see Store.values
}

// Revision is the newest revision of the state.
func (r *Reader) Revision() kv.Revision { return r.revision }

// Compacted is the compacted revision: reads below it fail. 0: never compacted.
func (r *Reader) Compacted() kv.Revision { return r.compacted }

// readRevision replaces "latest" and refuses revisions that cannot be read.
func (r *Reader) readRevision(at kv.Revision) (kv.Revision, error) {
	switch {
	case at <= 0:
		return r.revision, nil
	case at > r.revision:
		return 0, kv.ErrFutureRevision
	case at < r.compacted:
		return 0, kv.ErrCompacted
	}
	return at, nil
}

// Meta returns the newest version of the key, which may be a tombstone. found is false if there
// is none; a tombstone may also be missing, once it is compacted.
func (r *Reader) Meta(key []byte) (m Meta, found bool, err error) {
	if r.cached != nil {
		if m, found = r.cached.get(key); found {
			return m, true, nil
		}
	}
	if e, ok := r.active.get(text(key)); ok {
		return e.value.Meta, true, nil
	}
	if e, ok := r.frozen.get(text(key)); ok {
		return e.value.Meta, true, nil
	}
	row, found, err := r.source.Get(appendLatestKey(make([]byte, 0, 1+len(key)), key), nil)
	if err != nil || !found {
		return Meta{}, false, err
	}
	l, err := parseLatestRow(key, row)
	if err != nil || l.At.Rev <= r.revision {
		return l.Meta, err == nil, err
	}
	v, found, err := r.resolve(l.base, r.revision)
	return v.meta(), found, err
}

// Get returns the live version of the key at a revision; 0 means the newest.
func (r *Reader) Get(key []byte, at kv.Revision) (kv.KeyValue, bool, error) {
	at, err := r.readRevision(at)
	if err != nil {
		return kv.KeyValue{}, false, err
	}
	m, found, err := r.Meta(key)
	if err != nil || !found {
		return kv.KeyValue{}, false, err
	}
	return r.get(m, at)
}

func (r *Reader) get(m Meta, at kv.Revision) (kv.KeyValue, bool, error) {
	if m.At.Rev <= at && m.Deleted() {
		return kv.KeyValue{}, false, nil
	}
	v, found, err := r.resolve(m.At, at)
	if err != nil || !found || v.number == 0 {
		return kv.KeyValue{}, false, err
	}
	return v.keyValue(), true, nil
}

// Row returns one version and the locator of the one before. ok is false when there is
// no such row, most likely because it is compacted. It reads the engine only: on a
// Store it needs no lock.
//
// When a version that nobody may read any more really disappears differs between replicas. Who
// shows prev_kv to clients asks for it only if At.Rev-1 of the event is not below
// the compacted revision.
func (r *Reader) Row(at Locator) (row kv.KeyValue, prev Locator, ok bool, err error) {
	v, ok, err := r.version(at)
	return v.keyValue(), v.prev, ok, err
}

// version reads one version row into memory of its own.
func (r *Reader) version(at Locator) (version, bool, error) {
	row, found, err := r.source.Get(appendVersionKey(make([]byte, 0, versionKeySize), at), nil)
	if err != nil || !found {
		return version{}, false, err
	}
	v, err := parseVersionRow(at, row)
	return v, err == nil, err
}

// resolve follows the prev pointers from the version at `from` to the newest at or below `at`.
func (r *Reader) resolve(from Locator, at kv.Revision) (version, bool, error) {
	for from.Rev > 0 {
		v, ok, err := r.version(from)
		if err != nil {
			return version{}, false, err
		}
		if !ok {
			return version{}, false, r.dangling(from)
		}
		if from.Rev <= at {
			return v, true, nil
		}
		from = v.prev
	}
	return version{}, false, nil
}

// dangling judges a version that is not there: nil if compaction may have deleted it.
// At the compacted revision itself only a tombstone or a superseded version may be missing,
// and both mean that the key has no live version there.
func (r *Reader) dangling(at Locator) error {
	if at.Rev <= r.compacted {
		return nil
	}
	return fmt.Errorf("version %d.%d is missing although only revisions below %d are compacted: %w",
		at.Rev, at.Sub, r.compacted, storage.ErrCorrupt)
}

// baseRevision is the revision at which base counts the key.
func (r *Reader) baseRevision(key []byte) kv.Revision {
	if r.flushing && string(key) <= r.flushedTo {
		return r.frozenAt
	}
	return r.flushed
}
