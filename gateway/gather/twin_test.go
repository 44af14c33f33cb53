package gather

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// TestTwin: whatever is asked, at whatever moment, several shards answer as one store does, and as the model.
func TestTwin(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		runTwin(t, seed)
	}
}

func FuzzTwin(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { runTwin(t, seed) })
}

func runTwin(t *testing.T, seed uint64) {
	t.Helper()
	w := newWorld(t, seed)
	defer func() {
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}()
	for range 150 {
		switch w.random.IntN(20) {
		case 0:
			w.must(w.one.tidy(1 + w.random.IntN(9)))
		case 1, 2:
			w.must(w.many[w.random.IntN(len(w.many))].tidy(1 + w.random.IntN(9)))
		case 3:
			w.past = append(w.past, w.model.Clone())
		case 5:
			w.checkHash(w.model.Revision())
		case 6:
			w.checkVersions()
		default:
			w.step()
		}
		if t.Failed() {
			return
		}
	}
}

// step writes, or reads.
func (w *world) step() {
	r := w.request()
	if shard.Validate(r, shard.Limits{}) != nil {
		return
	}
	if r.Kind == kv.KindTxn && w.random.IntN(2) == 0 {
		keepRanges(r.Txn)
	}
	switch {
	case r.Kind == kv.KindRange:
		w.checkRange(r)
	case r.Kind == kv.KindTxn && shard.IsReadOnly(r):
		w.checkTxn(r)
	case r.Kind == kv.KindPut || r.Kind == kv.KindDeleteRange || r.Kind == kv.KindTxn:
		w.write(r)
	case r.Kind == kv.KindCompact && w.random.IntN(3) == 0:
		w.write(r)
	}
}

// keepRanges makes a transaction read-only.
func keepRanges(t *kv.TxnRequest) {
	for _, ops := range [2]*[]kv.Op{&t.Success, &t.Failure} {
		*ops = slices.DeleteFunc(*ops, func(o kv.Op) bool { return o.Range == nil && o.Txn == nil })
		for _, o := range *ops {
			if o.Txn != nil {
				keepRanges(o.Txn)
			}
		}
	}
}

func (w *world) checkRange(r *kv.Request) {
	m, q := w.moment(), r.Range
	want, wantErr := m.Apply(r)
	all, of := w.freeze()
	defer closeAll(w.t, all)
	what := fmt.Sprintf("%v: range %+v at %d, compacted at %d", w.scheme, *q, m.Revision(), m.Compacted())
	tally := w.tally()
	states := of(q.Span)
	if len(states) == 0 {
		states = all[:1] // as requests about no key are routed
	}
	got, err := over(states, w.ordered(), m.Revision()).Range(q, tally)
	if !sameError(err, wantErr) {
		w.t.Errorf("%s: %v, want %v", what, err, wantErr)
		return
	}
	if err != nil {
		if tally.HeldBytes() != 0 {
			w.t.Errorf("%s: refused, and %d bytes are held", what, tally.HeldBytes())
		}
		return
	}
	if g, x := describe(got), describe(want.Range); g != x {
		w.t.Errorf("%s:\n%s\nwant\n%s", what, g, x)
	}
	if held := tally.HeldBytes(); tally.Counts() && held != kv.MemoryBytes(got.KVs) {
		w.t.Errorf("%s: %d bytes count for an answer of %d", what, held, kv.MemoryBytes(got.KVs))
	}
	w.checkGatherer(r, m, all, describe(want.Range))
	w.checkStream(states, m, q)
	w.checkList(states, m, q)
}

// checkStream: the chunks make the answer, none is empty unless all is, and the last has the end.
func (w *world) checkStream(states []State, m *model.Store, asked *kv.RangeRequest) {
	q := *asked
	q.MinMod, q.MaxMod, q.MinCreate, q.MaxCreate, q.SortOrder = 0, 0, 0, 0, kv.SortNone
	want, err := m.Apply(&kv.Request{Kind: kv.KindRange, Range: &q})
	w.must(err)
	what := fmt.Sprintf("%v: stream %+v at %d", w.scheme, q, m.Revision())
	tally := w.tally()
	var chunks []kv.KeyValue
	end, err := over(states, w.ordered(), m.Revision()).stream(&q, 1+w.random.Int64N(400), tally, func(kvs []kv.KeyValue) error {
		if len(kvs) == 0 {
			w.t.Errorf("%s: an empty chunk", what)
		}
		chunks = append(chunks, kvs...)
		return nil
	})
	w.must(err)
	if len(end.KVs) == 0 && len(want.Range.KVs) > 0 {
		w.t.Errorf("%s: no keys in the end", what)
	}
	end.KVs = append(chunks, end.KVs...)
	if g, x := describe(end), describe(want.Range); g != x {
		w.t.Errorf("%s:\n%s\nwant\n%s", what, g, x)
	}
	if q.SortOrder = kv.SortDescend; true {
		if _, err := over(states, w.ordered(), m.Revision()).stream(&q, 1, nil, nil); !errors.Is(err, kv.ErrInvalidRequest) {
			w.t.Errorf("%s: descending: %v", what, err)
		}
	}
}

// checkList: the portions make the answer, and what Measure sees is what comes then; a refusal changes nothing.
func (w *world) checkList(states []State, m *model.Store, asked *kv.RangeRequest) {
	q := kv.RangeRequest{Span: asked.Span, Limit: asked.Limit, Revision: asked.Revision, KeysOnly: asked.KeysOnly}
	want, err := m.Apply(&kv.Request{Kind: kv.KindRange, Range: &q})
	w.must(err)
	what := fmt.Sprintf("%v: list %+v at %d", w.scheme, q, m.Revision())
	l, err := over(states, w.ordered(), m.Revision()).list(&q)
	w.must(err)
	memory := &room{}
	tally := kv.NewTally(memory)
	got := &kv.RangeResponse{}
	for measured := false; ; {
		if ended, err := l.Ended(); w.random.IntN(3) == 0 && (err != nil || ended != (len(got.KVs) == len(want.Range.KVs))) {
			w.t.Errorf("%s: after %d keys: ended %v, %v", what, len(got.KVs), ended, err)
			return
		}
		if !measured && w.random.IntN(4) == 0 {
			measured = true
			w.checkMeasure(what, l, &tally, want.Range, len(got.KVs))
		}
		memory.refuse = w.random.IntN(3)
		held := tally.HeldBytes()
		kvs, err := l.Next(1+w.random.Int64N(500), &tally)
		memory.refuse = 0
		if errors.Is(err, kv.ErrTooManyRequests) {
			if tally.HeldBytes() != held {
				w.t.Errorf("%s: refused, and %d bytes more are held", what, tally.HeldBytes()-held)
			}
			continue
		}
		w.must(err)
		if kvs == nil {
			break
		}
		if held := tally.HeldBytes() - held; held != kv.MemoryBytes(kvs) {
			w.t.Errorf("%s: %d bytes count for a portion of %d", what, held, kv.MemoryBytes(kvs))
		}
		got.KVs = append(got.KVs, kvs...)
		if w.random.IntN(2) == 0 {
			tally.Release()
		}
	}
	got.More = l.More()
	got.Count, err = l.Count(&tally)
	w.must(err)
	if g, x := describe(got), describe(want.Range); g != x {
		w.t.Errorf("%s:\n%s\nwant\n%s", what, g, x)
	}
	if tally.Release(); memory.used != 0 {
		w.t.Errorf("%s: %d bytes are reserved in the end", what, memory.used)
	}
}

// checkMeasure: the keys after the first n that were returned already.
func (w *world) checkMeasure(what string, l *List, tally *kv.Tally, want *kv.RangeResponse, n int) {
	var measured []kv.KeyValue
	held := tally.HeldBytes()
	w.must(l.Measure(tally, func(key []byte, m mvcc.Meta) error {
		e := kv.KeyValue{Key: bytes.Clone(key), CreateRevision: m.Create, ModRevision: m.At.Rev, Version: m.Version, Lease: m.Lease}
		measured = append(measured, e)
		return nil
	}))
	slices.SortFunc(measured, func(a, b kv.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	rest := slices.Clone(want.KVs[n:])
	forgetValues(rest)
	if g, x := describeKVs(measured), describeKVs(rest); g != x {
		w.t.Errorf("%s: measured after %d keys:\n%s\nwant\n%s", what, n, g, x)
	}
	count, err := l.Count(tally)
	w.must(err)
	if l.More() != want.More || count != want.Count {
		w.t.Errorf("%s: measured after %d keys: more %v, count %d", what, n, l.More(), count)
	}
	if tally.HeldBytes() != held {
		w.t.Errorf("%s: %d bytes are held for what was measured", what, tally.HeldBytes()-held)
	}
}

func (w *world) checkTxn(r *kv.Request) {
	m := w.moment()
	want, wantErr := m.Apply(r)
	all, of := w.freeze()
	defer closeAll(w.t, all)
	tally := w.tally()
	got, err := (&store{of, w.ordered(), m.Revision(), w.model.Compacted()}).txn(r.Txn, tally)
	if !sameError(err, wantErr) {
		w.t.Errorf("%v: transaction %+v at %d: %v, want %v", w.scheme, *r.Txn, m.Revision(), err, wantErr)
	}
	if err != nil {
		if tally.HeldBytes() != 0 {
			w.t.Errorf("refused, and %d bytes are held", tally.HeldBytes())
		}
		return
	}
	if g, x := describeTxn(got), describeTxn(want.Txn); g != x {
		w.t.Errorf("%v: transaction %+v at %d:\n%s\nwant\n%s", w.scheme, *r.Txn, m.Revision(), g, x)
	}
	w.checkGatherer(r, m, all, describeTxn(want.Txn))
}

// checkGatherer: it answers from the states of the shards that the request touches, or some more.
func (w *world) checkGatherer(r *kv.Request, m *model.Store, all []State, want string) {
	g, err := By(w.scheme)
	w.must(err)
	var shards []kv.ShardID
	var states []State
	for i, id := range w.scheme.ShardIDs() {
		needed := w.random.IntN(3) == 0
		r.EachSpan(func(span kv.Span, _ bool) bool {
			needed = needed || slices.ContainsFunc(w.table.Overlapping(span), func(d partition.Descriptor) bool { return d.Shard == id })
			return !needed
		})
		if needed {
			shards, states = append(shards, id), append(states, all[i])
		}
	}
	memory := &room{}
	request := *r
	request.Memory = memory
	at := kv.Present{Revision: m.Revision(), Compacted: w.model.Compacted()}
	got, err := g.Gather(&request, shards, states, at)
	w.must(err)
	text := describe(got.Range)
	if got.Txn != nil {
		text = describeTxn(got.Txn)
	}
	if text != want || got.Kind != r.Kind || got.Revision != at.Revision {
		w.t.Errorf("%v: %+v at %+v, of shards %v:\n%s\nwant\n%s", w.scheme, *r, at, shards, text, want)
	}
	if r.Kind != kv.KindRange || !mvcc.InKeyOrder(r.Range) {
		return
	}
	l, err := g.List(r, shards, states, at)
	w.must(err)
	first, err := l.Next(1<<20, nil)
	w.must(err)
	end, err := g.Stream(r, shards, states, at, 1<<20, nil, nil)
	w.must(err)
	if g, x := describeKVs(first), describeKVs(end.KVs); g != x || g != describeKVs(got.Range.KVs) {
		w.t.Errorf("%v: %+v at %+v: listed\n%s\nstreamed\n%s\nanswered\n%s", w.scheme, *r, at, g, x, text)
	}
}

func (w *world) checkHash(newest kv.Revision) {
	all, _ := w.freeze()
	defer closeAll(w.t, all)
	compacted := w.one.Compacted()
	at := newest
	if newest > compacted {
		at = compacted + kv.Revision(w.random.Int64N(int64(newest-compacted+1)))
	}
	got, err := Hash(all, max(at, 1))
	want, wantErr := w.one.Hash(max(at, 1))
	if got != want || err != nil || wantErr != nil {
		w.t.Errorf("%v: the hash at %d, compacted at %d, is %x, %v, want %x, %v", w.scheme, at, compacted, got, err, want, wantErr)
	}
}

func (w *world) checkKept(kept []KeptHash, from, at kv.Revision, want uint32) {
	all, _ := w.freeze()
	defer closeAll(w.t, all)
	got, compacted, err := CompactionHash(all, kept, at)
	for i, k := range kept {
		if !k.Found && all[i].Compacted() >= at {
			if !errors.Is(err, kv.ErrCompacted) {
				w.t.Errorf("%v: a shard has kept nothing of the compaction at %d, and the hash is %x, %v", w.scheme, at, got, err)
			}
			return
		}
	}
	if got != want || compacted != from || err != nil {
		w.t.Errorf("%v: the hash of the compaction from %d to %d is %x from %d, %v; it was %x", w.scheme, from, at, got, compacted, err, want)
	}
}

// checkVersions: a copy of several shards has, in one order, what one store with the same history has. The model says what that is.
func (w *world) checkVersions() {
	m := w.moment()
	all, _ := w.freeze()
	defer closeAll(w.t, all)
	compacted := Compacted(all)
	if m.Revision() < compacted {
		return
	}
	list := func(rev kv.Revision, position int64, key, value []byte, create kv.Revision, number int64, lease kv.LeaseID) string {
		return fmt.Sprintf("%d.%d %q=%q created %d version %d lease %d", rev, position, key, value, create, number, lease)
	}
	var want []string
	live := map[string]model.Version{}
	for _, v := range w.model.History() {
		if v.Rev <= compacted {
			live[string(v.Key)] = v
		}
	}
	position := int64(0)
	for i, v := range w.model.History() {
		if position++; i == 0 || w.model.History()[i-1].Rev != v.Rev {
			position = 0
		}
		at := live[string(v.Key)]
		if v.Rev > m.Revision() || v.Rev < compacted && (at.Rev != v.Rev || at.Sub != v.Sub || v.Number == 0) {
			if v.Rev < compacted {
				position-- // what is forgotten has no place
			}
			continue
		}
		want = append(want, list(v.Rev, position, v.Key, v.Value, v.Create, v.Number, v.Lease))
	}
	var got []string
	err := Versions(all, m.Revision(), func(e *mvcc.Effect, position int64) error {
		got = append(got, list(e.At.Rev, position, e.Key, e.Value, e.Create, e.Version, e.Lease))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		w.t.Errorf("%v: a copy at %d, compacted at %d: %v\n%v\nwant\n%v", w.scheme, m.Revision(), compacted, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
