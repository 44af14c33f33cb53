package shard

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func TestCostBytes(t *testing.T) {
	put := func(bytes int) kv.Op {
		return kv.Op{Put: &kv.PutRequest{Key: []byte("key"), Value: make([]byte, bytes-3)}}
	}
	nested := kv.Op{Txn: &kv.TxnRequest{Success: []kv.Op{put(10)}, Failure: []kv.Op{put(1000), put(1000)}}}
	for name, test := range map[string]struct {
		request *kv.Request
		want    int64
	}{
		"put":                            {&kv.Request{Kind: kv.KindPut, Put: put(100).Put}, 356},
		"the dearer branch":              {&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{put(10)}, Failure: []kv.Op{put(20), nested}}}, 276 + 2*1256},
		"lease":                          {&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{}}, 64},
		"transaction that only deletes":  {&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{DeleteRange: &kv.DeleteRangeRequest{}}}}}, 0},
		"alarm":                          {&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{}}, 0},
		"put without a body is no crash": {&kv.Request{Kind: kv.KindPut}, 0},
	} {
		if got := CostBytes(test.request); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}
