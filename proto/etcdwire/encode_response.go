package etcdwire

import "github.com/quoratedb/quorate/kv"

// Header is etcdserverpb.ResponseHeader.
type Header struct {
	ClusterID kv.ClusterID
	MemberID  kv.NodeID
	Revision  kv.Revision
	RaftTerm  uint64
}

func (h *Header) size() int {
	return intSize(int64(h.ClusterID)) + intSize(int64(h.MemberID)) + intSize(int64(h.Revision)) + intSize(int64(h.RaftTerm))
}

// field writes the header as field 1, which every response has even when it is empty.
func (h *Header) field(dst []byte) []byte {
	dst = appendHead(dst, 1, h.size())
	dst = appendInt(dst, 1, int64(h.ClusterID))
	dst = appendInt(dst, 2, int64(h.MemberID))
	dst = appendInt(dst, 3, int64(h.Revision))
	return appendInt(dst, 4, int64(h.RaftTerm))
}

func (h *Header) fieldSize() int { return messageSize(h.size()) }

// appendKV writes an mvccpb.KeyValue.
func appendKV(dst []byte, p *kv.KeyValue) []byte {
	dst = appendBytes(dst, 1, p.Key)
	dst = appendInt(dst, 2, int64(p.CreateRevision))
	dst = appendInt(dst, 3, int64(p.ModRevision))
	dst = appendInt(dst, 4, p.Version)
	dst = appendBytes(dst, 5, p.Value)
	return appendInt(dst, 6, int64(p.Lease))
}

func kvSize(p *kv.KeyValue) int {
	return bytesSize(len(p.Key)) + intSize(int64(p.CreateRevision)) + intSize(int64(p.ModRevision)) +
		intSize(p.Version) + bytesSize(len(p.Value)) + intSize(int64(p.Lease))
}

func appendKVs(dst []byte, number byte, list []kv.KeyValue) []byte {
	for i := range list {
		dst = appendKV(appendHead(dst, number, kvSize(&list[i])), &list[i])
	}
	return dst
}

func kvsSize(list []kv.KeyValue) int {
	n := 0
	for i := range list {
		n += messageSize(kvSize(&list[i]))
	}
	return n
}

// AppendRangeResponse writes an etcdserverpb.RangeResponse.
func AppendRangeResponse(dst []byte, h Header, r *kv.RangeResponse) []byte {
	dst = appendKVs(h.field(dst), 2, r.KVs)
	return appendInt(appendBool(dst, 3, r.More), 4, r.Count)
}

// RangeResponseSize is the number of bytes AppendRangeResponse writes.
func RangeResponseSize(h Header, r *kv.RangeResponse) int {
	return h.fieldSize() + kvsSize(r.KVs) + boolSize(r.More) + intSize(r.Count)
}

// RangeKeySize is what a key takes in an etcdserverpb.RangeResponse, with a key and a value of these lengths and the rest as in p.
func RangeKeySize(p *kv.KeyValue, keyBytes, valueBytes int) int {
	return messageSize(kvSize(p) - bytesSize(len(p.Key)) - bytesSize(len(p.Value)) + bytesSize(keyBytes) + bytesSize(valueBytes))
}

// TakeRangeKeys appends keys of a range to dst as fields of an etcdserverpb.RangeResponse, as many as its capacity has room for and at least
// one, and takes them out of the response, so that their memory is free. What is written and the response that is left, in any order, make up the whole message.
func TakeRangeKeys(dst []byte, r *kv.RangeResponse) []byte {
	for start := len(dst); len(r.KVs) > 0; r.KVs = r.KVs[1:] {
		p := &r.KVs[0]
		size := kvSize(p)
		if len(dst) > start && len(dst)+messageSize(size) > cap(dst) {
			break
		}
		dst = appendKV(appendHead(dst, 2, size), p)
		*p = kv.KeyValue{}
	}
	return dst
}

// AppendRangeChunk writes an etcdserverpb.RangeStreamResponse. All chunks carry keys; only the last
// has a header, more and count: h is nil for all others, and more and count are then left out.
func AppendRangeChunk(dst []byte, h *Header, r *kv.RangeResponse) []byte {
	if h == nil {
		dst = appendHead(dst, 1, kvsSize(r.KVs))
		return appendKVs(dst, 2, r.KVs)
	}
	dst = appendHead(dst, 1, RangeResponseSize(*h, r))
	return AppendRangeResponse(dst, *h, r)
}

// RangeChunkSize is the number of bytes AppendRangeChunk writes.
func RangeChunkSize(h *Header, r *kv.RangeResponse) int {
	if h == nil {
		return messageSize(kvsSize(r.KVs))
	}
	return messageSize(RangeResponseSize(*h, r))
}

// AppendPutResponse writes an etcdserverpb.PutResponse.
func AppendPutResponse(dst []byte, h Header, r *kv.PutResponse) []byte {
	dst = h.field(dst)
	if r.Prev == nil {
		return dst
	}
	return appendKV(appendHead(dst, 2, kvSize(r.Prev)), r.Prev)
}

func putResponseSize(h Header, r *kv.PutResponse) int {
	if r.Prev == nil {
		return h.fieldSize()
	}
	return h.fieldSize() + messageSize(kvSize(r.Prev))
}

// AppendDeleteRangeResponse writes an etcdserverpb.DeleteRangeResponse.
func AppendDeleteRangeResponse(dst []byte, h Header, r *kv.DeleteRangeResponse) []byte {
	return appendKVs(appendInt(h.field(dst), 2, r.Deleted), 3, r.Prev)
}

func deleteRangeResponseSize(h Header, r *kv.DeleteRangeResponse) int {
	return h.fieldSize() + intSize(r.Deleted) + kvsSize(r.Prev)
}

// AppendTxnResponse writes an etcdserverpb.TxnResponse. The headers of the responses
// within carry nothing but a revision, as etcd's do.
func AppendTxnResponse(dst []byte, h Header, r *kv.TxnResponse) []byte {
	dst = appendBool(h.field(dst), 2, r.Succeeded)
	for i := range r.Responses {
		op := &r.Responses[i]
		dst = appendOpResponse(appendHead(dst, 3, opResponseSize(op)), op)
	}
	return dst
}

func txnResponseSize(h Header, r *kv.TxnResponse) int {
	n := h.fieldSize() + boolSize(r.Succeeded)
	for i := range r.Responses {
		n += messageSize(opResponseSize(&r.Responses[i]))
	}
	return n
}

func appendOpResponse(dst []byte, op *kv.OpResponse) []byte {
	h := Header{Revision: op.Revision}
	switch {
	case op.Range != nil:
		return AppendRangeResponse(appendHead(dst, 1, RangeResponseSize(h, op.Range)), h, op.Range)
	case op.Put != nil:
		return AppendPutResponse(appendHead(dst, 2, putResponseSize(h, op.Put)), h, op.Put)
	case op.DeleteRange != nil:
		return AppendDeleteRangeResponse(appendHead(dst, 3, deleteRangeResponseSize(h, op.DeleteRange)), h, op.DeleteRange)
	case op.Txn != nil:
		return AppendTxnResponse(appendHead(dst, 4, txnResponseSize(h, op.Txn)), h, op.Txn)
	default:
		return dst
	}
}

func opResponseSize(op *kv.OpResponse) int {
	h := Header{Revision: op.Revision}
	switch {
	case op.Range != nil:
		return messageSize(RangeResponseSize(h, op.Range))
	case op.Put != nil:
		return messageSize(putResponseSize(h, op.Put))
	case op.DeleteRange != nil:
		return messageSize(deleteRangeResponseSize(h, op.DeleteRange))
	case op.Txn != nil:
		return messageSize(txnResponseSize(h, op.Txn))
	default:
		return 0
	}
}

// AppendLeaseGrantResponse writes an etcdserverpb.LeaseGrantResponse.
func AppendLeaseGrantResponse(dst []byte, h Header, r *kv.LeaseGrantResponse) []byte {
	return appendInt(appendInt(h.field(dst), 2, int64(r.ID)), 3, r.TTLSeconds)
}

// AppendLeaseKeepAliveResponse writes an etcdserverpb.LeaseKeepAliveResponse.
func AppendLeaseKeepAliveResponse(dst []byte, h Header, r *kv.LeaseKeepAliveResponse) []byte {
	return appendInt(appendInt(h.field(dst), 2, int64(r.ID)), 3, r.TTLSeconds)
}

// AppendLeaseTimeToLiveResponse writes an etcdserverpb.LeaseTimeToLiveResponse.
func AppendLeaseTimeToLiveResponse(dst []byte, h Header, r *kv.LeaseTimeToLiveResponse) []byte {
	dst = appendInt(h.field(dst), 2, int64(r.ID))
	dst = appendInt(dst, 3, r.TTLSeconds)
	dst = appendInt(dst, 4, r.GrantedTTLSeconds)
	for _, key := range r.Keys {
		dst = append(appendHead(dst, 5, len(key)), key...)
	}
	if r.Binding != nil {
		dst = appendBinding(appendHead(dst, bindingField, bindingSize(r.Binding)), r.Binding)
	}
	return dst
}

// AppendLeaseLeasesResponse writes an etcdserverpb.LeaseLeasesResponse.
func AppendLeaseLeasesResponse(dst []byte, h Header, r *kv.LeaseLeasesResponse) []byte {
	dst = h.field(dst)
	for _, id := range r.IDs {
		dst = appendInt(appendHead(dst, 2, intSize(int64(id))), 1, int64(id))
	}
	return dst
}

// AppendAlarmResponse writes an etcdserverpb.AlarmResponse.
func AppendAlarmResponse(dst []byte, h Header, r *kv.AlarmResponse) []byte {
	dst = h.field(dst)
	for _, a := range r.Alarms {
		dst = appendHead(dst, 2, intSize(int64(a.Node))+intSize(int64(a.Type)))
		dst = appendInt(appendInt(dst, 1, int64(a.Node)), 2, int64(a.Type))
	}
	return dst
}

// AppendMemberListResponse writes an etcdserverpb.MemberListResponse.
func AppendMemberListResponse(dst []byte, h Header, r *kv.MemberListResponse) []byte {
	dst = h.field(dst)
	for i := range r.Nodes {
		dst = AppendMember(appendHead(dst, 2, memberSize(&r.Nodes[i])), &r.Nodes[i])
	}
	return dst
}

// AppendAnswer writes the etcd response message that belongs to the response's kind. The header's
// revision is the response's.
func AppendAnswer(dst []byte, h Header, r *kv.Response) []byte {
	h.Revision = r.Revision
	switch r.Kind {
	case kv.KindRange:
		return AppendRangeResponse(dst, h, r.Range)
	case kv.KindPut:
		return AppendPutResponse(dst, h, r.Put)
	case kv.KindDeleteRange:
		return AppendDeleteRangeResponse(dst, h, r.DeleteRange)
	case kv.KindTxn:
		return AppendTxnResponse(dst, h, r.Txn)
	case kv.KindLeaseGrant:
		return AppendLeaseGrantResponse(dst, h, r.LeaseGrant)
	case kv.KindLeaseKeepAlive:
		return AppendLeaseKeepAliveResponse(dst, h, r.LeaseKeepAlive)
	case kv.KindLeaseTimeToLive, kv.KindLeaseAttach, kv.KindLeaseKeys:
		return AppendLeaseTimeToLiveResponse(dst, h, r.LeaseTimeToLive)
	case kv.KindLeaseLeases:
		return AppendLeaseLeasesResponse(dst, h, r.LeaseLeases)
	case kv.KindAlarm:
		return AppendAlarmResponse(dst, h, r.Alarm)
	case kv.KindMemberList:
		return AppendMemberListResponse(dst, h, r.MemberList)
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		return appendCommitResponse(dst, h, r.Commit)
	case kv.KindAuth:
		return appendAuthResponse(dst, h, r.Auth)
	case kv.KindMember:
		return appendMemberChanged(dst, h, r.MemberList)
	default: // Compact, LeaseRevoke, LeaseRelease and PublishNode answer with a header alone
		return h.field(dst)
	}
}

// AnswerSize is the number of bytes AppendAnswer writes for the hot kinds and those about transactions over several shards; for the others a guess.
func AnswerSize(h Header, r *kv.Response) int {
	h.Revision = r.Revision
	switch r.Kind {
	case kv.KindRange:
		return RangeResponseSize(h, r.Range)
	case kv.KindPut:
		return putResponseSize(h, r.Put)
	case kv.KindDeleteRange:
		return deleteRangeResponseSize(h, r.DeleteRange)
	case kv.KindTxn:
		return txnResponseSize(h, r.Txn)
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		return commitResponseSize(h, r.Commit)
	default:
		return h.fieldSize() + 64
	}
}
