package partition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func key(s string) []byte { return []byte(s) }

func keys(list ...string) (all [][]byte) {
	for _, s := range list {
		all = append(all, key(s))
	}
	return all
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		scheme Scheme
		want   string // "": it is valid
	}{
		{Single(), ""},
		{Scheme{Kind: Range, Shards: 3, SplitKeys: keys("b", "c")}, ""},
		{Scheme{Kind: Hash, Shards: MaxShards, HashPrefix: 2}, ""},
		{Scheme{Kind: Range}, "1 to 1024 shards, not 0"},
		{Scheme{Kind: Hash, Shards: MaxShards + 1}, "1 to 1024 shards, not 1025"},
		{Scheme{Shards: 1}, "there is no partitioning 0"},
		{Scheme{Kind: Range, Shards: 3, SplitKeys: keys("b")}, "need 2 split keys"},
		{Scheme{Kind: Range, Shards: 2, SplitKeys: keys("b", "c")}, "need 1 split keys"},
		{Scheme{Kind: Range, Shards: 3, SplitKeys: keys("c", "b")}, `"b" comes after "c"`},
		{Scheme{Kind: Range, Shards: 3, SplitKeys: keys("c", "c")}, `"c" is there twice`},
		{Scheme{Kind: Range, Shards: 2, SplitKeys: keys("")}, "split key 1 is empty"},
		{Scheme{Kind: Range, Shards: 2, SplitKeys: keys(strings.Repeat("k", MaxSplitKeyBytes+1))}, "1025 bytes"},
		{Scheme{Kind: Range, Shards: 1, HashPrefix: 1}, "only if keys are partitioned by hash"},
		{Scheme{Kind: Hash, Shards: 2, SplitKeys: keys("b")}, "by range, not by hash"},
		{Scheme{Kind: Hash, Shards: 2, HashPrefix: MaxHashPrefix + 1}, "not 65"},
	} {
		err := c.scheme.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.scheme, err, c.want)
		}
	}
}

// TestSlots holds the hash: another one would look for keys where they are not.
func TestSlots(t *testing.T) {
	for _, c := range []struct {
		key    string
		prefix int
		slot   int
	}{
		{"", 0, 15313}, {"a", 0, 13459}, {"/registry/pods/default/web-1", 0, 5780}, {"/registry/pods/default/web-1", 2, 1006}, {"/registry/pods", 0, 1006},
	} {
		if got := Slot(key(c.key), c.prefix); got != c.slot {
			t.Errorf("%q, prefix %d: slot %d, want %d", c.key, c.prefix, got, c.slot)
		}
	}
}

func TestHashedPart(t *testing.T) {
	for _, c := range []struct {
		key    string
		prefix int
		want   string
	}{
		{"/a/b/c", 0, "/a/b/c"}, {"/a/b/c", 1, "/a"}, {"/a/b/c", 2, "/a/b"}, {"/a/b/c", 3, "/a/b/c"}, {"/a/b/c", 9, "/a/b/c"},
		{"a/b/c", 1, "a"}, {"a/b/c", 2, "a/b"}, {"/a/b/", 2, "/a/b"}, {"/a/b", 2, "/a/b"}, {"//b", 1, "/"}, {"/", 1, "/"}, {"", 1, ""}, {"/a//c", 2, "/a/"},
	} {
		if got := c.key[:hashedBytes(key(c.key), c.prefix)]; got != c.want {
			t.Errorf("%q, prefix %d: %q is hashed, want %q", c.key, c.prefix, got, c.want)
		}
	}
}

// TestSlotsSpread: no shard has many more slots than another, and each slot is in the shard that says so.
func TestSlotsSpread(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 16, 1000, MaxShards} {
		table, err := New(Scheme{Kind: Hash, Shards: n})
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		for i, d := range table.Descriptors() {
			if count := d.EndSlot - d.FirstSlot; d.FirstSlot != next || count < Slots/n || count > Slots/n+1 {
				t.Errorf("%d shards: shard %d has slots %d to %d", n, d.Shard, d.FirstSlot, d.EndSlot)
			}
			for slot := d.FirstSlot; slot < d.EndSlot; slot++ {
				if table.shardOf(slot) != i {
					t.Fatalf("%d shards: slot %d is in shard %d", n, slot, table.shardOf(slot))
				}
			}
			next = d.EndSlot
		}
		if next != Slots {
			t.Errorf("%d shards have %d slots", n, next)
		}
	}
}

// TestTwin compares tables with what a look at every key says.
func TestTwin(t *testing.T) {
	var all [][]byte // every key of up to four letters
	letters := []byte("/ab")
	for level := keys(""); len(level) > 0 && len(level[0]) <= 4; {
		all = append(all, level...)
		var longer [][]byte
		for _, k := range level {
			for _, c := range letters {
				longer = append(longer, append(bytes.Clone(k), c))
			}
		}
		level = longer
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		scheme := randomScheme(random, all)
		table, err := New(scheme)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			span := kv.Span{Start: all[1+random.IntN(len(all)-1)], End: all[random.IntN(len(all))]}
			if random.IntN(8) == 0 {
				span.End = []byte{0}
			}
			if err := compareSpan(table, span, all); err != nil {
				t.Fatalf("%v, from %q to %q: %v", scheme, span.Start, span.End, err)
			}
		}
	}
}

func randomScheme(random *rand.Rand, all [][]byte) Scheme {
	if random.IntN(2) == 0 {
		return Scheme{Kind: Hash, Shards: 1 + random.IntN(20), HashPrefix: random.IntN(4)}
	}
	s := Scheme{Kind: Range, Shards: 1}
	for range random.IntN(6) {
		s.SplitKeys = append(s.SplitKeys, all[1+random.IntN(len(all)-1)])
	}
	slices.SortFunc(s.SplitKeys, bytes.Compare)
	s.SplitKeys = slices.CompactFunc(s.SplitKeys, bytes.Equal)
	s.Shards += len(s.SplitKeys)
	return s
}

func compareSpan(table *Table, span kv.Span, all [][]byte) error {
	has := map[kv.ShardID]bool{}
	for _, d := range table.Overlapping(span) {
		has[d.Shard] = true
	}
	needed := map[kv.ShardID]bool{}
	for _, k := range all {
		if !span.Contains(k) {
			continue
		}
		d := table.shards[table.position(k)]
		switch scheme := table.scheme; {
		case !has[d.Shard]:
			return fmt.Errorf("key %q is in shard %d, which is left out", k, d.Shard)
		case scheme.Kind == Range && (bytes.Compare(k, d.Lower) < 0 || d.Upper != nil && bytes.Compare(k, d.Upper) >= 0):
			return fmt.Errorf("key %q is in the shard from %q to %q", k, d.Lower, d.Upper)
		case scheme.Kind == Hash && (Slot(k, scheme.HashPrefix) < d.FirstSlot || Slot(k, scheme.HashPrefix) >= d.EndSlot):
			return fmt.Errorf("key %q of slot %d is in the shard of slots %d to %d", k, Slot(k, scheme.HashPrefix), d.FirstSlot, d.EndSlot)
		}
		needed[d.Shard] = true
	}
	// By range, a shard that is named has room for a key of the span; by hash, either one is named or all are.
	if table.scheme.Kind == Hash && len(has) > 1 && len(has) != table.scheme.Shards {
		return fmt.Errorf("%d shards", len(has))
	}
	if span.Empty() && len(has) > 0 {
		return fmt.Errorf("%d shards have keys of an empty span", len(has))
	}
	if table.scheme.Kind == Range {
		for _, d := range table.Overlapping(span) {
			if lower, upper := span.Bounds(); d.Upper != nil && bytes.Compare(d.Upper, lower) <= 0 || upper != nil && bytes.Compare(d.Lower, upper) >= 0 {
				return fmt.Errorf("shard %d from %q to %q has none of its keys", d.Shard, d.Lower, d.Upper)
			}
		}
	}
	return nil
}

// TestDirectory: a directory of as many components as are hashed is in one shard; what goes beyond it is not.
func TestDirectory(t *testing.T) {
	table, err := New(Scheme{Kind: Hash, Shards: 16, HashPrefix: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		start, end string
		one        bool
	}{
		{"/a/b/", "/a/b0", true}, {"/a/b/c", "/a/b/d", true}, {"/a/b", "/a/b0", false}, {"/a/b/", "/a/b1", false}, {"/a/", "/a0", false}, {"/a/b/", "\x00", false},
		{"/a/b", "", true},
	} {
		if got := len(table.Overlapping(kv.Span{Start: key(c.start), End: key(c.end)})) == 1; got != c.one {
			t.Errorf("from %q to %q: in one shard %v", c.start, c.end, got)
		}
	}
}
