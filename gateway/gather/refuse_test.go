package gather

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// pair is two shards: the first has keys a and c, the second b. The second is at revision 4 of 5.
func pair(t *testing.T, compacted kv.Revision) []State {
	engine := storage.NewMemory(storage.MemoryOptions{})
	parts := []*part{openPart(t, engine, 1, mvcc.Options{}), openPart(t, engine, 2, mvcc.Options{})}
	for i, key := range []string{"a", "c", "b", "c"} {
		at := kv.Revision(i + 2)
		e := mvcc.Effect{Key: []byte(key), Value: fmt.Append(nil, at), At: mvcc.Locator{Rev: at}, Create: at, Version: 1}
		if at == 5 {
			e.Create, e.Version, e.Prev, e.PrevLive = 3, 2, mvcc.Locator{Rev: 3}, true
		}
		if err := parts[int(key[0]-'a')%2].apply([]mvcc.Effect{e}, at); err != nil {
			t.Fatal(err)
		}
	}
	if compacted > 0 {
		if err := parts[0].compact(compacted); err != nil {
			t.Fatal(err)
		}
	}
	states := []State{parts[0].View(), parts[1].View()}
	t.Cleanup(func() { closeAll(t, states) })
	return states
}

// TestRevisions: what one of the shards has forgotten, all have; what is behind a state that did not change is there.
func TestRevisions(t *testing.T) {
	for _, c := range []struct {
		what                     string
		compacted, at, requested kv.Revision
		want                     error
		keys                     int
	}{
		{"newest", 0, 5, 0, nil, 3},
		{"old", 0, 5, 3, nil, 2},
		{"before the newest", 0, 4, 0, nil, 3},
		{"future", 0, 5, 6, kv.ErrFutureRevision, 0},
		{"future of what is read", 0, 4, 5, kv.ErrFutureRevision, 0},
		{"not compacted", 3, 5, 3, nil, 2},
		{"compacted", 3, 5, 2, kv.ErrCompacted, 0},
		{"compacted where it is read", 5, 4, 0, kv.ErrCompacted, 0},
	} {
		states := pair(t, c.compacted)
		q := &kv.RangeRequest{Span: everything, Revision: c.requested}
		r, err := over(states, false, c.at).Range(q, nil)
		if !errors.Is(err, c.want) || err == nil && len(r.KVs) != c.keys {
			t.Errorf("%s: %v, %+v", c.what, err, r)
		}
		if _, err := over(states, false, c.at).list(q); !errors.Is(err, c.want) {
			t.Errorf("%s: list: %v", c.what, err)
		}
		all := func(kv.Span) []State { return states }
		if _, err := (&store{all, false, c.at, c.compacted}).txn(&kv.TxnRequest{Success: []kv.Op{{Range: q}}}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: transaction: %v", c.what, err)
		}
	}
	states := pair(t, 5)
	for _, kept := range [][]KeptHash{{{}, {}}, {{From: 3, Found: true}, {From: 2, Found: true}}} {
		if _, _, err := CompactionHash(states, kept, 5); !errors.Is(err, kv.ErrCompacted) {
			t.Errorf("the hash of a compaction of which %+v is kept: %v", kept, err)
		}
	}
	if _, err := Hash(states, 4); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("hash: %v", err)
	}
}

// TestRefusals: bad requests are errors, and so is what a list cannot be.
func TestRefusals(t *testing.T) {
	states := pair(t, 0)
	all := func(kv.Span) []State { return states }
	for what, txn := range map[string]*kv.TxnRequest{
		"none":       nil,
		"a put":      {Success: []kv.Op{{Put: &kv.PutRequest{Key: []byte("a")}}}},
		"nothing":    {Failure: []kv.Op{{}}},
		"nested put": {Success: []kv.Op{{Txn: &kv.TxnRequest{Failure: []kv.Op{{Put: &kv.PutRequest{}}}}}}},
	} {
		if r, err := (&store{all, false, 5, 0}).txn(txn, nil); !errors.Is(err, kv.ErrInvalidRequest) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	for _, q := range []kv.RangeRequest{{CountOnly: true}, {MinMod: 1}, {SortOrder: kv.SortDescend}, {SortTarget: kv.SortByMod}} {
		q.Span = everything
		if _, err := over(states, false, 5).list(&q); !errors.Is(err, kv.ErrInvalidRequest) {
			t.Errorf("list %+v: %v", q, err)
		}
	}
	failure := errors.New("nobody listens")
	refuse := func([]kv.KeyValue) error { return failure }
	if _, err := over(states, false, 5).stream(&kv.RangeRequest{Span: everything}, 1, nil, refuse); err != failure {
		t.Errorf("stream: %v", err)
	}
}

// TestGathererRefuses: what it cannot answer from the states that it has is refused, and nothing stays reserved.
func TestGathererRefuses(t *testing.T) {
	g, err := By(partition.Scheme{Kind: partition.Range, Shards: 2, SplitKeys: [][]byte{[]byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := By(partition.Scheme{}); err == nil {
		t.Error("there is a gatherer of no scheme")
	}
	states, both, at := pair(t, 0), []kv.ShardID{1, 2}, kv.Present{Revision: 5, Compacted: 4}
	all, old := &kv.RangeRequest{Span: everything}, &kv.RangeRequest{Span: everything, Revision: 3}
	txn := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{Range: old}}}}
	for _, c := range []struct {
		what   string
		req    *kv.Request
		shards []kv.ShardID
		want   error
	}{
		{"a range", &kv.Request{Kind: kv.KindRange, Range: all}, both, nil},
		{"a shard is missing", &kv.Request{Kind: kv.KindRange, Range: all}, both[:1], kv.ErrShardNotHere},
		{"compacted at the present", &kv.Request{Kind: kv.KindRange, Range: old}, both, kv.ErrCompacted},
		{"compacted at the present, in a transaction", txn, both, kv.ErrCompacted},
		{"a put", &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}}, both, kv.ErrInvalidRequest},
		{"no range", &kv.Request{Kind: kv.KindRange}, both, kv.ErrInvalidRequest},
		{"no transaction", &kv.Request{Kind: kv.KindTxn}, both, kv.ErrInvalidRequest},
	} {
		_, err := g.Gather(c.req, c.shards, states[:len(c.shards)], at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		listed := c.want
		if c.req.Txn != nil {
			listed = kv.ErrInvalidRequest
		}
		if _, err := g.List(c.req, c.shards, states[:len(c.shards)], at); !errors.Is(err, listed) {
			t.Errorf("%s: list: %v", c.what, err)
		}
		if _, err := g.Stream(c.req, c.shards, states[:len(c.shards)], at, 1<<20, nil, nil); !errors.Is(err, listed) {
			t.Errorf("%s: stream: %v", c.what, err)
		}
	}
	if _, err := g.Gather(txn, both, states[:1], at); !errors.Is(err, kv.ErrInvalidRequest) {
		t.Errorf("a state for two shards: %v", err)
	}
}

// TestMore: there is more than the limit although one shard has it all.
func TestMore(t *testing.T) {
	states := pair(t, 0)
	for _, q := range []kv.RangeRequest{{MaxCreate: 3}, {MaxCreate: 3, SortOrder: kv.SortDescend}} {
		q.Span, q.Limit = everything, 1
		if r, err := over(states, false, 5).Range(&q, nil); err != nil || !r.More || len(r.KVs) != 1 || r.Count != 3 {
			t.Errorf("%+v: %+v, %v", q, r, err)
		}
	}
}

// TestCompareEnds: a compare of a span fails with the first key that does not hold it, whatever the next shard has.
func TestCompareEnds(t *testing.T) {
	states := pair(t, 0)
	for _, c := range []struct {
		version int64
		want    bool
	}{{1, false}, {0, true}} {
		result := kv.CompareEqual
		if c.want {
			result = kv.CompareGreater
		}
		txn := &kv.TxnRequest{Compare: []kv.Compare{{Span: everything, Target: kv.CompareVersion, Result: result, Integer: c.version}}}
		if r, err := over(states, false, 5).txn(txn, nil); err != nil || r.Succeeded != c.want {
			t.Errorf("version %d: %+v, %v", c.version, r, err)
		}
	}
}
