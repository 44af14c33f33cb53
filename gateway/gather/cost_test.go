package gather

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// large is a store of several shards with many keys.
type large struct {
	table  *partition.Table
	states []State
}

const (
	largeKeys   = 4000
	largeValue  = 100
	largeShards = 8
	perBucket   = 16
)

// largeKey is the i-th one: there are 500 in each directory.
func largeKey(i int) []byte { return fmt.Appendf(nil, "/d%d/%05d", i/500, i) }

func newLarge(t *testing.T, scheme partition.Scheme, value int) *large {
	table, err := partition.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	l := &large{table: table}
	engine := storage.NewMemory(storage.MemoryOptions{})
	var parts []*part
	for _, id := range scheme.ShardIDs() {
		parts = append(parts, openPart(t, engine, id, mvcc.Options{BucketRows: perBucket}))
	}
	for i := range largeKeys {
		at := kv.Revision(i + 2)
		e := mvcc.Effect{Key: largeKey(i), Value: bytes.Repeat([]byte{'v'}, value), At: mvcc.Locator{Rev: at}, Create: at, Version: 1}
		p := parts[table.Overlapping(kv.Span{Start: e.Key})[0].Shard-kv.SystemShard]
		if err := p.apply([]mvcc.Effect{e}, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range parts {
		if err := p.tidy(1 << 20); err != nil {
			t.Fatal(err)
		}
		l.states = append(l.states, p.View())
	}
	t.Cleanup(func() { closeAll(t, l.states) })
	return l
}

func (l *large) ordered() bool { return l.states != nil && l.table.Descriptors()[0].EndSlot == 0 }

// page reads one, and tells what was looked at for it: rows, and values.
func (l *large) page(t *testing.T, from []byte, limit int64) (r *kv.RangeResponse, looked int64) {
	t.Helper()
	tally := kv.NewTally(nil)
	q := &kv.RangeRequest{Span: kv.Span{Start: from, End: []byte{0}}, Limit: limit}
	r, err := together(l.table, l.states, l.ordered(), largeKeys+1).Range(q, &tally)
	if err != nil {
		t.Fatal(err)
	}
	return r, tally.Looked()
}

var largeSchemes = map[string]partition.Scheme{
	"range":       {Kind: partition.Range, Shards: largeShards, SplitKeys: largeSplits()},
	"hash":        {Kind: partition.Hash, Shards: largeShards},
	"directories": {Kind: partition.Hash, Shards: largeShards, HashPrefix: 1},
}

func largeSplits() (splits [][]byte) {
	for i := 1; i < largeShards; i++ {
		splits = append(splits, largeKey(i*largeKeys/largeShards))
	}
	return splits
}

// TestPagesReadLittleMore: of the shards together not much more is read than what a page has, wherever its keys are, and pages have each key once.
func TestPagesReadLittleMore(t *testing.T) {
	for name, scheme := range largeSchemes {
		l := newLarge(t, scheme, largeValue)
		for _, limit := range []int{1, 10, 300, 1500} {
			n, s := float64(limit), float64(largeShards)
			keys := map[string]float64{"range": n, "hash": n + math.Sqrt(n*s) + 2*s + n/10, "directories": 3*n + math.Sqrt(n*s) + 2*s}[name]
			// A row and a value of each key. Counts look at what sticks out of buckets.
			most := int64(2*keys + s*perBucket)
			from, seen, dearest := []byte{0}, 0, int64(0)
			for pages := 0; pages < 30; pages++ {
				r, looked := l.page(t, from, int64(limit))
				for _, e := range r.KVs {
					if !bytes.Equal(e.Key, largeKey(seen)) {
						t.Fatalf("%s, pages of %d: key %d is %q", name, limit, seen, e.Key)
					}
					seen++
				}
				dearest = max(dearest, looked)
				if int(r.Count) != largeKeys-seen+len(r.KVs) || r.More != (seen < largeKeys) || len(r.KVs) != min(limit, largeKeys-seen+len(r.KVs)) {
					t.Fatalf("%s, pages of %d: after %d keys: %d keys, count %d, more %v", name, limit, seen, len(r.KVs), r.Count, r.More)
				}
				if !r.More {
					break
				}
				from = append(bytes.Clone(r.KVs[len(r.KVs)-1].Key), 0)
			}
			if dearest > most {
				t.Errorf("%s: a page of %d keys looked at %d rows and values, more than %d", name, limit, dearest, most)
			}
		}
	}
}

// TestLastsReadTheirValues: of keys in another order than theirs only those that are returned have their values read.
func TestLastsReadTheirValues(t *testing.T) {
	const value, limit = 2 << 10, 20
	for name, scheme := range largeSchemes {
		l := newLarge(t, scheme, value)
		tally := kv.NewTally(nil)
		q := &kv.RangeRequest{Span: everything, Limit: limit, SortOrder: kv.SortDescend}
		r, err := together(l.table, l.states, l.ordered(), largeKeys+1).Range(q, &tally)
		if err != nil || len(r.KVs) != limit || len(r.KVs[0].Value) != value || !bytes.Equal(r.KVs[0].Key, largeKey(largeKeys-1)) {
			t.Fatalf("%s: %v, %+v", name, err, r)
		}
		if looked := tally.Looked(); looked > largeKeys+limit*(2+value>>10)+largeShards*perBucket {
			t.Errorf("%s: the last %d keys looked at %d rows and KiB of values", name, limit, looked)
		}
	}
}

// TestMemory: what is held on the way is about what the answer takes, and nothing after a refusal.
func TestMemory(t *testing.T) {
	const value, total = 2 << 10, largeKeys * (2<<10 + 90)
	for name, scheme := range largeSchemes {
		l := newLarge(t, scheme, value)
		for _, c := range []struct {
			q    kv.RangeRequest
			most int64 // 0: it cannot be held
		}{
			{kv.RangeRequest{}, 5 * total / 4},
			{kv.RangeRequest{SortTarget: kv.SortByMod, SortOrder: kv.SortDescend}, 5 * total / 4},
			{kv.RangeRequest{Limit: 100}, 1 << 20},
			{kv.RangeRequest{Limit: 100, SortOrder: kv.SortDescend}, 2 << 20},
			{kv.RangeRequest{Limit: 100, SortTarget: kv.SortByValue, SortOrder: kv.SortAscend}, total},
			{kv.RangeRequest{CountOnly: true}, 1 << 20},
		} {
			c.q.Span = everything
			memory := &room{}
			tally := kv.NewTally(memory)
			r, err := together(l.table, l.states, l.ordered(), largeKeys+1).Range(&c.q, &tally)
			if err != nil || tally.HeldBytes() != kv.MemoryBytes(r.KVs) || memory.most > c.most {
				t.Errorf("%s, %+v: %v, %d bytes are held, %d at most", name, c.q, err, tally.HeldBytes(), memory.most)
			}
			if tally.Release(); memory.used != 0 {
				t.Errorf("%s, %+v: %d bytes are reserved in the end", name, c.q, memory.used)
			}
			for refuse := 1; ; refuse = 1 + 2*refuse {
				memory := &room{refuse: refuse}
				tally := kv.NewTally(memory)
				_, err := together(l.table, l.states, l.ordered(), largeKeys+1).Range(&c.q, &tally)
				if err == nil {
					break
				}
				if !errors.Is(err, kv.ErrTooManyRequests) || tally.HeldBytes() != 0 {
					t.Errorf("%s, %+v: refused at %d: %v, %d bytes are held", name, c.q, refuse, err, tally.HeldBytes())
				}
			}
		}
		l.checkStreamMemory(t, name)
	}
}

// checkStreamMemory: two chunks, and what is read ahead of them.
func (l *large) checkStreamMemory(t *testing.T, name string) {
	const chunk = 256 << 10
	memory := &room{}
	tally := kv.NewTally(memory)
	keys := 0
	q := &kv.RangeRequest{Span: everything}
	end, err := together(l.table, l.states, l.ordered(), largeKeys+1).stream(q, chunk, &tally, func(kvs []kv.KeyValue) error { keys += len(kvs); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if keys += len(end.KVs); keys != largeKeys || memory.most > 4*chunk+256<<10 {
		t.Errorf("%s: %d keys were streamed, %d bytes were held at most", name, keys, memory.most)
	}
}
