package route

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

func put(key string) kv.Op { return kv.Op{Put: &kv.PutRequest{Key: []byte(key)}} }

func span(start, end string) kv.Span { return kv.Span{Start: []byte(start), End: []byte(end)} }

func TestRoute(t *testing.T) {
	router, err := By(partition.Scheme{Kind: partition.Range, Shards: 3, SplitKeys: [][]byte{[]byte("h"), []byte("p")}})
	if err != nil {
		t.Fatal(err)
	}
	nested := kv.Op{Txn: &kv.TxnRequest{Success: []kv.Op{put("i")}}}
	for _, c := range []struct {
		request *kv.Request
		want    kv.ShardID // 0: several
		named   string
	}{
		{&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}}, 1, ""},
		{&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("h")}}, 2, ""},
		{&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span("h", "p")}}, 2, ""},
		{&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span("h", "q")}}, 0, "shards [2 3]"},
		{&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: span("\x00", "\x00")}}, 0, "shards [1 2 3]"},
		{&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: span("z", "a")}}, 1, ""}, // of no keys at all
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Failure: []kv.Op{put("z"), put("q")}}}, 3, ""},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: span("a", "")}}, Success: []kv.Op{nested}}}, 0, "shards [1 2]"},
		{&kv.Request{Kind: kv.KindLeaseGrant}, 1, ""},
		{&kv.Request{Kind: kv.KindTxnPrepare, Commit: &kv.CommitRequest{ID: kv.TransactionID{Anchor: 2}, Shard: 3}}, 3, ""},
		{&kv.Request{Kind: kv.KindTxnState, Commit: &kv.CommitRequest{ID: kv.TransactionID{Anchor: 2}, Shard: 2}}, 2, ""},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{}}, 1, ""},
	} {
		got, err := router.Route(c.request)
		if got != c.want || (c.want == 0) != errors.Is(err, kv.ErrManyShards) || c.want == 0 && !strings.Contains(err.Error(), c.named) {
			t.Errorf("%+v: shard %d, %v; want shard %d %s", c.request, got, err, c.want, c.named)
		}
	}
}

// TestManyShardsAreNotAllNamed: an error stays short.
func TestManyShardsAreNotAllNamed(t *testing.T) {
	router, err := By(partition.Scheme{Kind: partition.Hash, Shards: 1000})
	if err != nil {
		t.Fatal(err)
	}
	_, err = router.Route(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span("a", "b")}})
	if want := fmt.Sprint([]int{1, 2, 3, 4, 5, 6, 7, 8}) + " and others"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if _, err := By(partition.Scheme{}); err == nil {
		t.Error("a scheme that makes no sense is taken")
	}
}
