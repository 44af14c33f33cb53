package keys

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// rowsOf lists a key of every kind of row of a shard, with the smallest and the greatest of each.
func rowsOf(shard kv.ShardID) map[string][]byte {
	l := Of(shard)
	high := bytes.Repeat([]byte{0xff}, 9)
	return map[string][]byte{
		"state": State(shard), "compacted": Compacted(shard), "progress": Progress(shard), "extent": Extent(shard),
		"first lease": AppendLease(nil, shard, 0), "last lease": AppendLease(nil, shard, -1),
		"first node": AppendNode(nil, shard, 0), "last node": AppendNode(nil, shard, math.MaxUint64),
		"first record": AppendRecord(nil, shard, kv.TransactionID{}), "last record": AppendRecord(nil, shard, kv.TransactionID{Anchor: math.MaxUint64, Term: math.MaxUint64, Number: math.MaxUint64}),
		"first auth": AppendAuth(nil, shard, 0, ""), "last auth": AppendAuth(nil, shard, 0xff, string(high)),
		"first finished": AppendFinished(nil, shard, 0), "last finished": AppendFinished(nil, shard, math.MaxUint64),
		"first attachment": AppendAttachment(nil, l, 0, nil), "last attachment": AppendAttachment(nil, l, -1, high),
		"first key": AppendRow(nil, l, Latest, nil), "last key": AppendRow(nil, l, Latest, high),
		"first value": AppendRow(nil, l, Value, nil), "last value": AppendRow(nil, l, Value, high),
		"first version": AppendVersion(nil, l, 0, 0), "last version": AppendVersionValue(nil, l, math.MaxInt64, math.MaxUint32),
	}
}

// Rows of one shard are in its own interval, whatever they are about, and in no other's; the node's are in nobody's.
func TestShardsDoNotMeet(t *testing.T) {
	shards := []kv.ShardID{1, 2, 255, 256, 1<<16 - 1, 1 << 16, MaxShard}
	in := func(spans []storage.Span, key []byte) bool {
		return slices.ContainsFunc(spans, func(s storage.Span) bool { return bytes.Compare(key, s.Lower) >= 0 && bytes.Compare(key, s.Upper) < 0 })
	}
	for _, shard := range shards {
		for what, key := range rowsOf(shard) {
			for _, other := range shards {
				if in(Spans(other), key) != (other == shard) {
					t.Errorf("the %s of shard %d is in the interval of shard %d: %v", what, shard, other, !(other == shard))
				}
			}
		}
		for what, key := range map[string][]byte{"first identity": Identity(0), "last identity": Identity(math.MaxUint64)} {
			if in(Spans(shard), key) {
				t.Errorf("the node's %s is in the interval of shard %d", what, shard)
			}
		}
	}
}

// No two rows have one key, and bounds hold exactly the rows of their kind.
func TestKindsDoNotMeet(t *testing.T) {
	rows := rowsOf(7)
	seen := map[string]string{}
	for what, key := range rows {
		if other, ok := seen[string(key)]; ok {
			t.Errorf("%s and %s have one key", what, other)
		}
		seen[string(key)] = what
	}
	bounds := func(name string, from, to []byte, want ...string) {
		t.Helper()
		for what, key := range rows {
			if got := bytes.Compare(key, from) >= 0 && bytes.Compare(key, to) < 0; got != slices.Contains(want, what) {
				t.Errorf("the bounds of %s hold the %s: %v", name, what, got)
			}
		}
	}
	from, to := Leases(7)
	bounds("leases", from, to, "first lease", "last lease")
	from, to = Nodes(7)
	bounds("nodes", from, to, "first node", "last node")
	from, to = Records(7)
	bounds("records", from, to, "first record", "last record")
	from, to = Auth(7)
	bounds("users and roles", from, to, "first auth", "last auth")
	from, to = Finished(7)
	bounds("finished", from, to, "first finished", "last finished")
	from, to = Attachments(7, -1)
	bounds("attachments of the last lease", from, to, "last attachment")
	from, to = Attachments(7, 0)
	bounds("attachments of the first lease", from, to, "first attachment")
	from, to = RowBounds(7, Latest, nil, nil)
	bounds("keys", from, to, "first key", "last key")
	from, to = RowBounds(7, Value, nil, []byte{0xff})
	bounds("values up to a key", from, to, "first value")
}

func TestParse(t *testing.T) {
	if id, err := ParseLease(AppendLease(nil, 3, -5)); id != -5 || err != nil {
		t.Errorf("lease %d, %v", id, err)
	}
	id := kv.TransactionID{Anchor: 7, Term: 8, Number: 9}
	if got, err := ParseRecord(AppendRecord(nil, 3, id)); got != id || err != nil {
		t.Errorf("transaction %v, %v", got, err)
	}
	if anchor, err := ParseFinished(AppendFinished(nil, 3, 7)); anchor != 7 || err != nil {
		t.Errorf("anchor %d, %v", anchor, err)
	}
	for _, moved := range []bool{false, true} {
		key := AppendVersion(nil, 3, 17, 4)
		if moved {
			key = AppendVersionValue(nil, 3, 17, 4)
		}
		if rev, position, value, err := ParseVersion(key); rev != 17 || position != 4 || value != moved || err != nil {
			t.Errorf("version %d.%d, %v, %v", rev, position, value, err)
		}
	}
	if bytes.Compare(AppendVersion(nil, 3, 17, 4), AppendVersionValue(nil, 3, 17, 4)) >= 0 || bytes.Compare(AppendVersionValue(nil, 3, 17, 4), AppendVersion(nil, 3, 17, 5)) >= 0 {
		t.Error("the value of a version is not right behind it")
	}
	if key := AttachedKey(AppendAttachment(nil, 3, 9, []byte("key"))); string(key) != "key" {
		t.Errorf("attached key %q", key)
	}
	for name, parse := range map[string]func() error{
		"a short version": func() error { _, _, _, err := ParseVersion(AppendVersion(nil, 3, 17, 4)[:16]); return err },
		"a long version":  func() error { _, _, _, err := ParseVersion(append(AppendVersion(nil, 3, 17, 4), "xy"...)); return err },
		"another suffix":  func() error { _, _, _, err := ParseVersion(append(AppendVersion(nil, 3, 17, 4), 'x')); return err },
		"another kind": func() error {
			_, _, _, err := ParseVersion(AppendRow(nil, 3, Latest, []byte("123456789012")))
			return err
		},
		"a short record":  func() error { _, err := ParseRecord(AppendFinished(nil, 3, 7)); return err },
		"a long finished": func() error { _, err := ParseFinished(AppendRecord(nil, 3, id)); return err },
		"a short lease":   func() error { _, err := ParseLease(State(3)); return err },
	} {
		if err := parse(); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A chain of splits, and a twin that notes for every revision and key who wrote it.
func TestSplit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		all := []Rows{RowsOf(1)}
		const keyCount, revisions = 26, 60
		owner := make([]int, keyCount) // which of all has the key now
		var writer [revisions][keyCount]Lineage
		for rev := 1; rev < revisions; rev++ {
			if random.IntN(8) == 0 {
				i := random.IntN(len(all))
				low, high := keyCount, -1
				for key, of := range owner {
					if of == i {
						low, high = min(low, key), max(high, key)
					}
				}
				if high > low {
					at := low + 1 + random.IntN(high-low)
					key := []byte{byte('a' + at)}
					child := all[i].Split(kv.ShardID(len(all)+1), key, all[i].Upper, kv.Revision(rev)-1)
					all[i].Upper = key
					for k := at; k <= high; k++ {
						owner[k] = len(all)
					}
					all = append(all, child)
				}
			}
			for key, of := range owner {
				writer[rev][key] = all[of].Segments[len(all[of].Segments)-1].Lineage
			}
		}
		for i := range all {
			if err := all[i].Validate(); err != nil {
				t.Fatal(err)
			}
			if all[i].Alone() != (len(all) == 1) {
				t.Fatalf("%+v of %d is alone: %v", all[i], len(all), all[i].Alone())
			}
		}
		for key, of := range owner {
			for i := range all {
				if all[i].Has([]byte{byte('a' + key)}) != (i == of) {
					t.Fatalf("key %c belongs to %d, not to %+v", 'a'+key, of, all[i])
				}
			}
			for rev := 1; rev < revisions; rev++ {
				if got := all[of].LineageAt(kv.Revision(rev)); got != writer[rev][key] {
					t.Fatalf("revision %d of key %c is in lineage %d; %+v says %d", rev, 'a'+key, writer[rev][key], all[of], got)
				}
			}
		}
	}
}

func TestClip(t *testing.T) {
	rows := RowsOf(1)
	rows.Lower, rows.Upper = []byte("d"), []byte("p")
	for _, c := range []struct{ lower, upper, from, to string }{
		{"", "", "d", "p"}, {"a", "z", "d", "p"}, {"e", "f", "e", "f"}, {"e", "", "e", "p"}, {"a", "f", "d", "f"}, {"q", "z", "q", "p"},
	} {
		upper := []byte(c.upper)
		if c.upper == "" {
			upper = nil
		}
		if from, to := rows.Clip([]byte(c.lower), upper); string(from) != c.from || string(to) != c.to {
			t.Errorf("%q to %q is clipped to %q to %q", c.lower, c.upper, from, to)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Rows){
		"no shard":          func(r *Rows) { r.Shard = 0 },
		"no such shard":     func(r *Rows) { r.Shard = MaxShard + 1 },
		"no home":           func(r *Rows) { r.Home = 0 },
		"no segments":       func(r *Rows) { r.Segments = nil },
		"a beginning":       func(r *Rows) { r.Segments[0].From = 1 },
		"not ascending":     func(r *Rows) { r.Segments[1].From = 0 },
		"the node's own":    func(r *Rows) { r.Segments[0].Lineage = 0 },
		"another's lineage": func(r *Rows) { r.Segments[1].Lineage = 9 },
	} {
		rows := RowsOf(1).Split(2, []byte("k"), nil, 5)
		if err := rows.Validate(); err != nil {
			t.Fatal(err)
		}
		if spoil(&rows); rows.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, shard := range []kv.ShardID{0, MaxShard + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("shard %d has a lineage", shard)
				}
			}()
			Of(shard)
		}()
	}
}
