package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/keys"
)

// bucket is an interval of the latest rows in the engine, from its key in the tree to the next
// bucket's. Its weight is the number of live keys in it, exactly; rows is about the
// number of its rows, tombstones included, which is what scanning it costs.
type bucket struct{ rows int64 }

// indexer is what the writer remembers to keep the buckets of about equal size.
type indexer struct {
	rows     int64    // of all buckets
	oversize []string // buckets that should be split
}

// countAt returns the number of live keys in the span at a revision; 0 means the newest.
func (r *Reader) countAt(span kv.Span, at kv.Revision, tally *kv.Tally) (int64, error) {
	at, err := r.readRevision(at)
	if err != nil || span.Empty() {
		return 0, err
	}
	if span.Single() {
		_, live, err := r.metaAt(span.Start, at)
		if !live {
			return 0, err
		}
		return 1, err
	}
	lower, upper := span.Bounds()
	return r.count(lower, upper, at, tally)
}

// MetaAt returns the live version of the key at a revision (0: the newest), for Newest to read its value.
func (r *Reader) MetaAt(key []byte, at kv.Revision) (m Meta, live bool, err error) {
	if at, err = r.readRevision(at); err != nil {
		return Meta{}, false, err
	}
	return r.metaAt(key, at)
}

// metaAt returns the live version of the key at a revision.
func (r *Reader) metaAt(key []byte, at kv.Revision) (Meta, bool, error) {
	m, found, err := r.Meta(key)
	if err != nil || !found {
		return Meta{}, false, err
	}
	if m.At.Rev > at {
		v, found, err := r.resolve(m.At, at)
		return v.meta(), found && v.number != 0, err
	}
	return m, !m.Deleted(), nil
}

// count counts now, and takes back what happened after the revision. If that takes
// longer than looking at every key, it does the latter; the tally counts what that reads ahead.
func (r *Reader) count(lower, upper []byte, at kv.Revision, tally *kv.Tally) (int64, error) {
	now, err := r.countNow(lower, upper, tally)
	if err != nil || at == r.revision {
		return now, err
	}
	budget := 2*now + 4096 // rows in sequence are cheaper than keys that need their previous version
	if int64(r.revision-at) <= budget && !r.replaying {
		net, complete, err := r.netCreations(lower, upper, at, budget, tally)
		if err != nil || complete {
			return now - net, err
		}
	}
	counted := int64(0)
	limits := scanLimits{keys: r.options.ChunkKeys, bytes: r.options.ChunkBytes, tally: tally}
	err = r.scan(lower, upper, at, limits, func(items []item, held int64) (bool, error) {
		counted += int64(len(items))
		tally.Forget(held)
		return true, nil
	})
	return counted, err
}

// netCreations is the number of keys that appeared in the interval after a revision, less those
// that disappeared. complete is false if it took more than budget rows.
func (r *Reader) netCreations(lower, upper []byte, after kv.Revision, budget int64, tally *kv.Tally) (net int64, complete bool, err error) {
	err = r.visitVersions(Locator{Rev: after + 1}, Locator{Rev: r.revision + 1}, false, func(v *version) (bool, error) {
		if string(v.key) >= string(lower) && (upper == nil || string(v.key) < string(upper)) {
			net += v.netCreation()
		}
		budget--
		return budget > 0, tally.Look(1)
	})
	return net, budget > 0, err
}

func (r *Reader) liveKeys() int64 {
	return r.base.sum + r.active.sum + r.bulk.keys.sum + r.frozen.sum - r.flushedWeight()
}

// flushedWeight is what of frozen's weight is in base already.
func (r *Reader) flushedWeight() int64 {
	if r.flushedTo == "" {
		return 0
	}
	return r.frozen.rank(r.flushedTo + "\x00")
}

// countNow adds the counts of the layers: engine, frozen, active, and what covers them.
func (r *Reader) countNow(lower, upper []byte, tally *kv.Tally) (int64, error) {
	count, err := r.countBase(lower, upper, tally)
	if err != nil {
		return 0, err
	}
	count += weightBetween(&r.active, text(lower), upper) + weightBetween(&r.bulk.keys, text(lower), upper)
	from := text(lower)
	if r.flushedTo != "" {
		from = max(from, r.flushedTo+"\x00")
	}
	if upper == nil || from < text(upper) {
		count += weightBetween(&r.frozen, from, upper)
	}
	return count, nil
}

func weightBetween[V any](t *tree[V], lower string, upper []byte) int64 {
	if t.root == nil {
		return 0
	}
	sum := t.sum
	if upper != nil {
		sum = t.rank(text(upper))
	}
	return sum - t.rank(lower)
}

// leastKey is the first of all keys there can be.
const leastKey = "\x00"

// countBase counts latest rows: whole buckets from the index, what sticks out by a scan.
func (r *Reader) countBase(lower, upper []byte, tally *kv.Tally) (int64, error) {
	first, ok := r.base.floor(text(lower))
	if !ok {
		return 0, nil
	}
	last := first
	if upper != nil {
		last, _ = r.base.floor(text(upper))
		if last.key == first.key {
			return r.scanBase(lower, upper, tally, nil)
		}
	}
	before := int64(0)
	if string(lower) > leastKey {
		var err error
		if before, err = r.scanBase([]byte(first.key), lower, tally, nil); err != nil {
			return 0, err
		}
	}
	if upper == nil {
		return r.base.sum - r.base.rank(first.key) - before, nil
	}
	sticksOut, err := r.scanBase([]byte(last.key), upper, tally, nil)
	return r.base.rank(last.key) - r.base.rank(first.key) - before + sticksOut, err
}

// scanBase counts the live keys among the latest rows of an interval, as of their base revision.
// fn, if any, is told each row.
func (r *Reader) scanBase(lower, upper []byte, tally *kv.Tally, fn func(key []byte, live bool)) (count int64, err error) {
	err = r.eachLatest(lower, upper, func(key []byte, m latest, flush uint64) error {
		if err := tally.Look(1); err != nil {
			return err
		}
		live := !m.Deleted()
		if r.stale.has(flush) {
			before, err := r.before(&m)
			if err != nil {
				return err
			}
			live = !before.Deleted()
		}
		if live {
			count++
		}
		if fn != nil {
			fn(key, live)
		}
		return nil
	})
	return count, err
}

// eachLatest gives the latest rows of an interval, as they are in the engine, and the flushes that wrote them to fn.
func (r *Reader) eachLatest(lower, upper []byte, fn func(key []byte, m latest, flush uint64) error) error {
	if upper != nil && string(lower) >= string(upper) {
		return nil
	}
	it := r.source.NewIterator(r.bounds(keys.Latest, lower, upper))
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		key := keys.UserKey(it.Key())
		m, flush, err := parseLatestRow(key, it.Value())
		if err != nil {
			return err
		}
		if err := fn(key, m, flush); err != nil {
			return err
		}
	}
	return it.Error()
}

// buildIndex counts the latest rows of the engine, and puts those right that an interrupted flush has left: what was the newest version before it goes into
// memory, and from there, with the next flush, into the row. So whoever reads need not know that such rows exist.
func (s *Store) buildIndex() error {
	s.base = tree[bucket]{}
	s.setBucket("", 0, 0)
	var f bucketFiller
	s.flush = s.options.Flush
	s.stale = flushes{after: s.options.Flush, upTo: 1<<64 - 1}
	err := s.eachLatest(nil, nil, func(key []byte, m latest, flush uint64) error {
		s.flush = max(s.flush, flush)
		newest := m.Meta
		if s.stale.has(flush) {
			before, err := s.before(&m)
			if err != nil {
				return err
			}
			newest = before
			s.active.set(key, 0, func(dirtyMeta, bool) dirtyMeta { return dirtyMeta{latest: latest{before, m.base}} })
		}
		f.add(s, key, !newest.Deleted())
		return nil
	})
	f.close(s)
	s.stale.upTo = s.flush
	return err
}

// flushes are those whose latest rows a crash left although they did not end.
type flushes struct{ after, upTo uint64 }

func (f flushes) has(flush uint64) bool { return flush > f.after && flush <= f.upTo }

func (f flushes) none() bool { return f.upTo <= f.after }

// before is the version that was the newest one before the flush that wrote the row; without a locator if there was none.
func (r *Reader) before(m *latest) (Meta, error) {
	if m.base.Rev == 0 {
		return Meta{}, nil
	}
	v, found, err := r.version(m.base)
	if err != nil {
		return Meta{}, err
	}
	if !found {
		return Meta{}, r.dangling(m.base)
	}
	return v.meta(), nil
}

// setBucket adds to the weight and the rows of the bucket at a key, which it creates if necessary.
func (s *Store) setBucket(key string, live, rows int64) (total int64) {
	s.base.set([]byte(key), live, func(old bucket, _ bool) bucket {
		total = max(old.rows+rows, 0)
		s.index.rows += total - old.rows
		return bucket{total}
	})
	return total
}

// bucketFiller fills buckets with rows that come in key order, BucketRows each.
type bucketFiller struct {
	key        string // of the bucket being filled
	live, rows int64
}

func (f *bucketFiller) add(s *Store, key []byte, live bool) {
	if f.rows >= int64(s.options.BucketRows) {
		f.close(s)
		*f = bucketFiller{key: string(key)}
	}
	f.rows++
	if live {
		f.live++
	}
}

func (f *bucketFiller) close(s *Store) { s.setBucket(f.key, f.live, f.rows) }

// bucketTally adds up changes of rows that come in key order, to touch each bucket once.
type bucketTally struct {
	store      *Store
	open       bool
	key        string
	upper      string // key of the next bucket; "" if there is none
	live, rows int64
}

func (t *bucketTally) add(key string, live int64, fresh bool) {
	if !t.open || t.upper != "" && key >= t.upper {
		t.close()
		b, _ := t.store.base.floor(key)
		t.open, t.key, t.upper = true, b.key, t.store.nextBucket(b.key)
	}
	t.live += live
	if fresh {
		t.rows++
	}
}

// drop notes that a row is deleted which was counted as that of a key that does not live.
func (t *bucketTally) drop(key string) {
	t.add(key, 0, false)
	t.rows--
}

func (t *bucketTally) close() {
	if t.open && (t.live != 0 || t.rows != 0) {
		if t.store.setBucket(t.key, t.live, t.rows) > 2*int64(t.store.options.BucketRows) {
			t.store.index.oversize = append(t.store.index.oversize, t.key)
		}
	}
	*t = bucketTally{store: t.store}
}

// nextBucket returns the key of the bucket after the given one; "" if it is the last.
func (s *Store) nextBucket(key string) string {
	if c := s.base.seek(key + "\x00"); c.valid() {
		return c.entry().key
	}
	return ""
}

// splitBuckets divides oversize buckets until it has read about maxRows rows. If a read
// fails the bucket stays oversize: counting is right nevertheless, and the next flush tries again.
func (s *Store) splitBuckets(maxRows int) {
	for len(s.index.oversize) > 0 && maxRows > 0 {
		key := s.index.oversize[0]
		b, _ := s.base.get(key)
		if b.value.rows > 2*int64(s.options.BucketRows) {
			if s.splitBucket(b) != nil {
				return
			}
			maxRows -= int(b.value.rows)
		}
		s.index.oversize = s.index.oversize[1:]
	}
}

func (s *Store) splitBucket(b entry[bucket]) error {
	parts, sizes := []bucketFiller{{key: b.key}}, int64(s.options.BucketRows)
	_, err := s.scanBase([]byte(b.key), upperBound(s.nextBucket(b.key)), nil, func(key []byte, live bool) {
		part := &parts[len(parts)-1]
		if part.rows >= sizes {
			parts = append(parts, bucketFiller{key: string(key)})
			part = &parts[len(parts)-1]
		}
		part.rows++
		if live {
			part.live++
		}
	})
	if err != nil {
		return err
	}
	s.setBucket(b.key, -b.weight, -b.value.rows)
	for i := range parts {
		parts[i].close(s)
	}
	return nil
}

func upperBound(key string) []byte {
	if key == "" {
		return nil
	}
	return []byte(key)
}

// dropRow notes that the latest row of a tombstone was deleted.
func (s *Store) dropRow(key string) {
	b, _ := s.base.floor(key)
	s.setBucket(b.key, 0, -1)
}

// mergeBuckets rebuilds the index when most buckets became small, so that its
// size follows the number of keys that exist and not of those that ever did.
func (s *Store) mergeBuckets() {
	size := int64(s.options.BucketRows)
	if int64(s.base.count) <= 64+4*(s.index.rows/size) {
		return
	}
	old := s.base
	s.base, s.index.rows = tree[bucket]{generation: old.generation}, 0
	var f bucketFiller
	for c := old.seek(""); c.valid(); c.next() {
		e := c.entry()
		if f.rows > 0 && f.rows+e.value.rows > size {
			f.close(s)
			f = bucketFiller{key: e.key}
		}
		f.live, f.rows = f.live+e.weight, f.rows+e.value.rows
	}
	f.close(s)
}

// Check verifies the store's invariants. It reads everything: for tests. Shared.
func (s *Store) Check() error {
	for c := s.base.seek(""); c.valid(); c.next() {
		e := c.entry()
		live, err := s.scanBase([]byte(e.key), upperBound(s.nextBucket(e.key)), nil, nil)
		if err != nil {
			return err
		}
		if live != e.weight {
			return fmt.Errorf("bucket at %q counts %d live keys, its rows are %d", e.key, e.weight, live)
		}
	}
	for name, t := range map[string]*tree[dirtyMeta]{"active": &s.active, "frozen": &s.frozen} {
		if t.root != nil && t.root.weigh() != t.sum {
			return fmt.Errorf("%s map: weight is %d, its nodes weigh %d", name, t.sum, t.root.weigh())
		}
	}
	return nil
}
