package mvcc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// family are stores that came from one by splits: they share an engine, revisions, and the rows of before.
type family struct {
	t        *testing.T
	random   *rand.Rand
	engine   *storage.Memory
	stores   []*Store
	versions map[string][]Effect // of all, in order
	log      []Effect
	compact  []kv.Revision // of each
	revision kv.Revision
}

func (f *family) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *family) commit(fn func(storage.Batch) error) {
	f.t.Helper()
	b := f.engine.NewBatch()
	defer b.Close()
	f.must(fn(b))
	f.must(f.engine.Apply(b))
}

func (f *family) options(rows keys.Rows) Options {
	return Options{Rows: rows, BucketRows: 3, ChunkKeys: 2, MaxDirtyKeys: 4, CacheBytes: -1, ByKeyBytes: 4}
}

// write changes keys of one store at the next revision.
func (f *family) write(i int) {
	s, rev := f.stores[i], f.revision+1
	var effects []Effect
	for n := range 30 {
		key := fmt.Sprintf("k%02d", n)
		if !s.options.Rows.Has([]byte(key)) || f.random.IntN(6) > 0 {
			continue
		}
		versions := f.versions[key]
		e := Effect{Key: []byte(key), At: Locator{Rev: rev, Sub: uint32(len(effects))}}
		if len(versions) > 0 {
			e.Prev, e.PrevLive, e.Version, e.Create = versions[len(versions)-1].At, versions[len(versions)-1].Version > 0, versions[len(versions)-1].Version, versions[len(versions)-1].Create
		}
		if e.Version++; e.Version == 1 {
			e.Create = rev
		}
		if e.Value = fmt.Appendf(nil, "%d%s", rev, strings.Repeat("x", f.random.IntN(4))); e.PrevLive && f.random.IntN(3) == 0 {
			e.Version, e.Create, e.Value = 0, 0, nil
		}
		f.versions[key] = append(versions, e)
		effects = append(effects, e)
	}
	if len(effects) == 0 {
		return
	}
	f.revision = rev
	f.log = append(f.log, effects...)
	f.commit(func(b storage.Batch) error { s.Apply(b, effects, rev); return nil })
}

func (f *family) flush(s *Store) {
	s.Freeze()
	for done := false; !done; {
		f.commit(func(b storage.Batch) (err error) { done, err = s.FlushChunk(b, 2); return err })
	}
	s.FlushDone()
}

// split gives some of the keys of a store to a new one. Nothing in the engine is touched.
func (f *family) split(i int) {
	s := f.stores[i]
	f.flush(s)
	key := fmt.Appendf(nil, "k%02d", f.random.IntN(30))
	rows := s.options.Rows
	if !rows.Has(key) {
		return
	}
	child := rows.Split(kv.ShardID(len(f.stores)+1), key, rows.Upper, f.revision)
	rows.Upper = key
	for _, r := range []keys.Rows{rows, child} {
		o := f.options(r)
		o.Revision, o.Compacted, o.Flush = f.revision, s.compacted, s.flush
		opened, err := Open(f.engine, o)
		f.must(err)
		if r.Shard == child.Shard {
			f.stores, f.compact = append(f.stores, opened), append(f.compact, f.compact[i])
		} else {
			f.stores[i] = opened
		}
	}
}

// check holds a store against the versions of its keys.
func (f *family) check(i int) {
	f.t.Helper()
	s := f.stores[i]
	f.must(s.Check())
	everything := kv.Everything()
	for at := max(1, f.compact[i]); at <= s.Revision(); at++ {
		var want []string
		for key, versions := range f.versions {
			newest := Effect{}
			for _, e := range versions {
				if e.At.Rev <= at {
					newest = e
				}
			}
			if newest.Version > 0 && s.options.Rows.Has([]byte(key)) {
				want = append(want, fmt.Sprintf("%s=%s@%d", key, newest.Value, newest.At.Rev))
			}
		}
		slices.Sort(want)
		found, err := s.Range(&kv.RangeRequest{Span: everything, Revision: at}, nil)
		f.must(err)
		var got []string
		for _, row := range found.KVs {
			got = append(got, fmt.Sprintf("%s=%s@%d", row.Key, row.Value, row.ModRevision))
		}
		if count, err := s.countAt(everything, at, nil); err != nil || !slices.Equal(got, want) || count != int64(len(want)) {
			f.t.Fatalf("shard %d at %d of %d:\n got %v, %d, %v\nwant %v", s.options.Rows.Shard, at, s.Revision(), got, count, err, want)
		}
	}
	var want, got []string
	for _, e := range f.log {
		if e.At.Rev >= max(1, f.compact[i]) && e.At.Rev <= s.Revision() && s.options.Rows.Has(e.Key) {
			want = append(want, fmt.Sprintf("%s=%s@%v", e.Key, e.Value, e.At))
		}
	}
	for next := max(1, f.compact[i]); next <= s.Revision(); {
		var err error
		next, err = s.History(next, s.Revision(), 1000, func(e *Effect) error {
			got = append(got, fmt.Sprintf("%s=%s@%v", e.Key, e.Value, e.At))
			return nil
		})
		f.must(err)
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("history of shard %d from %d to %d:\n got %v\nwant %v", s.options.Rows.Shard, f.compact[i], s.Revision(), got, want)
	}
}

// Shards are split, without a row that moves, and each goes on reading, flushing and compacting what is its own. Another restart changes nothing.
func TestSplit(t *testing.T) {
	for seed := range uint64(15) {
		f := &family{
			t: t, random: rand.New(rand.NewPCG(seed, 3)), engine: storage.NewMemory(storage.MemoryOptions{}),
			versions: map[string][]Effect{}, revision: 1, compact: []kv.Revision{0},
		}
		first, err := Open(f.engine, f.options(keys.RowsOf(1)))
		f.must(err)
		f.stores = []*Store{first}
		for range 150 {
			i := f.random.IntN(len(f.stores))
			s := f.stores[i]
			switch n := f.random.IntN(40); {
			case n == 0 && len(f.stores) < 6:
				f.split(i)
			case n == 1:
				if at := s.Compacted() + 1 + kv.Revision(f.random.IntN(8)); at <= s.Revision() {
					f.commit(func(b storage.Batch) error { s.SetCompacted(b, at); return nil })
					f.compact[i] = at
				}
			case n < 5:
				f.flush(s)
			case n < 10:
				f.commit(func(b storage.Batch) error { _, err := s.CompactStep(b, 5); return err })
			case n < 13:
				f.check(i)
			case n == 13:
				f.flush(s)
				o := f.options(s.options.Rows)
				o.Revision, o.Compacted, o.Flush = s.Revision(), s.compacted, s.flush
				f.must(s.Reset(o))
			default:
				f.write(i)
			}
		}
		for i := range f.stores {
			f.check(i)
		}
	}
}
