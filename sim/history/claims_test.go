package history

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// TestRefusalsOfOtherShards: a transaction that is wrong in two shards may be refused by either, and for nothing that is not wrong with it.
func TestRefusalsOfOtherShards(t *testing.T) {
	missing := kv.Op{Put: &kv.PutRequest{Key: []byte("a"), IgnoreValue: true}}
	there := kv.Op{Put: &kv.PutRequest{Key: []byte("there"), IgnoreValue: true}}
	future := kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("z")}, Revision: 9}}
	present := kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("z")}, Revision: 2}}
	inside := func(ops ...kv.Op) kv.Op { return kv.Op{Txn: &kv.TxnRequest{Success: ops}} }
	for name, c := range map[string]struct {
		ops    []kv.Op
		err    error
		sparse bool
		right  bool
	}{
		"the first":                       {[]kv.Op{missing, future}, kv.ErrKeyNotFound, true, true},
		"the second":                      {[]kv.Op{missing, future}, kv.ErrFutureRevision, true, true},
		"the second, in one shard":        {[]kv.Op{missing, future}, kv.ErrFutureRevision, false, false},
		"the second, the other way round": {[]kv.Op{future, missing}, kv.ErrKeyNotFound, true, true},
		"inside":                          {[]kv.Op{future, inside(there, missing)}, kv.ErrKeyNotFound, true, true},
		"no revision of the future":       {[]kv.Op{missing, present}, kv.ErrFutureRevision, true, false},
		"no key that is missing":          {[]kv.Op{future, there}, kv.ErrKeyNotFound, true, false},
		"no key that is missing, inside":  {[]kv.Op{future, inside(there)}, kv.ErrKeyNotFound, true, false},
		"nothing is wrong":                {[]kv.Op{present, there}, kv.ErrKeyNotFound, true, false},
	} {
		k := &checker{History: &History{Sparse: c.sparse}, model: model.New()}
		if _, err := k.model.Apply(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("there")}}); err != nil {
			t.Fatal(err)
		}
		o := &Operation{Request: &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: c.ops}}, Err: c.err}
		if k.refuses(o) != c.right {
			t.Errorf("%s: right %v, taken for %v", name, c.right, !c.right)
		}
	}
}
