package gather

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// over is a store with what the states have. If they are ordered, they are those of the span that is asked for.
func over(states []State, ordered bool, at kv.Revision) *store {
	return &store{func(kv.Span) []State { return states }, ordered, at, 0}
}

// together is a store with what the states of all shards have.
func together(table *partition.Table, states []State, ordered bool, at kv.Revision) *store {
	all := table.Descriptors()
	return &store{func(span kv.Span) []State {
		overlapping := table.Overlapping(span)
		if len(overlapping) == 0 {
			return nil
		}
		first := slices.IndexFunc(all, func(d partition.Descriptor) bool { return d.Shard == overlapping[0].Shard })
		return states[first : first+len(overlapping)]
	}, ordered, at, 0}
}

var everything = kv.Everything()

// part is a store with what one shard has.
type part struct {
	*mvcc.Store
	engine *storage.Memory
}

func openPart(t testing.TB, engine *storage.Memory, id kv.ShardID, o mvcc.Options) *part {
	o.Rows = keys.RowsOf(id)
	s, err := mvcc.Open(engine, o)
	if err != nil {
		t.Fatal(err)
	}
	return &part{s, engine}
}

func (p *part) commit(fill func(storage.Batch) error) error {
	b := p.engine.NewBatch()
	defer b.Close()
	if err := fill(b); err != nil {
		return err
	}
	return p.engine.Apply(b)
}

func (p *part) apply(effects []mvcc.Effect, at kv.Revision) error {
	return p.commit(func(b storage.Batch) error { p.Apply(b, effects, at); return nil })
}

func (p *part) compact(at kv.Revision) error {
	return p.commit(func(b storage.Batch) error {
		p.Advance(at)
		p.SetCompacted(b, at)
		return nil
	})
}

// tidy writes rows by key, or deletes some that are obsolete.
func (p *part) tidy(rows int) error {
	if p.Freeze() {
		for done := false; !done; {
			if err := p.commit(func(b storage.Batch) (err error) { done, err = p.FlushChunk(b, rows); return err }); err != nil {
				return err
			}
		}
		p.FlushDone()
	}
	return p.commit(func(b storage.Batch) error { _, err := p.CompactStep(b, rows); return err })
}

// world has the same history in a model, in one store, and in a store for each shard.
type world struct {
	t         testing.TB
	random    *rand.Rand
	model     *model.Store
	past      []*model.Store // the model at some earlier moments
	generator model.Generator
	scheme    partition.Scheme
	table     *partition.Table
	newest    map[string]mvcc.Effect
	one       *part
	many      []*part // in the order of the shards
}

func newWorld(t testing.TB, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 0))
	w := &world{t: t, random: random, model: model.New(), newest: map[string]mvcc.Effect{}}
	w.model.AnyLease = true
	w.generator = model.Generator{Rand: random, Keys: 3 + random.IntN(40), Leases: 3}
	w.scheme = partition.Scheme{Kind: partition.Hash, Shards: 2 + random.IntN(5), HashPrefix: 2 * random.IntN(2)}
	if random.IntN(2) == 0 {
		w.scheme = partition.Scheme{Kind: partition.Range, Shards: 1}
		for range 1 + random.IntN(5) {
			w.scheme.SplitKeys = append(w.scheme.SplitKeys, fmt.Appendf(nil, "k%02d", random.IntN(w.generator.Keys)))
		}
		slices.SortFunc(w.scheme.SplitKeys, bytes.Compare)
		w.scheme.SplitKeys = slices.CompactFunc(w.scheme.SplitKeys, bytes.Equal)
		w.scheme.Shards += len(w.scheme.SplitKeys)
	}
	var err error
	w.table, err = partition.New(w.scheme)
	w.must(err)
	options := func() mvcc.Options {
		return mvcc.Options{ByKeyBytes: random.IntN(5) - 1, MaxDirtyKeys: 4, CacheBytes: 1 << 10, BucketRows: 1 + random.IntN(4), ChunkKeys: 1 + random.IntN(9), ChunkBytes: 300}
	}
	w.one = openPart(t, storage.NewMemory(storage.MemoryOptions{}), kv.SystemShard, options())
	engine := storage.NewMemory(storage.MemoryOptions{})
	for _, id := range w.scheme.ShardIDs() {
		w.many = append(w.many, openPart(t, engine, id, options()))
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v: %v", w.scheme, err)
	}
}

// request returns a random one, valid or not, for keys in directories if their names decide where keys are.
func (w *world) request() *kv.Request {
	w.generator.Revision = w.model.Revision()
	r := w.generator.Request()
	if w.scheme.HashPrefix > 0 {
		inDirectories(r)
	}
	return r
}

func inDirectories(r *kv.Request) {
	switch r.Kind {
	case kv.KindRange:
		moveSpan(&r.Range.Span)
	case kv.KindPut:
		r.Put.Key = inDirectory(r.Put.Key)
	case kv.KindDeleteRange:
		moveSpan(&r.DeleteRange.Span)
	case kv.KindTxn:
		moveTxn(r.Txn)
	}
}

func inDirectory(key []byte) []byte {
	if len(key) < 3 {
		return key
	}
	return fmt.Appendf(nil, "/%c/%s", "abcd"[key[1]&3], key)
}

func moveSpan(s *kv.Span) { s.Start, s.End = inDirectory(s.Start), inDirectory(s.End) }

func moveTxn(t *kv.TxnRequest) {
	for i := range t.Compare {
		moveSpan(&t.Compare[i].Span)
	}
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for _, o := range ops {
			switch {
			case o.Range != nil:
				moveSpan(&o.Range.Span)
			case o.Put != nil:
				o.Put.Key = inDirectory(o.Put.Key)
			case o.DeleteRange != nil:
				moveSpan(&o.DeleteRange.Span)
			case o.Txn != nil:
				moveTxn(o.Txn)
			}
		}
	}
}

// write lets a request take effect everywhere.
func (w *world) write(r *kv.Request) {
	before := len(w.model.History())
	if _, err := w.model.Apply(r); err != nil {
		return
	}
	if r.Kind == kv.KindCompact {
		w.compact(w.model.Compacted())
		return
	}
	var effects []mvcc.Effect
	for _, v := range w.model.History()[before:] {
		old := w.newest[string(v.Key)]
		e := mvcc.Effect{ // each as if it was of an operation of its own in a transaction over several shards
			Key: v.Key, Value: v.Value, At: mvcc.Locator{Rev: v.Rev, Sub: uint32(v.Sub) << mvcc.PlaceBits}, Create: v.Create, Version: v.Number, Lease: v.Lease,
			Prev: old.At, PrevLive: old.Version > 0, PrevLease: old.Lease,
		}
		w.newest[string(v.Key)] = e
		effects = append(effects, e)
	}
	if len(effects) == 0 {
		return
	}
	w.must(w.one.apply(effects, w.model.Revision()))
	for i, p := range w.many {
		own := slices.DeleteFunc(slices.Clone(effects), func(e mvcc.Effect) bool { return w.shardOf(e.Key) != i })
		if len(own) > 0 {
			w.must(p.apply(own, w.model.Revision()))
		}
	}
}

func (w *world) shardOf(key []byte) int {
	return int(w.table.Overlapping(kv.Span{Start: key})[0].Shard - kv.SystemShard)
}

// compact has shards compact one after the other: in between, hashes are as if all had, and what they have kept of it makes the hash from before.
func (w *world) compact(at kv.Revision) {
	view := w.one.View()
	from := view.Compacted()
	want, wantErr := view.Hash(at)
	w.must(view.Close())
	w.must(w.one.compact(at))
	kept := make([]KeptHash, len(w.many))
	for n, i := range w.random.Perm(len(w.many)) {
		kept[i] = w.keep(w.many[i], from, at)
		w.must(w.many[i].compact(at))
		if n == 0 || w.random.IntN(4) == 0 {
			w.checkHash(at)
			if wantErr == nil {
				w.checkKept(kept, from, at, want)
			}
		}
	}
}

// keep takes the hash of a compaction that follows, if it can still be taken.
func (w *world) keep(p *part, from, at kv.Revision) KeptHash {
	view := p.View()
	sum, _, err := view.CompactionHash(from, at, mvcc.LiveHash{At: -1}, nil)
	w.must(view.Close())
	if !errors.Is(err, mvcc.ErrForgotten) {
		w.must(err)
	}
	return KeptHash{Sum: sum, From: from, Found: err == nil}
}

// freeze returns what the shards have, and a function for the states of those that may have keys of a span.
func (w *world) freeze() (all []State, of func(kv.Span) []State) {
	for _, p := range w.many {
		all = append(all, p.View())
	}
	return all, func(span kv.Span) (states []State) {
		for _, d := range w.table.Overlapping(span) {
			states = append(states, all[d.Shard-kv.SystemShard])
		}
		return states
	}
}

func closeAll(t testing.TB, all []State) {
	for _, s := range all {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (w *world) ordered() bool { return w.scheme.Kind == partition.Range }

// moment returns the model as it is or was.
func (w *world) moment() *model.Store {
	w.past = slices.DeleteFunc(w.past, func(m *model.Store) bool { return m.Revision() < w.model.Compacted() })
	if len(w.past) == 0 || w.random.IntN(2) == 0 {
		return w.model
	}
	m := w.past[w.random.IntN(len(w.past))]
	if w.model.Compacted() > m.Compacted() {
		_, err := m.Apply(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: w.model.Compacted()}})
		w.must(err)
	}
	return m
}

// room is a memory that refuses now and then.
type room struct {
	used, most int64
	refuse     int // the so manieth reservation, from 1; 0: none
}

func (r *room) Reserve(bytes int64) bool {
	if r.refuse--; r.refuse == 0 {
		return false
	}
	r.used += bytes
	r.most = max(r.most, r.used)
	return true
}

func (r *room) Release(bytes int64) { r.used -= bytes }

// tally is one that counts, or one in which everything fits.
func (w *world) tally() *kv.Tally {
	if w.random.IntN(2) == 0 {
		return nil
	}
	tally := kv.NewTally(&room{})
	return &tally
}

func describeKVs(kvs []kv.KeyValue) string {
	var b strings.Builder
	for _, e := range kvs {
		fmt.Fprintf(&b, " %q=%q created %d mod %d version %d lease %d\n", e.Key, e.Value, e.CreateRevision, e.ModRevision, e.Version, e.Lease)
	}
	return b.String()
}

func describe(r *kv.RangeResponse) string {
	if r == nil {
		return "none"
	}
	return fmt.Sprintf("%d keys, more %v\n%s", r.Count, r.More, describeKVs(r.KVs))
}

func describeTxn(r *kv.TxnResponse) string {
	if r == nil {
		return "none"
	}
	s := fmt.Sprint(r.Succeeded, "\n")
	for _, o := range r.Responses {
		s += fmt.Sprintf("at %d: ", o.Revision)
		if o.Txn != nil {
			s += "(" + describeTxn(o.Txn) + ")\n"
		} else {
			s += describe(o.Range)
		}
	}
	return s
}

func sameError(a, b error) bool {
	return (a == nil) == (b == nil) && (errors.Is(a, b) || errors.Is(b, a))
}
