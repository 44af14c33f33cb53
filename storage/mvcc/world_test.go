package mvcc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// logEntry is what the world's log holds: effects, or a compaction.
type logEntry struct {
	effects []Effect
	rev     kv.Revision // after the entry
	compact kv.Revision // 0: none
	// stage are effects of a bulk, at the revision before it got its own; bulk: effects are what was staged, in force from here; unstage: nothing of it is.
	stage         []Effect
	bulk, unstage bool
}

// world drives a Store as a shard does: entries are applied in log order, flushes carry the applied index,
// a crash keeps a prefix of the batches and the log is replayed. What it does next is read
// from a string of bytes.
type world struct {
	t      testing.TB
	input  []byte
	engine worldEngine
	store  *Store
	opts   Options

	log []logEntry
	// replayTo is how long the log was when the store was opened.
	replayTo int
	applied  int // entries of the log in the store
	frozen   int // applied at the last Freeze
	model    model
	issued   kv.Revision  // revisions given out so far
	late     []*lateEntry // in the order of their revisions
	openBulk []Effect     // of the bulk that is staged and not in force, in the log
	views    []worldView
	backup   []string // exported files, if any
	counts   map[string]int
	live     LiveHash // of the last compaction
}

type worldView struct {
	*View
	moment
}

// worldEngine is an engine that can crash.
type worldEngine interface {
	storage.Engine
	crash(pick byte) worldEngine
	exportDir() string
}

type memoryEngine struct{ *storage.Memory }

func (m memoryEngine) crash(pick byte) worldEngine {
	return memoryEngine{m.Memory.Crash(rand.New(rand.NewPCG(uint64(pick), 1)))}
}

func (memoryEngine) exportDir() string { return "export" }

func newMemoryEngine() worldEngine {
	return memoryEngine{storage.NewMemory(storage.MemoryOptions{ManualFlush: true})}
}

var worldStateKey = keys.State(kv.SystemShard)

func newWorld(t testing.TB, engine worldEngine, input []byte) *world {
	w := &world{t: t, input: input, engine: engine, model: model{versions: map[string][]logged{}}, counts: map[string]int{}, issued: 1}
	w.opts = Options{
		BucketRows: 1 + int(w.byte()%6), ChunkKeys: 1 + int(w.byte()%9), ChunkBytes: 1 + int64(w.byte()),
		CacheBytes: int64(w.byte()) * 8, MaxDirtyKeys: 1 + int(w.byte()%8), ByKeyBytes: int(w.byte()%40) - 1,
	}
	if w.opts.CacheBytes == 0 {
		w.opts.CacheBytes = -1
	}
	w.open()
	return w
}

func (w *world) byte() byte {
	if len(w.input) == 0 {
		return 0
	}
	b := w.input[0]
	w.input = w.input[1:]
	return b
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// state is what a shard keeps beside the versions: written by the last chunk of each flush.
func (w *world) stateRow(applied int, flush uint64) []byte {
	m := w.momentAt(applied)
	row := binary.AppendUvarint(nil, uint64(applied))
	row = binary.AppendUvarint(row, uint64(m.revision))
	row = binary.AppendUvarint(row, uint64(m.compacted))
	return binary.AppendUvarint(row, flush)
}

func (w *world) open() {
	o := w.opts
	w.applied, w.replayTo = 0, len(w.log)
	row, found, err := w.engine.Get(worldStateKey, nil)
	w.must(err)
	if found {
		f := fields{rest: row}
		w.applied, o.Revision, o.Compacted, o.Flush = int(f.next()), kv.Revision(f.next()), kv.Revision(f.next()), f.next()
	}
	o.Replaying = w.applied < w.replayTo
	if w.store != nil && w.store.engine == storage.Engine(w.engine) {
		w.must(w.store.Reset(o))
		w.tellClosed()
		return
	}
	w.store, err = Open(w.engine, o)
	w.must(err)
	w.tellClosed()
}

// tellClosed does what a shard does after each entry.
func (w *world) tellClosed() { w.store.SetClosed(w.bound(w.applied)) }

// bound is up to where nothing is missing after so many entries: below all transactions that have a revision and come later.
func (w *world) bound(applied int) kv.Revision {
	bound := kv.Unnumbered
	for _, l := range w.late {
		if l.entry < 0 || l.entry >= applied {
			bound = min(bound, l.rev-1)
		}
	}
	return bound
}

func (w *world) momentAt(applied int) moment {
	m := moment{applied: applied, revision: 1}
	for _, e := range w.log[:applied] {
		m.revision = max(m.revision, e.rev)
		m.compacted = max(m.compacted, e.compact)
	}
	m.closed = min(m.revision, w.bound(applied))
	return m
}

func (w *world) now() moment {
	now := w.momentAt(w.applied)
	now.revision, now.compacted, now.closed = w.store.Revision(), w.store.Compacted(), w.store.Closed()
	return now
}

func (w *world) commit(fn func(b storage.Batch)) {
	b := w.engine.NewBatch()
	defer b.Close()
	fn(b)
	w.must(w.engine.Apply(b))
}

// run executes the input to its end.
func (w *world) run() {
	for len(w.input) > 0 {
		w.step()
	}
	for len(w.openLate()) > 0 {
		w.appendLate()
	}
	if w.openBulk != nil {
		w.appendBulk()
	}
	for w.applied < len(w.log) {
		w.applyNext()
	}
	w.checkAll()
	w.settle()
	w.checkAll()
	w.checkPhysical()
	w.closeViews()
}

func (w *world) closeViews() {
	for _, v := range w.views {
		w.checkView(v)
		w.must(v.Close())
	}
	w.views = nil
}

func (w *world) step() {
	op := w.byte() % 32
	name := ""
	switch {
	case op < 11:
		name = "write"
		if w.applied == len(w.log) {
			w.appendWrite()
		}
		w.applyNext()
	case op < 12:
		name = "compact"
		if w.applied == len(w.log) {
			w.appendCompaction()
		}
		w.applyNext()
	case op < 14:
		name = "freeze"
		if w.store.Freeze() {
			w.frozen = w.applied
		}
	case op < 18:
		name = "chunk"
		w.flushChunk()
	case op < 20:
		name = "compact step"
		w.compactStep()
	case op < 21:
		name = "engine flush"
		if m, ok := w.engine.(memoryEngine); ok {
			m.Flush(func(error) {})
			m.CompleteFlush()
		} else {
			done := make(chan error, 1)
			w.engine.Flush(func(err error) { done <- err })
			w.must(<-done)
		}
	case op < 22:
		name = "crash"
		w.closeViews()
		w.engine = w.engine.crash(w.byte())
		w.backup = nil
		w.open()
	case op < 23:
		name = "view"
		w.views = append(w.views, worldView{w.store.View(), w.now()})
		if len(w.views) > 3 {
			w.checkView(w.views[0])
			w.must(w.views[0].Close())
			w.views = w.views[1:]
		}
	case op < 24 && len(w.views) > 0:
		name = "read view"
		w.checkView(w.views[int(w.byte())%len(w.views)])
	case op < 25:
		name = "export or ingest"
		w.exportOrIngest()
	case op < 27:
		name = "apply of a bulk"
		if w.store.Pending() == 0 {
			name = "no bulk"
		}
		w.applyBulk(1 + int(w.byte()%4))
	default:
		name = "read"
		w.checkRange(&w.store.Reader, w.now())
		w.checkMeta()
	}
	w.counts[name]++
	w.must(w.store.Check())
}

// key is one of few, so that versions pile up.
func (w *world) key() []byte {
	b := w.byte()
	switch b % 8 {
	case 0:
		return []byte{b>>3&3 + 1}
	case 1:
		return []byte{0xff, b >> 3 & 3}
	default:
		return fmt.Appendf(nil, "k%02d", b%32)
	}
}

func (w *world) appendWrite() {
	if len(w.openLate()) > 0 && w.byte()%4 == 0 {
		w.appendLate()
		return
	}
	if w.byte()%5 == 0 {
		w.appendBulk()
		return
	}
	n := 1 + int(w.byte()%4)
	written := w.locked()
	for _, e := range w.openBulk {
		written[string(e.Key)] = true // latched
	}
	w.issued++
	rev := w.issued
	var effects []Effect
	for range n {
		key := w.key()
		if written[string(key)] {
			continue
		}
		written[string(key)] = true
		effects = append(effects, w.effect(key, Locator{rev, uint32(len(effects))}))
		if w.byte()%16 == 0 && effects[len(effects)-1].Version > 0 {
			// etcd lets a nested transaction delete what one before it put
			put := effects[len(effects)-1]
			effects = append(effects, Effect{Key: key, At: Locator{rev, uint32(len(effects))}, Prev: put.At, PrevLive: true, PrevLease: put.Lease})
		}
	}
	if effects = slices.DeleteFunc(effects, func(e Effect) bool { return e.At.Rev == 0 }); len(effects) == 0 {
		w.issued--
		return
	}
	if len(w.openLate()) < 3 && w.byte()%6 == 0 {
		w.late = append(w.late, &lateEntry{logEntry: logEntry{effects: effects, rev: rev}, entry: -1})
		w.tellClosed() // it was prepared, in the log
		w.counts["transaction"]++
		return
	}
	w.model.apply(effects, len(w.log))
	w.log = append(w.log, logEntry{effects: effects, rev: rev})
}

// appendBulk stages one, in parts, or ends the one that is staged.
func (w *world) appendBulk() {
	if w.openBulk != nil {
		if w.byte()%4 == 0 {
			w.log = append(w.log, logEntry{unstage: true})
			w.openBulk = nil
			return
		}
		w.issued++
		effects := slices.Clone(w.openBulk)
		for i := range effects {
			effects[i].move(effects[i].At.Rev, w.issued)
		}
		w.model.apply(effects, len(w.log))
		w.log = append(w.log, logEntry{bulk: true, effects: effects, rev: w.issued})
		w.openBulk = nil
		return
	}
	written := w.locked()
	var effects []Effect
	for range 3 + int(w.byte()%12) {
		key := w.key()
		if written[string(key)] {
			continue
		}
		written[string(key)] = true
		e := w.effect(key, Locator{w.issued + 1, uint32(len(effects))})
		effects = append(effects, e)
		if e.Version > 0 && w.byte()%4 == 0 {
			effects = append(effects, Effect{Key: key, At: Locator{e.At.Rev, uint32(len(effects))}, Prev: e.At, PrevLive: true, PrevLease: e.Lease})
		}
	}
	for rest := effects; len(rest) > 0; {
		n := min(len(rest), 1+int(w.byte()%5))
		w.log = append(w.log, logEntry{stage: rest[:n:n]})
		rest = rest[n:]
	}
	w.openBulk = effects
}

// applyBulk applies some of what is pending.
func (w *world) applyBulk(max int) {
	w.commit(func(b storage.Batch) { w.store.ApplyBulk(b, max, func(*Effect) {}) })
}

// applyToStore does what an entry says.
func (w *world) applyToStore(b storage.Batch, e *logEntry) {
	switch {
	case e.stage != nil:
		w.store.Stage(slices.Clone(e.stage))
	case e.unstage:
		w.store.Unstage()
	case e.bulk:
		w.store.ApplyBulk(b, 1<<30, func(*Effect) {})
		parts, _ := w.store.CommitBulk(e.rev)
		got := slices.Concat(parts...)
		for i := range e.effects {
			if len(got) != len(e.effects) || !sameEffect(got[i], e.effects[i]) {
				w.t.Fatalf("the bulk of revision %d came out as %+v, want %+v", e.rev, got, e.effects)
			}
		}
	default:
		for i := range e.effects {
			w.store.ApplyPending(b, e.effects[i].Key, func(*Effect) { w.counts["applied early"]++ })
		}
		w.store.Apply(b, e.effects, e.rev)
	}
}

// lateEntry is a transaction that got its revision before others, and comes into the log after them.
type lateEntry struct {
	logEntry
	entry int // in the log; -1: not yet
}

// openLate are those that are not in the log yet.
func (w *world) openLate() (open []*lateEntry) {
	for _, l := range w.late {
		if l.entry < 0 {
			open = append(open, l)
		}
	}
	return open
}

// locked are the keys that open transactions change.
func (w *world) locked() map[string]bool {
	keys := map[string]bool{}
	for _, l := range w.openLate() {
		for _, e := range l.effects {
			keys[string(e.Key)] = true
		}
	}
	return keys
}

// appendLate resolves one that is open, whichever.
func (w *world) appendLate() {
	open := w.openLate()
	l := open[int(w.byte())%len(open)]
	if l != open[0] {
		w.counts["resolved before an older one"]++
	}
	l.entry = len(w.log)
	w.model.apply(l.effects, l.entry)
	w.log = append(w.log, l.logEntry)
}

func (w *world) effect(key []byte, at Locator) Effect {
	before, exists := w.model.at(w.momentAt(len(w.log)), string(key), at.Rev)
	e := Effect{Key: key, At: at, Create: at.Rev, Version: 1}
	if exists {
		e.Prev, e.PrevLive, e.PrevLease = before.At, before.Version > 0, before.Lease
		if !e.PrevLive && before.At.Rev < w.now().compacted && w.byte()%2 == 0 {
			e.Prev = Locator{} // a leader that has forgotten the tombstone
		}
	}
	if e.PrevLive {
		e.Create, e.Version = before.Create, before.Version+1
		if w.byte()%3 == 0 {
			e.Create, e.Version = 0, 0
			return e
		}
	}
	e.Lease = kv.LeaseID(int8(w.byte()))
	e.Value = bytes.Repeat([]byte{w.byte()}, int(w.byte()%40))
	return e
}

func (w *world) appendCompaction() {
	m := w.momentAt(len(w.log))
	if m.compacted >= m.closed {
		return
	}
	w.log = append(w.log, logEntry{rev: m.revision, compact: m.compacted + 1 + kv.Revision(w.byte())%(m.closed-m.compacted)})
}

func (w *world) applyNext() {
	if w.applied == len(w.log) {
		return
	}
	e, before := w.log[w.applied], w.momentAt(w.applied)
	w.commit(func(b storage.Batch) {
		w.applyToStore(b, &e)
		if e.compact > 0 {
			w.store.SetCompacted(b, e.compact)
		}
	})
	if w.applied++; w.applied == w.replayTo {
		w.store.Replayed()
	}
	w.tellClosed()
	if e.compact > 0 {
		w.checkCompactionHash(before, e.compact)
	}
}

// checkCompactionHash: what a compaction takes as its hash is what HashKV told before it, whether the last one left something to begin with or not.
func (w *world) checkCompactionHash(before moment, to kv.Revision) {
	w.t.Helper()
	base := w.live
	if w.byte()%3 == 0 {
		base = LiveHash{At: -1}
	}
	hash, after, err := w.store.CompactionHash(before.compacted, to, base, func() error { return nil })
	if max(w.store.progress.done, w.store.progress.target) > before.compacted {
		// After a crash the row of a later compaction was found, and history cut off where the state ended.
		if !errors.Is(err, ErrForgotten) {
			w.t.Fatalf("hash of a compaction from %d with progress %+v: %v", before.compacted, w.store.progress, err)
		}
		return
	}
	w.must(err)
	if want := w.model.hash(before, to); hash.Fold() != want {
		w.t.Fatalf("hash of the compaction from %d to %d (%+v) is %x, want %x", before.compacted, to, w.store.progress, hash, want)
	}
	w.live = after
}

func (w *world) flushChunk() {
	if !w.store.flushing {
		return
	}
	done := false
	w.commit(func(b storage.Batch) {
		var err error
		done, err = w.store.FlushChunk(b, 1+int(w.byte()%5))
		w.must(err)
		if done {
			b.Set(worldStateKey, w.stateRow(w.frozen, w.store.FlushNumber()))
		}
	})
	if done {
		w.store.FlushDone()
	}
}

func (w *world) compactStep() {
	w.commit(func(b storage.Batch) {
		_, err := w.store.CompactStep(b, 1+int(w.byte()%8))
		w.must(err)
	})
	if w.store.CompactBegun() { // some rows are gone
		w.counts["copy in the middle of a compaction"]++
		w.checkVersions(&w.store.Reader, w.now())
	}
}

// exportOrIngest makes a snapshot, or throws the state away for one made earlier.
func (w *world) exportOrIngest() {
	spans := keys.Spans(kv.SystemShard)
	ctx := context.Background()
	if w.backup == nil {
		s := w.engine.NewSnapshot()
		defer s.Close()
		files, err := w.engine.Export(ctx, s, spans, w.engine.exportDir(), nil)
		w.must(err)
		w.backup = files
		return
	}
	w.closeViews()
	w.must(w.engine.Ingest(ctx, w.backup, spans))
	w.backup = nil
	w.open()
}

func (w *world) checkView(v worldView) {
	if v.Revision() != v.revision || v.Compacted() != v.compacted || v.Closed() != v.closed {
		w.t.Fatalf("view moved from %+v to %d, %d, %d", v.moment, v.Revision(), v.Compacted(), v.Closed())
	}
	for range 3 {
		w.checkRange(&v.Reader, v.moment)
	}
	w.checkDeep(&v.Reader, v.moment)
}

// settle flushes and compacts until nothing is left to do.
func (w *world) settle() {
	w.applyBulk(1 << 30)
	for range 2 { // a flush in progress may be older than the last compaction
		if w.store.Freeze() {
			w.frozen = w.applied
		}
		for w.store.flushing {
			w.flushChunk()
		}
	}
	for more := true; more; {
		w.commit(func(b storage.Batch) {
			var err error
			more, err = w.store.CompactStep(b, 3)
			w.must(err)
		})
	}
}

// checkPhysical looks for garbage: after all work is done the engine holds exactly what may still be read.
func (w *world) checkPhysical() {
	now := w.now()
	var want, wantKeys, got, gotKeys, values []string
	for key, versions := range w.model.versions {
		current, _ := w.model.at(now, key, now.compacted)
		for _, e := range versions {
			if e.At.Rev >= now.compacted || e.At == current.At && e.Version > 0 {
				want = append(want, fmt.Sprint(e.At))
			}
		}
		if last := versions[len(versions)-1]; last.Version > 0 || last.At.Rev >= now.compacted {
			wantKeys = append(wantKeys, key)
		}
	}
	it := w.engine.NewIterator(nil, nil)
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		switch keys.Kind(it.Key()[4]) {
		case keys.Version:
			at, value, err := parseVersionKey(it.Key())
			w.must(err)
			if value {
				values = append(values, fmt.Sprint(at))
			} else {
				got = append(got, fmt.Sprint(at))
			}
		case keys.Latest:
			gotKeys = append(gotKeys, string(keys.UserKey(it.Key())))
		case keys.Value:
			key := keys.UserKey(it.Key())
			of, _, err := parseValueRow(key, it.Value())
			w.must(err)
			if m, found, err := w.store.Reader.Meta(key); err != nil || !found || m.At != of || m.Deleted() {
				w.t.Fatalf("at %+v the engine holds a value of key %q by key, of version %v; the newest is %+v, %v, %v", now, key, of, m, found, err)
			}
		}
	}
	for _, list := range [][]string{want, wantKeys, got, gotKeys} {
		slices.Sort(list)
	}
	for _, at := range values {
		if !slices.Contains(want, at) {
			w.t.Fatalf("at %+v (%+v) the engine holds a value behind version %s, which is gone", now, w.store.progress, at)
		}
	}
	if !slices.Equal(want, got) || !slices.Equal(wantKeys, gotKeys) {
		w.t.Fatalf("at %+v (%+v) the engine holds versions\n%v\nwant\n%v\nkeys\n%q\nwant\n%q", now, w.store.progress, got, want, gotKeys, wantKeys)
	}
}

// checkAll compares everything that can be asked.
func (w *world) checkAll() {
	w.t.Helper()
	now := w.now()
	if now != w.momentAt(w.applied) {
		w.t.Fatalf("store is at %+v, log at %+v", now, w.momentAt(w.applied))
	}
	w.checkDeep(&w.store.Reader, now)
	w.checkMeta()
}

func (w *world) checkDeep(r *Reader, now moment) {
	w.t.Helper()
	everything := kv.Everything()
	for at := max(now.compacted, 1); at <= now.revision; at++ {
		want := w.model.live(now, everything, at)
		got, err := r.Range(&kv.RangeRequest{Span: everything, Revision: at}, nil)
		w.must(err)
		w.sameKVs(fmt.Sprintf("all keys at %d of %+v", at, now), got.KVs, want)
		if got.Count != int64(len(want)) {
			w.t.Fatalf("count at %d is %d, want %d", at, got.Count, len(want))
		}
		if at > now.closed {
			w.counts["count above what is closed"]++
			continue
		}
		if at == now.closed {
			newest, err := r.Hash(0)
			w.must(err)
			if want := w.model.hash(now, at); newest != want {
				w.t.Fatalf("newest hash of %+v is %x, want %x", now, newest, want)
			}
		}
		hash, err := r.Hash(at)
		w.must(err)
		if want := w.model.hash(now, at); hash != want {
			w.t.Fatalf("hash at %d of %+v (%+v) is %x, want %x", at, now, r.progress, hash, want)
		}
	}
	w.checkHistory(r, now)
	for _, versions := range w.model.versions {
		for _, e := range versions {
			if e.At.Rev < max(now.compacted, 1) || e.At.Rev > now.closed {
				continue
			}
			v, ok, err := r.version(e.At)
			w.must(err)
			if ok {
				w.must(r.fill(&v))
			}
			if !ok || v.prev != e.Prev {
				w.t.Fatalf("version %v: found %v, prev %v, want %v", e.At, ok, v.prev, e.Prev)
			}
			w.sameKVs("version", []kv.KeyValue{v.keyValue()}, []kv.KeyValue{keyValueOf(e.Effect)})
		}
	}
	if r == &w.store.Reader {
		if keys, want := w.store.Metrics().Keys, len(w.model.live(now, everything, now.revision)); keys != int64(want) {
			w.t.Fatalf("%d keys, want %d", keys, want)
		}
		w.checkReplaced(now)
	}
}

// checkReplaced: whatever is not the newest version of its key is found without looking at what is in memory.
func (w *world) checkReplaced(now moment) {
	w.t.Helper()
	for _, versions := range w.model.versions {
		for i, e := range versions {
			if i+1 == len(versions) || versions[i+1].At.Rev > now.closed || e.At.Rev < max(now.compacted, 1) {
				continue
			}
			row, prev, ok, err := w.store.Replaced(e.At, w.store.UnderBulk())
			w.must(err)
			if !ok || prev != e.Prev {
				w.t.Fatalf("replaced version %v: found %v, prev %v, want %v", e.At, ok, prev, e.Prev)
			}
			w.sameKVs("replaced version", []kv.KeyValue{row}, []kv.KeyValue{keyValueOf(e.Effect)})
		}
	}
}

func (w *world) checkHistory(r *Reader, now moment) {
	w.t.Helper()
	from := max(now.compacted, 1)
	if now.compacted > 0 {
		if _, err := r.History(now.compacted-1, 0, 0, nil); !errors.Is(err, kv.ErrCompacted) {
			w.t.Fatalf("history from %d: %v", now.compacted-1, err)
		}
	}
	var got []Effect
	limit := int64(w.byte())
	for next := from; next <= now.closed; {
		chunk := 0
		var err error
		before := next
		to := now.closed
		switch limit % 3 {
		case 0:
			to = 0
		case 1:
			to = now.revision
		}
		next, err = r.History(next, to, limit, func(e *Effect) error {
			got = append(got, *e)
			chunk++
			return nil
		})
		w.must(err)
		if next <= before {
			w.t.Fatalf("history from %d went on at %d", before, next)
		}
		if chunk > 0 && next <= now.closed && got[len(got)-1].At.Rev >= next {
			w.t.Fatalf("history split revision %d", next)
		}
	}
	want := w.model.history(from, now.closed)
	if len(got) != len(want) {
		w.t.Fatalf("history has %d changes, want %d", len(got), len(want))
	}
	for i := range want {
		want[i].PrevLease = 0
		if !sameEffect(got[i], want[i]) {
			w.t.Fatalf("history: change %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	w.checkChanges(r, now, want)
	w.checkVersions(r, now)
}

// checkVersions reads what a copy of the store has, some at a time, with a history that begins where it is compacted, or later, or where rows were deleted last.
func (w *world) checkVersions(r *Reader, now moment) {
	w.t.Helper()
	if now.closed < now.compacted {
		return
	}
	compacted := now.compacted + kv.Revision(w.byte())%(now.closed-now.compacted+1)
	if from := r.HistoryFrom(); from < now.compacted && w.byte()%2 == 0 { // what backups read
		w.counts["copy from before the compaction"]++
		compacted, now.compacted = from, from
	}
	var want []Effect
	for _, e := range w.model.history(1, now.closed) {
		current, ok := w.model.at(now, string(e.Key), compacted)
		if e.At.Rev >= compacted || ok && e.At == current.At && e.Version > 0 {
			want = append(want, e)
		}
	}
	var got []Effect
	limit := int64(w.byte()) + 1
	for next, done := (Locator{}), false; !done; {
		var err error
		next, done, err = r.Versions(next, compacted, now.closed, limit, func(e *Effect) error {
			got = append(got, *e)
			return nil
		})
		w.must(err)
	}
	if len(got) != len(want) {
		w.t.Fatalf("a copy compacted at %d has %d versions, want %d", compacted, len(got), len(want))
	}
	for i := range want {
		want[i].PrevLease = 0
		if !sameEffect(got[i], want[i]) {
			w.t.Fatalf("a copy: version %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// checkChanges reads the changes of the history one after the other, from a place on and some at a time.
func (w *world) checkChanges(r *Reader, now moment, want []Effect) {
	w.t.Helper()
	if now.compacted > 0 {
		if err := r.Changes(Locator{Rev: now.compacted - 1}, now.revision, nil, nil); !errors.Is(err, kv.ErrCompacted) {
			w.t.Fatalf("changes from %d: %v", now.compacted-1, err)
		}
	}
	from, more := Locator{Rev: max(now.compacted, 1)}, true
	for more {
		room, first := int64(w.byte()), true
		passed, taken := 0, 0
		more = false
		w.must(r.Changes(from, now.revision, func(at Locator, key []byte, bytes int64) bool {
			if taken < len(want) && (at != want[taken].At || string(key) != string(want[taken].Key) || bytes != int64(len(want[taken].Key)+len(want[taken].Value))) {
				w.t.Fatalf("a change of %d bytes at %v is offered, want %+v", bytes, at, want[taken])
			}
			if room -= bytes; room < 0 && !first {
				from, more = at, true
				return false
			}
			first = false
			taken++
			return true
		}, func(e *Effect) error {
			if passed == taken || taken > len(want) || !sameEffect(*e, want[passed]) {
				w.t.Fatalf("change %d of %d is %+v, of %d in all", passed, taken, *e, len(want))
			}
			passed++
			return nil
		}))
		if passed != taken {
			w.t.Fatalf("%d of %d changes that were wanted came", passed, taken)
		}
		want = want[taken:]
	}
	if len(want) > 0 {
		w.t.Fatalf("%d changes are missing, from %v on", len(want), want[0].At)
	}
}

func sameEffect(a, b Effect) bool {
	same := bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
	a.Key, a.Value, b.Key, b.Value = nil, nil, nil, nil
	return same && fmt.Sprint(a) == fmt.Sprint(b)
}

func (w *world) checkMeta() {
	w.t.Helper()
	now := w.now()
	key := w.key()
	want, exists := w.model.at(now, string(key), now.revision)
	m, found, err := w.store.Meta(key)
	w.must(err)
	forgotten := !found && want.Version == 0 && want.At.Rev <= now.compacted
	if found && (!exists || m != want.Meta()) || !found && exists && !forgotten {
		w.t.Fatalf("meta of %q is %+v %v, want %+v %v", key, m, found, want.Meta(), exists)
	}
	at := kv.Revision(w.byte()) % (now.revision + 2)
	got, live, err := w.store.Get(key, at)
	resolved, wantErr := w.model.check(now, at)
	if !errors.Is(err, wantErr) {
		w.t.Fatalf("get at %d: %v, want %v", at, err, wantErr)
	}
	if err != nil {
		return
	}
	want, exists = w.model.at(now, string(key), resolved)
	if live != (exists && want.Version > 0) {
		w.t.Fatalf("get %q at %d of %+v: live %v, want %+v", key, at, now, live, want)
	}
	if live {
		w.sameKVs("get", []kv.KeyValue{got}, []kv.KeyValue{keyValueOf(want)})
	}
}

// checkRange asks for a range drawn from the input, as one answer and as a stream.
func (w *world) checkRange(r *Reader, now moment) {
	w.t.Helper()
	q := w.rangeRequest(now)
	want, wantErr := w.model.rangeOf(now, q)
	tally := w.tally()
	got, err := r.Range(q, tally)
	if !errors.Is(err, wantErr) {
		w.t.Fatalf("range %+v of %+v: %v, want %v", q, now, err, wantErr)
	}
	if err != nil {
		return
	}
	what := fmt.Sprintf("range %+v of %+v", q, now)
	if held := tally.HeldBytes(); tally.Counts() && held != kv.MemoryBytes(got.KVs) {
		w.t.Fatalf("%s: %d bytes count for an answer of %d", what, held, kv.MemoryBytes(got.KVs))
	}
	w.sameKVs(what, got.KVs, want.KVs)
	if got.Count != want.Count || got.More != want.More {
		w.t.Fatalf("%s: count %d more %v, want %d %v", what, got.Count, got.More, want.Count, want.More)
	}
	q.MinMod, q.MaxMod, q.MinCreate, q.MaxCreate = 0, 0, 0, 0
	if q.SortOrder = kv.SortNone; w.byte()%2 == 0 {
		q.SortTarget = kv.SortByKey
	}
	want, _ = w.model.rangeOf(now, q)
	w.checkStream(r, q, want)
	q.SortTarget = kv.SortByKey
	w.checkList(r, q, now)
	var scanned []kv.KeyValue
	w.must(r.Scan(q.Span, q.Revision, w.tally(), func(key []byte, m Meta) bool {
		scanned = append(scanned, kv.KeyValue{Key: bytes.Clone(key), CreateRevision: m.Create, ModRevision: m.At.Rev, Version: m.Version, Lease: m.Lease})
		return true
	}))
	q.Limit, q.KeysOnly, q.CountOnly = 0, true, false
	want, _ = w.model.rangeOf(now, q)
	w.sameKVs("scanned "+what, scanned, want.KVs)
}

// tally is one that counts, or one in which everything fits.
func (w *world) tally() *kv.Tally {
	if w.byte()%2 == 0 {
		return nil
	}
	tally := kv.NewTally(&room{limit: 1 << 30})
	return &tally
}

// checkStream: the chunks make the answer, none is empty unless all is, and what ends the stream comes with its last keys.
func (w *world) checkStream(r *Reader, q *kv.RangeRequest, want *kv.RangeResponse) {
	w.t.Helper()
	what := fmt.Sprintf("streamed range %+v", q)
	var streamed []kv.KeyValue
	end, err := r.RangeStream(q, int64(w.byte()), w.tally(), func(kvs []kv.KeyValue) error {
		if len(kvs) == 0 {
			w.t.Fatalf("%s: empty chunk", what)
		}
		streamed = append(streamed, kvs...)
		return nil
	})
	w.must(err)
	if len(end.KVs) == 0 && len(want.KVs) > 0 {
		w.t.Fatalf("%s: the last chunk has no keys", what)
	}
	w.sameKVs(what, append(streamed, end.KVs...), want.KVs)
	if end.Count != want.Count || end.More != want.More {
		w.t.Fatalf("%s: count %d more %v, want %d %v", what, end.Count, end.More, want.Count, want.More)
	}
}

func (w *world) rangeRequest(now moment) *kv.RangeRequest {
	options := w.byte()
	q := &kv.RangeRequest{
		Span:      kv.Span{Start: w.key()},
		SortOrder: kv.SortOrder(w.byte() % 3), SortTarget: kv.SortTarget(w.byte() % 5),
		KeysOnly: options&1 != 0, CountOnly: options&30 == 2, Limit: int64(options >> 5),
	}
	switch w.byte() % 4 {
	case 0:
		q.Span.End = []byte{0}
	case 1, 2:
		q.Span.End = w.key()
	}
	switch b := w.byte(); {
	case b < 128:
	case b < 140:
		q.Revision = kv.Revision(b) % (now.revision + 3)
	default:
		q.Revision = max(now.compacted, 1) + kv.Revision(b)%(now.revision-max(now.compacted, 1)+1)
	}
	for i, bound := range []*kv.Revision{&q.MinMod, &q.MaxMod, &q.MinCreate, &q.MaxCreate} {
		if w.byte()%8 == 0 {
			*bound = kv.Revision(w.byte()+byte(i)) % (now.revision + 1)
		}
	}
	return q
}

func (w *world) sameKVs(what string, got, want []kv.KeyValue) {
	w.t.Helper()
	if len(got) != len(want) {
		w.t.Fatalf("%s: %d keys, want %d\ngot  %v\nwant %v", what, len(got), len(want), got, want)
	}
	for i := range want {
		g, x := got[i], want[i]
		same := bytes.Equal(g.Key, x.Key) && bytes.Equal(g.Value, x.Value)
		g.Key, g.Value, x.Key, x.Value = nil, nil, nil, nil
		if !same || fmt.Sprint(g) != fmt.Sprint(x) {
			w.t.Fatalf("%s: key %d is %+v, want %+v", what, i, got[i], want[i])
		}
	}
}
