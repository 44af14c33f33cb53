package shard

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

func TestReadsAtMost(t *testing.T) {
	one, many := kv.Span{Start: []byte("k")}, kv.Span{Start: []byte("k"), End: []byte("z")}
	get, list := kv.Op{Range: &kv.RangeRequest{Span: one}}, kv.Op{Range: &kv.RangeRequest{Span: many}}
	write, remove := kv.Op{Put: &kv.PutRequest{Key: []byte("k")}}, kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: one}}
	txn := func(compares int, success, failure []kv.Op) *kv.Request {
		r := &kv.TxnRequest{Success: success, Failure: failure}
		for range compares {
			r.Compare = append(r.Compare, kv.Compare{Span: one})
		}
		return &kv.Request{Kind: kv.KindTxn, Txn: r}
	}
	nested := func(ops ...kv.Op) kv.Op { return kv.Op{Txn: &kv.TxnRequest{Failure: ops}} }
	for _, test := range []struct {
		what string
		req  *kv.Request
		keys int // the least bound that it keeps; negative: none
	}{
		{"put", &kv.Request{Kind: kv.KindPut, Put: write.Put}, 1},
		{"get", &kv.Request{Kind: kv.KindRange, Range: get.Range}, 1},
		{"list", &kv.Request{Kind: kv.KindRange, Range: list.Range}, -1},
		{"delete", &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: remove.DeleteRange}, 1},
		{"delete a range", &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: many}}, -1},
		{"compare and swap", txn(1, []kv.Op{write}, []kv.Op{get}), 3},
		{"nested", txn(0, []kv.Op{nested(get, get, nested(remove)), write}, nil), 4},
		{"nested list", txn(0, nil, []kv.Op{nested(get, nested(list))}), -1},
		{"compare a range", &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: many}}}}, -1},
		{"grant", &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{}}, 0},
		{"revoke", &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{}}, -1},
	} {
		for keys := range 8 {
			if got, want := ReadsAtMost(test.req, keys), test.keys >= 0 && keys >= test.keys; got != want {
				t.Errorf("%s: at most %d keys: %v", test.what, keys, got)
			}
		}
	}
}

// TestReadAsOfClosed: while something may yet come below the newest revision, a read that asks for no revision is as of the closed one, and says so; as
// nothing is below that any more, the same is read there ever after.
func TestReadAsOfClosed(t *testing.T) {
	g := &group{}
	leader := mustOpen(testOptions(1))
	if err := g.elect(leader, 1); err != nil {
		t.Fatal(err)
	}
	var closed kv.Revision
	for i, value := range []string{"old", "new"} {
		resp, err := g.do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte(value)}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			closed = resp.Revision
		}
	}
	get := kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}
	txn := &kv.TxnRequest{Success: []kv.Op{{Range: &get}}}
	for _, bound := range []kv.Revision{kv.Unnumbered, closed} {
		leader.store.SetClosed(bound)
		want, at := "new", closed+1
		if bound == closed {
			want, at = "old", closed
		}
		view := leader.store.View()
		for _, v := range []*mvcc.View{nil, view} {
			ranged, err := leader.Read(v, 0, &kv.Request{Kind: kv.KindRange, Range: &get})
			if err != nil || ranged.Revision != at || string(ranged.Range.KVs[0].Value) != want {
				t.Errorf("closed at %d: %s, %v", bound, describe(ranged), err)
			}
			in, err := leader.Read(v, 0, &kv.Request{Kind: kv.KindTxn, Txn: txn})
			if err != nil || in.Revision != at || string(in.Txn.Responses[0].Range.KVs[0].Value) != want {
				t.Errorf("closed at %d, in a transaction: %s, %v", bound, describe(in), err)
			}
		}
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	}
}
