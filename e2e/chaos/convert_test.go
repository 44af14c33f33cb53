package chaos

import (
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/kv"
)

// toOp writes a request as the official client takes it.
func toOp(r *kv.Request) clientv3.Op {
	switch r.Kind {
	case kv.KindRange:
		return rangeOp(r.Range)
	case kv.KindPut:
		return putOp(r.Put)
	case kv.KindDeleteRange:
		return deleteOp(r.DeleteRange)
	case kv.KindTxn:
		return txnOp(r.Txn)
	}
	panic("no operation of a client")
}

func rangeOp(r *kv.RangeRequest) clientv3.Op {
	options := []clientv3.OpOption{clientv3.WithRev(int64(r.Revision)), clientv3.WithLimit(r.Limit)}
	if len(r.Span.End) > 0 {
		options = append(options, clientv3.WithRange(string(r.Span.End)))
	}
	if r.Serializable {
		options = append(options, clientv3.WithSerializable())
	}
	return clientv3.OpGet(string(r.Span.Start), options...)
}

func putOp(r *kv.PutRequest) clientv3.Op {
	options := []clientv3.OpOption{clientv3.WithLease(clientv3.LeaseID(r.Lease))}
	if r.PrevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	return clientv3.OpPut(string(r.Key), string(r.Value), options...)
}

func deleteOp(r *kv.DeleteRangeRequest) clientv3.Op {
	var options []clientv3.OpOption
	if len(r.Span.End) > 0 {
		options = append(options, clientv3.WithRange(string(r.Span.End)))
	}
	if r.PrevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	return clientv3.OpDelete(string(r.Span.Start), options...)
}

func txnOp(r *kv.TxnRequest) clientv3.Op {
	var compares []clientv3.Cmp
	for _, c := range r.Compare {
		key := string(c.Span.Start)
		result := []string{"=", ">", "<", "!="}[c.Result]
		switch c.Target {
		case kv.CompareVersion:
			compares = append(compares, clientv3.Compare(clientv3.Version(key), result, c.Integer))
		case kv.CompareCreate:
			compares = append(compares, clientv3.Compare(clientv3.CreateRevision(key), result, c.Integer))
		case kv.CompareMod:
			compares = append(compares, clientv3.Compare(clientv3.ModRevision(key), result, c.Integer))
		case kv.CompareValue:
			compares = append(compares, clientv3.Compare(clientv3.Value(key), result, string(c.Value)))
		}
	}
	return clientv3.OpTxn(compares, ops(r.Success), ops(r.Failure))
}

func ops(list []kv.Op) (converted []clientv3.Op) {
	for _, o := range list {
		switch {
		case o.Range != nil:
			converted = append(converted, rangeOp(o.Range))
		case o.Put != nil:
			converted = append(converted, putOp(o.Put))
		case o.DeleteRange != nil:
			converted = append(converted, deleteOp(o.DeleteRange))
		}
	}
	return converted
}

// fromResponse reads the official client's answer.
func fromResponse(kind kv.Kind, r clientv3.OpResponse) *kv.Response {
	answer := &kv.Response{Kind: kind}
	switch kind {
	case kv.KindRange:
		answer.Revision, answer.Range = kv.Revision(r.Get().Header.Revision), fromRange((*etcdserverpb.RangeResponse)(r.Get()))
	case kv.KindPut:
		answer.Revision, answer.Put = kv.Revision(r.Put().Header.Revision), &kv.PutResponse{Prev: fromKVPointer(r.Put().PrevKv)}
	case kv.KindDeleteRange:
		answer.Revision, answer.DeleteRange = kv.Revision(r.Del().Header.Revision), fromDelete((*etcdserverpb.DeleteRangeResponse)(r.Del()))
	case kv.KindTxn:
		answer.Revision, answer.Txn = kv.Revision(r.Txn().Header.Revision), fromTxn((*etcdserverpb.TxnResponse)(r.Txn()))
	}
	return answer
}

func fromRange(r *etcdserverpb.RangeResponse) *kv.RangeResponse {
	return &kv.RangeResponse{KVs: fromKVs(r.Kvs), More: r.More, Count: r.Count}
}

func fromDelete(r *etcdserverpb.DeleteRangeResponse) *kv.DeleteRangeResponse {
	return &kv.DeleteRangeResponse{Deleted: r.Deleted, Prev: fromKVs(r.PrevKvs)}
}

func fromTxn(r *etcdserverpb.TxnResponse) *kv.TxnResponse {
	answer := &kv.TxnResponse{Succeeded: r.Succeeded}
	for _, one := range r.Responses {
		var o kv.OpResponse
		if x := one.GetResponseRange(); x != nil {
			o.Range, o.Revision = fromRange(x), kv.Revision(x.Header.GetRevision())
		}
		if x := one.GetResponsePut(); x != nil {
			o.Put, o.Revision = &kv.PutResponse{Prev: fromKVPointer(x.PrevKv)}, kv.Revision(x.Header.GetRevision())
		}
		if x := one.GetResponseDeleteRange(); x != nil {
			o.DeleteRange, o.Revision = fromDelete(x), kv.Revision(x.Header.GetRevision())
		}
		answer.Responses = append(answer.Responses, o)
	}
	return answer
}

func fromKVs(list []*mvccpb.KeyValue) (kvs []kv.KeyValue) {
	for _, e := range list {
		kvs = append(kvs, fromKV(e))
	}
	return kvs
}

func fromKVPointer(e *mvccpb.KeyValue) *kv.KeyValue {
	if e == nil {
		return nil
	}
	converted := fromKV(e)
	return &converted
}

func fromKV(e *mvccpb.KeyValue) kv.KeyValue {
	return kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: kv.Revision(e.CreateRevision),
		ModRevision: kv.Revision(e.ModRevision), Version: e.Version, Lease: kv.LeaseID(e.Lease)}
}

func fromEvent(e *clientv3.Event) kv.Event {
	converted := kv.Event{KV: fromKV(e.Kv), Prev: fromKVPointer(e.PrevKv)}
	if e.Type == clientv3.EventTypeDelete {
		converted.Type = kv.EventDelete
	}
	return converted
}

// refusals are errors which say that a request had no effect and will have none.
var refusals = []error{
	rpctypes.ErrLeaseNotFound, rpctypes.ErrCompacted, rpctypes.ErrFutureRev, rpctypes.ErrLeaseExist,
	rpctypes.ErrEmptyKey, rpctypes.ErrDuplicateKey, rpctypes.ErrKeyNotFound,
}

func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}
