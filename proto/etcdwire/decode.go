package etcdwire

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Limits bound what a transaction may make the decoder allocate and recurse.
type Limits struct {
	// TxnOps is etcd's --max-txn-ops: the longest of compares, success and failure operations of a
	// transaction and, as etcd counts, those of the transactions within it, summed along each path. 0: no limit.
	TxnOps int
	// TxnDepth is how many transactions may be nested into one another; 0: DefaultTxnDepth.
	TxnDepth int
	// Memory reserves for what is decoded, before it is allocated; nil: nobody counts. Without room the error is kv.ErrTooManyRequests.
	Memory *kv.Tally
}

// DefaultTxnDepth is the deepest nesting of transactions: each level is two messages, and 100
// messages is protobuf's usual limit.
const DefaultTxnDepth = 50

func (l Limits) withDefaults() Limits {
	if l.TxnDepth == 0 {
		l.TxnDepth = DefaultTxnDepth
	}
	return l
}

func mergeRange(in []byte, out *kv.RangeRequest) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Span.Start = c.bytes()
		case 2<<3 | wireBytes:
			out.Span.End = c.bytes()
		case 3<<3 | wireVarint:
			out.Limit = c.int64()
		case 4<<3 | wireVarint:
			out.Revision = kv.Revision(c.int64())
		case 5<<3 | wireVarint:
			out.SortOrder = kv.SortOrder(c.enum())
		case 6<<3 | wireVarint:
			out.SortTarget = kv.SortTarget(c.enum())
		case 7<<3 | wireVarint:
			out.Serializable = c.bool()
		case 8<<3 | wireVarint:
			out.KeysOnly = c.bool()
		case 9<<3 | wireVarint:
			out.CountOnly = c.bool()
		case 10<<3 | wireVarint:
			out.MinMod = kv.Revision(c.int64())
		case 11<<3 | wireVarint:
			out.MaxMod = kv.Revision(c.int64())
		case 12<<3 | wireVarint:
			out.MinCreate = kv.Revision(c.int64())
		case 13<<3 | wireVarint:
			out.MaxCreate = kv.Revision(c.int64())
		default:
			c.skip()
		}
	}
	return c.result()
}

func mergePut(in []byte, out *kv.PutRequest) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Key = c.bytes()
		case 2<<3 | wireBytes:
			out.Value = c.bytes()
		case 3<<3 | wireVarint:
			out.Lease = kv.LeaseID(c.int64())
		case 4<<3 | wireVarint:
			out.PrevKV = c.bool()
		case 5<<3 | wireVarint:
			out.IgnoreValue = c.bool()
		case 6<<3 | wireVarint:
			out.IgnoreLease = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

func mergeDeleteRange(in []byte, out *kv.DeleteRangeRequest) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Span.Start = c.bytes()
		case 2<<3 | wireBytes:
			out.Span.End = c.bytes()
		case 3<<3 | wireVarint:
			out.PrevKV = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeCompaction reads an etcdserverpb.CompactionRequest.
func DecodeCompaction(in []byte, out *kv.CompactRequest) error {
	*out = kv.CompactRequest{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.Revision = kv.Revision(c.int64())
		case 2<<3 | wireVarint:
			out.Physical = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeLeaseGrant reads an etcdserverpb.LeaseGrantRequest.
func DecodeLeaseGrant(in []byte, out *kv.LeaseGrantRequest) error {
	*out = kv.LeaseGrantRequest{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.TTLSeconds = c.int64()
		case 2<<3 | wireVarint:
			out.ID = kv.LeaseID(c.int64())
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeLeaseRevoke reads an etcdserverpb.LeaseRevokeRequest.
func DecodeLeaseRevoke(in []byte, out *kv.LeaseRevokeRequest) error {
	id, err := decodeID(in)
	*out = kv.LeaseRevokeRequest{ID: id}
	return err
}

// DecodeLeaseKeepAlive reads an etcdserverpb.LeaseKeepAliveRequest.
func DecodeLeaseKeepAlive(in []byte, out *kv.LeaseKeepAliveRequest) error {
	id, err := decodeID(in)
	*out = kv.LeaseKeepAliveRequest{ID: id}
	return err
}

// decodeID reads the messages whose only field is an int64 ID = 1.
func decodeID(in []byte) (kv.LeaseID, error) {
	var id kv.LeaseID
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			id = kv.LeaseID(c.int64())
		default:
			c.skip()
		}
	}
	return id, c.result()
}

// DecodeLeaseTimeToLive reads an etcdserverpb.LeaseTimeToLiveRequest.
func DecodeLeaseTimeToLive(in []byte, out *kv.LeaseTimeToLiveRequest) error {
	*out = kv.LeaseTimeToLiveRequest{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.ID = kv.LeaseID(c.int64())
		case 2<<3 | wireVarint:
			out.Keys = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeMemberList reads an etcdserverpb.MemberListRequest.
func DecodeMemberList(in []byte, out *kv.MemberListRequest) error {
	*out = kv.MemberListRequest{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.Linearizable = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeAlarm reads an etcdserverpb.AlarmRequest.
func DecodeAlarm(in []byte, out *kv.AlarmRequest) error {
	*out = kv.AlarmRequest{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.Action = kv.AlarmAction(c.enum())
		case 2<<3 | wireVarint:
			out.Alarm.Node = kv.NodeID(c.varint())
		case 3<<3 | wireVarint:
			out.Alarm.Type = kv.AlarmType(c.enum())
		default:
			c.skip()
		}
	}
	return c.result()
}

// DecodeMember reads an etcdserverpb.Member.
func DecodeMember(in []byte, out *kv.NodeRecord) error {
	*out = kv.NodeRecord{}
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.ID = kv.NodeID(c.varint())
		case 2<<3 | wireBytes:
			out.Name = c.utf8()
		case 3<<3 | wireBytes:
			out.PeerURLs = append(out.PeerURLs, c.utf8())
		case 4<<3 | wireBytes:
			out.ClientURLs = append(out.ClientURLs, c.utf8())
		case 5<<3 | wireVarint:
			out.Learner = c.bool()
		default:
			c.skip()
		}
	}
	return c.result()
}

// decodeEmpty checks a message of which no field matters.
func decodeEmpty(in []byte) error {
	c := cursor{b: in}
	for c.more() {
		c.tag()
		c.skip()
	}
	return c.result()
}

// DecodeBody reads the etcd request message that belongs to kind. The result carries no
// principal yet. A request and its message are one allocation for the hot kinds.
func DecodeBody(kind kv.Kind, in []byte, limits Limits) (*kv.Request, error) {
	switch kind {
	case kv.KindRange:
		m := new(struct {
			request kv.Request
			body    kv.RangeRequest
		})
		m.request.Kind, m.request.Range = kind, &m.body
		return &m.request, mergeRange(in, &m.body)
	case kv.KindPut:
		m := new(struct {
			request kv.Request
			body    kv.PutRequest
		})
		m.request.Kind, m.request.Put = kind, &m.body
		return &m.request, mergePut(in, &m.body)
	case kv.KindDeleteRange:
		m := new(struct {
			request kv.Request
			body    kv.DeleteRangeRequest
		})
		m.request.Kind, m.request.DeleteRange = kind, &m.body
		return &m.request, mergeDeleteRange(in, &m.body)
	case kv.KindTxn:
		m := new(struct {
			request kv.Request
			body    kv.TxnRequest
		})
		m.request.Kind, m.request.Txn = kind, &m.body
		return &m.request, DecodeTxn(in, &m.body, limits)
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		m := new(struct {
			request kv.Request
			body    kv.CommitRequest
		})
		m.request.Kind, m.request.Commit = kind, &m.body
		return &m.request, decodeCommit(in, &m.body, limits)
	default:
		return decodeRareBody(kind, in)
	}
}

func decodeRareBody(kind kv.Kind, in []byte) (*kv.Request, error) {
	r := &kv.Request{Kind: kind}
	switch kind {
	case kv.KindCompact:
		r.Compact = new(kv.CompactRequest)
		return r, DecodeCompaction(in, r.Compact)
	case kv.KindLeaseGrant:
		r.LeaseGrant = new(kv.LeaseGrantRequest)
		return r, DecodeLeaseGrant(in, r.LeaseGrant)
	case kv.KindLeaseRevoke:
		r.LeaseRevoke = new(kv.LeaseRevokeRequest)
		return r, DecodeLeaseRevoke(in, r.LeaseRevoke)
	case kv.KindLeaseKeepAlive:
		r.LeaseKeepAlive = new(kv.LeaseKeepAliveRequest)
		return r, DecodeLeaseKeepAlive(in, r.LeaseKeepAlive)
	case kv.KindLeaseTimeToLive:
		r.LeaseTimeToLive = new(kv.LeaseTimeToLiveRequest)
		return r, DecodeLeaseTimeToLive(in, r.LeaseTimeToLive)
	case kv.KindAlarm:
		r.Alarm = new(kv.AlarmRequest)
		return r, DecodeAlarm(in, r.Alarm)
	case kv.KindPublishNode:
		r.PublishNode = new(kv.NodeRecord)
		return r, DecodeMember(in, r.PublishNode)
	case kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys:
		r.LeaseBinding = new(kv.LeaseBinding)
		return r, decodeBinding(in, r.LeaseBinding)
	case kv.KindMemberList:
		r.MemberList = new(kv.MemberListRequest)
		return r, DecodeMemberList(in, r.MemberList)
	case kv.KindAuth:
		r.Auth = new(kv.AuthRequest)
		return r, decodeAuth(in, r.Auth)
	case kv.KindMember:
		r.Member = new(kv.MemberRequest)
		return r, decodeMemberChange(in, r.Member)
	case kv.KindLeaseLeases:
		return r, decodeEmpty(in)
	default:
		return nil, fmt.Errorf("request kind %d: %w", kind, ErrUnknownKind)
	}
}
