package mvcc

import (
	"bytes"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Reader is everything that can be read of a store's state. Store embeds the current
// state (its methods need the shared lock), View a frozen one (no lock).
// No method changes anything.
type Reader struct {
	source              storage.Reader
	options             Options
	revision, compacted kv.Revision
	bound               kv.Revision // see SetClosed

	// cached has the newest metas of keys written lately; nil in a view, which is of a moment.
	cached *cache

	// The newest meta of a key is in the first of these that has the key:
	// active, frozen, latest row in the engine.
	active, frozen tree[dirtyMeta]

	// bulk has what covers all of these, if anything does.
	bulk bulk

	// base counts the latest rows in the engine: as of the last flush that ended, and up to flushedTo as of the one in progress.
	base      tree[bucket]
	flushing  bool
	flushedTo string // "" when no key was flushed yet; no key is empty
	// stale are the flushes before Open that did not end. Their latest rows count for what was there before.
	stale flushes

	// replaying: the engine may hold versions that are not applied yet, at whichever revision.
	replaying bool

	progress progress
}

// dirtyMeta is the newest version of a key whose latest row is not yet written; without a locator there is none, whatever the engine's row
// says. Its weight in the tree is by how much the key changes the number of live keys in what lies beneath.
type dirtyMeta struct {
	latest
	fresh bool   // the engine has no latest row of the key, and no value row
	byKey bool   // value is the version's, and nowhere else; larger ones are in their version's row
	value []byte // see Store.values
}

// Revision is the newest revision of the state.
func (r *Reader) Revision() kv.Revision { return r.revision }

// Closed is the revision up to which the state is complete: nothing will be applied at or below it any more. It is below Revision while a transaction that
// may get a revision in between is not resolved (Store.SetClosed).
func (r *Reader) Closed() kv.Revision { return min(r.revision, r.bound) }

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
	if e := r.bulk.pending(key); e != nil {
		return e.Meta(), true, nil
	}
	if r.cached != nil {
		if m, found = r.cached.get(key); found {
			return m, true, nil
		}
	}
	if e, ok := r.active.get(text(key)); ok {
		return e.value.Meta, e.value.At.Rev > 0, nil
	}
	if e, ok := r.frozen.get(text(key)); ok {
		return e.value.Meta, e.value.At.Rev > 0, nil
	}
	row, found, err := r.source.Get(keys.AppendRow(make([]byte, 0, 8+len(key)), r.options.Rows.Home, keys.Latest, key), nil)
	if err != nil || !found {
		return Meta{}, false, err
	}
	l, _, err := parseLatestRow(key, row)
	return l.Meta, err == nil, err
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
	return r.get(key, m, at)
}

func (r *Reader) get(key []byte, m Meta, at kv.Revision) (kv.KeyValue, bool, error) {
	if m.At.Rev <= at {
		if m.Deleted() {
			return kv.KeyValue{}, false, nil
		}
		found, err := r.Newest(key, m)
		return found, err == nil, err
	}
	v, found, err := r.resolve(m.At, at)
	if err != nil || !found || v.number == 0 {
		return kv.KeyValue{}, false, err
	}
	err = r.fill(&v)
	return v.keyValue(), err == nil, err
}

// Newest returns the live version that Meta or MetaAt returned for the key, with its value.
func (r *Reader) Newest(key []byte, m Meta) (kv.KeyValue, error) {
	found := kv.KeyValue{Key: bytes.Clone(key), CreateRevision: m.Create, ModRevision: m.At.Rev, Version: m.Version, Lease: m.Lease}
	if m.ValueLen == 0 {
		return found, nil
	}
	if int64(m.ValueLen) <= int64(r.options.ByKeyBytes) { // it was a larger limit that made it a value by key, perhaps
		value, ok, err := r.newestValue(key, m.At)
		if err != nil {
			return kv.KeyValue{}, err
		}
		if ok && len(value) == int(m.ValueLen) {
			found.Value = value
			return found, nil
		}
	}
	v, ok, err := r.version(m.At)
	if err == nil && !ok {
		err = missing(m.At, key)
	}
	if err == nil {
		err = r.fill(&v)
	}
	found.Value = v.value
	return found, err
}

// version reads one version into memory of its own, without the value if that is not with it.
func (r *Reader) version(at Locator) (version, bool, error) {
	if e := r.bulk.at(at); e != nil {
		return e.asVersion(), true, nil
	}
	return r.versionRow(at)
}

func (r *Reader) versionRow(at Locator) (version, bool, error) {
	row, found, err := r.source.Get(r.appendVersionKey(nil, at), nil)
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
			return v, true, nil // without its value
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
