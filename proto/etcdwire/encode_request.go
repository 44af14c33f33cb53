package etcdwire

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
)

// AppendRange writes an etcdserverpb.RangeRequest.
func AppendRange(dst []byte, r *kv.RangeRequest) []byte {
	dst = appendBytes(dst, 1, r.Span.Start)
	dst = appendBytes(dst, 2, r.Span.End)
	dst = appendInt(dst, 3, r.Limit)
	dst = appendInt(dst, 4, int64(r.Revision))
	dst = appendInt(dst, 5, int64(r.SortOrder))
	dst = appendInt(dst, 6, int64(r.SortTarget))
	dst = appendBool(dst, 7, r.Serializable)
	dst = appendBool(dst, 8, r.KeysOnly)
	dst = appendBool(dst, 9, r.CountOnly)
	dst = appendInt(dst, 10, int64(r.MinMod))
	dst = appendInt(dst, 11, int64(r.MaxMod))
	dst = appendInt(dst, 12, int64(r.MinCreate))
	return appendInt(dst, 13, int64(r.MaxCreate))
}

func rangeSize(r *kv.RangeRequest) int {
	return bytesSize(len(r.Span.Start)) + bytesSize(len(r.Span.End)) + intSize(r.Limit) + intSize(int64(r.Revision)) +
		intSize(int64(r.SortOrder)) + intSize(int64(r.SortTarget)) + boolSize(r.Serializable) + boolSize(r.KeysOnly) + boolSize(r.CountOnly) +
		intSize(int64(r.MinMod)) + intSize(int64(r.MaxMod)) + intSize(int64(r.MinCreate)) + intSize(int64(r.MaxCreate))
}

// AppendPut writes an etcdserverpb.PutRequest.
func AppendPut(dst []byte, r *kv.PutRequest) []byte {
	dst = appendBytes(dst, 1, r.Key)
	dst = appendBytes(dst, 2, r.Value)
	dst = appendInt(dst, 3, int64(r.Lease))
	dst = appendBool(dst, 4, r.PrevKV)
	dst = appendBool(dst, 5, r.IgnoreValue)
	return appendBool(dst, 6, r.IgnoreLease)
}

func putSize(r *kv.PutRequest) int {
	return bytesSize(len(r.Key)) + bytesSize(len(r.Value)) + intSize(int64(r.Lease)) +
		boolSize(r.PrevKV) + boolSize(r.IgnoreValue) + boolSize(r.IgnoreLease)
}

// AppendDeleteRange writes an etcdserverpb.DeleteRangeRequest.
func AppendDeleteRange(dst []byte, r *kv.DeleteRangeRequest) []byte {
	dst = appendBytes(dst, 1, r.Span.Start)
	dst = appendBytes(dst, 2, r.Span.End)
	return appendBool(dst, 3, r.PrevKV)
}

func deleteRangeSize(r *kv.DeleteRangeRequest) int {
	return bytesSize(len(r.Span.Start)) + bytesSize(len(r.Span.End)) + boolSize(r.PrevKV)
}

// AppendTxn writes an etcdserverpb.TxnRequest.
func AppendTxn(dst []byte, r *kv.TxnRequest) []byte {
	for i := range r.Compare {
		dst = appendHead(dst, 1, compareSize(&r.Compare[i]))
		dst = appendCompare(dst, &r.Compare[i])
	}
	dst = appendOps(dst, 2, r.Success)
	return appendOps(dst, 3, r.Failure)
}

func appendOps(dst []byte, number byte, ops []kv.Op) []byte {
	for i := range ops {
		dst = appendOp(appendHead(dst, number, opSize(&ops[i])), &ops[i])
	}
	return dst
}

func txnSize(r *kv.TxnRequest) int {
	n := 0
	for i := range r.Compare {
		n += messageSize(compareSize(&r.Compare[i]))
	}
	for i := range r.Success {
		n += messageSize(opSize(&r.Success[i]))
	}
	for i := range r.Failure {
		n += messageSize(opSize(&r.Failure[i]))
	}
	return n
}

func appendOp(dst []byte, op *kv.Op) []byte {
	switch {
	case op.Range != nil:
		return AppendRange(appendHead(dst, 1, rangeSize(op.Range)), op.Range)
	case op.Put != nil:
		return AppendPut(appendHead(dst, 2, putSize(op.Put)), op.Put)
	case op.DeleteRange != nil:
		return AppendDeleteRange(appendHead(dst, 3, deleteRangeSize(op.DeleteRange)), op.DeleteRange)
	case op.Txn != nil:
		return AppendTxn(appendHead(dst, 4, txnSize(op.Txn)), op.Txn)
	default:
		return dst
	}
}

func opSize(op *kv.Op) int {
	switch {
	case op.Range != nil:
		return messageSize(rangeSize(op.Range))
	case op.Put != nil:
		return messageSize(putSize(op.Put))
	case op.DeleteRange != nil:
		return messageSize(deleteRangeSize(op.DeleteRange))
	case op.Txn != nil:
		return messageSize(txnSize(op.Txn))
	default:
		return 0
	}
}

// appendCompare writes the right-hand side even when it is zero, as members of a oneof are.
func appendCompare(dst []byte, c *kv.Compare) []byte {
	dst = appendInt(dst, 1, int64(c.Result))
	dst = appendInt(dst, 2, int64(c.Target))
	dst = appendBytes(dst, 3, c.Span.Start)
	switch union := compareUnion(c.Target); union {
	case 0:
	case unionValue:
		dst = append(appendHead(dst, unionValue, len(c.Value)), c.Value...)
	default:
		dst = binary.AppendUvarint(append(dst, union<<3|wireVarint), uint64(c.Integer))
	}
	if len(c.Span.End) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, 64<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(c.Span.End)))
	return append(dst, c.Span.End...)
}

func compareSize(c *kv.Compare) int {
	n := intSize(int64(c.Result)) + intSize(int64(c.Target)) + bytesSize(len(c.Span.Start))
	switch compareUnion(c.Target) {
	case 0:
	case unionValue:
		n += messageSize(len(c.Value))
	default:
		n += 1 + varintSize(uint64(c.Integer))
	}
	if len(c.Span.End) > 0 {
		n += 1 + messageSize(len(c.Span.End)) // its tag has two bytes
	}
	return n
}

// AppendCompaction writes an etcdserverpb.CompactionRequest.
func AppendCompaction(dst []byte, r *kv.CompactRequest) []byte {
	return appendBool(appendInt(dst, 1, int64(r.Revision)), 2, r.Physical)
}

// AppendLeaseGrant writes an etcdserverpb.LeaseGrantRequest.
func AppendLeaseGrant(dst []byte, r *kv.LeaseGrantRequest) []byte {
	return appendInt(appendInt(dst, 1, r.TTLSeconds), 2, int64(r.ID))
}

// AppendLeaseTimeToLive writes an etcdserverpb.LeaseTimeToLiveRequest.
func AppendLeaseTimeToLive(dst []byte, r *kv.LeaseTimeToLiveRequest) []byte {
	return appendBool(appendInt(dst, 1, int64(r.ID)), 2, r.Keys)
}

// AppendAlarm writes an etcdserverpb.AlarmRequest.
func AppendAlarm(dst []byte, r *kv.AlarmRequest) []byte {
	dst = appendInt(dst, 1, int64(r.Action))
	dst = appendInt(dst, 2, int64(r.Alarm.Node))
	return appendInt(dst, 3, int64(r.Alarm.Type))
}

// AppendMember writes an etcdserverpb.Member.
func AppendMember(dst []byte, r *kv.NodeRecord) []byte {
	dst = appendInt(dst, 1, int64(r.ID))
	dst = appendBytes(dst, 2, r.Name)
	dst = appendStrings(dst, 3, r.PeerURLs)
	dst = appendStrings(dst, 4, r.ClientURLs)
	return appendBool(dst, 5, r.Learner)
}

func memberSize(r *kv.NodeRecord) int {
	n := intSize(int64(r.ID)) + bytesSize(len(r.Name)) + boolSize(r.Learner)
	for _, url := range r.PeerURLs {
		n += messageSize(len(url))
	}
	for _, url := range r.ClientURLs {
		n += messageSize(len(url))
	}
	return n
}

// appendStrings writes a repeated field: empty elements count.
func appendStrings(dst []byte, number byte, list []string) []byte {
	for _, s := range list {
		dst = append(appendHead(dst, number, len(s)), s...)
	}
	return dst
}

// AppendBody writes the etcd request message that belongs to the request's kind.
func AppendBody(dst []byte, r *kv.Request) []byte {
	switch r.Kind {
	case kv.KindRange:
		return AppendRange(dst, r.Range)
	case kv.KindPut:
		return AppendPut(dst, r.Put)
	case kv.KindDeleteRange:
		return AppendDeleteRange(dst, r.DeleteRange)
	case kv.KindTxn:
		return AppendTxn(dst, r.Txn)
	case kv.KindCompact:
		return AppendCompaction(dst, r.Compact)
	case kv.KindLeaseGrant:
		return AppendLeaseGrant(dst, r.LeaseGrant)
	case kv.KindLeaseRevoke:
		return appendInt(dst, 1, int64(r.LeaseRevoke.ID))
	case kv.KindLeaseKeepAlive:
		return appendInt(dst, 1, int64(r.LeaseKeepAlive.ID))
	case kv.KindLeaseTimeToLive:
		return AppendLeaseTimeToLive(dst, r.LeaseTimeToLive)
	case kv.KindAlarm:
		return AppendAlarm(dst, r.Alarm)
	case kv.KindPublishNode:
		return AppendMember(dst, r.PublishNode)
	case kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys:
		return appendBinding(dst, r.LeaseBinding)
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		return appendCommit(dst, r.Commit)
	case kv.KindAuth:
		return appendAuth(dst, r.Auth)
	case kv.KindMember:
		return appendMemberChange(dst, r.Member)
	case kv.KindMemberList:
		return appendBool(dst, 1, r.MemberList.Linearizable)
	default: // LeaseLeases has no fields
		return dst
	}
}
