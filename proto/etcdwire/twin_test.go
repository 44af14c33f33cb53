package etcdwire

import (
	"bytes"
	"math/rand"

	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// This file is the stupid twin: the generated code reads and writes the wire, and plain
// field-by-field conversions translate between its types and ours.

func pick(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func pickEnum[E ~int32](e E) uint8 {
	if e < 0 || e > 255 {
		return Unknown
	}
	return uint8(e)
}

func list[P, K any](from []P, convert func(P) K) []K {
	var to []K
	for _, p := range from {
		to = append(to, convert(p))
	}
	return to
}

func rangeFromPB(p *etcdserverpb.RangeRequest) *kv.RangeRequest {
	return &kv.RangeRequest{
		Span: kv.Span{Start: pick(p.Key), End: pick(p.RangeEnd)}, Limit: p.Limit, Revision: kv.Revision(p.Revision),
		SortOrder: kv.SortOrder(pickEnum(p.SortOrder)), SortTarget: kv.SortTarget(pickEnum(p.SortTarget)),
		Serializable: p.Serializable, KeysOnly: p.KeysOnly, CountOnly: p.CountOnly,
		MinMod: kv.Revision(p.MinModRevision), MaxMod: kv.Revision(p.MaxModRevision),
		MinCreate: kv.Revision(p.MinCreateRevision), MaxCreate: kv.Revision(p.MaxCreateRevision),
	}
}

func putFromPB(p *etcdserverpb.PutRequest) *kv.PutRequest {
	return &kv.PutRequest{Key: pick(p.Key), Value: pick(p.Value), Lease: kv.LeaseID(p.Lease),
		PrevKV: p.PrevKv, IgnoreValue: p.IgnoreValue, IgnoreLease: p.IgnoreLease}
}

func deleteFromPB(p *etcdserverpb.DeleteRangeRequest) *kv.DeleteRangeRequest {
	return &kv.DeleteRangeRequest{Span: kv.Span{Start: pick(p.Key), End: pick(p.RangeEnd)}, PrevKV: p.PrevKv}
}

func compareFromPB(p *etcdserverpb.Compare) kv.Compare {
	c := kv.Compare{Span: kv.Span{Start: pick(p.Key), End: pick(p.RangeEnd)},
		Target: kv.CompareTarget(pickEnum(p.Target)), Result: kv.CompareResult(pickEnum(p.Result))}
	switch c.Target { // the getters answer zero when another case of the union is set
	case kv.CompareVersion:
		c.Integer = p.GetVersion()
	case kv.CompareCreate:
		c.Integer = p.GetCreateRevision()
	case kv.CompareMod:
		c.Integer = p.GetModRevision()
	case kv.CompareLease:
		c.Integer = p.GetLease()
	case kv.CompareValue:
		c.Value = pick(p.GetValue())
	}
	return c
}

func opFromPB(p *etcdserverpb.RequestOp) kv.Op {
	switch r := p.Request.(type) {
	case *etcdserverpb.RequestOp_RequestRange:
		return kv.Op{Range: rangeFromPB(r.RequestRange)}
	case *etcdserverpb.RequestOp_RequestPut:
		return kv.Op{Put: putFromPB(r.RequestPut)}
	case *etcdserverpb.RequestOp_RequestDeleteRange:
		return kv.Op{DeleteRange: deleteFromPB(r.RequestDeleteRange)}
	case *etcdserverpb.RequestOp_RequestTxn:
		return kv.Op{Txn: txnFromPB(r.RequestTxn)}
	}
	return kv.Op{}
}

func txnFromPB(p *etcdserverpb.TxnRequest) *kv.TxnRequest {
	return &kv.TxnRequest{Compare: list(p.Compare, compareFromPB), Success: list(p.Success, opFromPB), Failure: list(p.Failure, opFromPB)}
}

func memberFromPB(p *etcdserverpb.Member) kv.NodeRecord {
	return kv.NodeRecord{ID: kv.NodeID(p.ID), Name: p.Name, PeerURLs: p.PeerURLs, ClientURLs: p.ClientURLs, Learner: p.IsLearner}
}

// requestTwins pairs each kind with its protobuf message and the conversion from it.
var requestTwins = map[kv.Kind]struct {
	empty   proto.Message
	convert func(proto.Message) *kv.Request
}{
	kv.KindRange: {&etcdserverpb.RangeRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{Range: rangeFromPB(m.(*etcdserverpb.RangeRequest))}
	}},
	kv.KindPut: {&etcdserverpb.PutRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{Put: putFromPB(m.(*etcdserverpb.PutRequest))}
	}},
	kv.KindDeleteRange: {&etcdserverpb.DeleteRangeRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{DeleteRange: deleteFromPB(m.(*etcdserverpb.DeleteRangeRequest))}
	}},
	kv.KindTxn: {&etcdserverpb.TxnRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{Txn: txnFromPB(m.(*etcdserverpb.TxnRequest))}
	}},
	kv.KindCompact: {&etcdserverpb.CompactionRequest{}, func(m proto.Message) *kv.Request {
		p := m.(*etcdserverpb.CompactionRequest)
		return &kv.Request{Compact: &kv.CompactRequest{Revision: kv.Revision(p.Revision), Physical: p.Physical}}
	}},
	kv.KindLeaseGrant: {&etcdserverpb.LeaseGrantRequest{}, func(m proto.Message) *kv.Request {
		p := m.(*etcdserverpb.LeaseGrantRequest)
		return &kv.Request{LeaseGrant: &kv.LeaseGrantRequest{ID: kv.LeaseID(p.ID), TTLSeconds: p.TTL}}
	}},
	kv.KindLeaseRevoke: {&etcdserverpb.LeaseRevokeRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{LeaseRevoke: &kv.LeaseRevokeRequest{ID: kv.LeaseID(m.(*etcdserverpb.LeaseRevokeRequest).ID)}}
	}},
	kv.KindLeaseKeepAlive: {&etcdserverpb.LeaseKeepAliveRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: kv.LeaseID(m.(*etcdserverpb.LeaseKeepAliveRequest).ID)}}
	}},
	kv.KindLeaseTimeToLive: {&etcdserverpb.LeaseTimeToLiveRequest{}, func(m proto.Message) *kv.Request {
		p := m.(*etcdserverpb.LeaseTimeToLiveRequest)
		return &kv.Request{LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: kv.LeaseID(p.ID), Keys: p.Keys}}
	}},
	kv.KindLeaseLeases: {&etcdserverpb.LeaseLeasesRequest{}, func(proto.Message) *kv.Request { return &kv.Request{} }},
	kv.KindMemberList: {&etcdserverpb.MemberListRequest{}, func(m proto.Message) *kv.Request {
		return &kv.Request{MemberList: &kv.MemberListRequest{Linearizable: m.(*etcdserverpb.MemberListRequest).Linearizable}}
	}},
	kv.KindAlarm: {&etcdserverpb.AlarmRequest{}, func(m proto.Message) *kv.Request {
		p := m.(*etcdserverpb.AlarmRequest)
		return &kv.Request{Alarm: &kv.AlarmRequest{Action: kv.AlarmAction(pickEnum(p.Action)),
			Alarm: kv.Alarm{Node: kv.NodeID(p.MemberID), Type: kv.AlarmType(pickEnum(p.Alarm))}}}
	}},
	kv.KindPublishNode: {&etcdserverpb.Member{}, func(m proto.Message) *kv.Request {
		n := memberFromPB(m.(*etcdserverpb.Member))
		return &kv.Request{PublishNode: &n}
	}},
}

func kvFromPB(p *mvccpb.KeyValue) kv.KeyValue {
	return kv.KeyValue{Key: pick(p.Key), Value: pick(p.Value), CreateRevision: kv.Revision(p.CreateRevision),
		ModRevision: kv.Revision(p.ModRevision), Version: p.Version, Lease: kv.LeaseID(p.Lease)}
}

func prevFromPB(p *mvccpb.KeyValue) *kv.KeyValue {
	if p == nil {
		return nil
	}
	pair := kvFromPB(p)
	return &pair
}

func rangeResponseFromPB(p *etcdserverpb.RangeResponse) *kv.RangeResponse {
	return &kv.RangeResponse{KVs: list(p.Kvs, kvFromPB), More: p.More, Count: p.Count}
}

func deleteResponseFromPB(p *etcdserverpb.DeleteRangeResponse) *kv.DeleteRangeResponse {
	return &kv.DeleteRangeResponse{Deleted: p.Deleted, Prev: list(p.PrevKvs, kvFromPB)}
}

func txnResponseFromPB(p *etcdserverpb.TxnResponse) *kv.TxnResponse {
	return &kv.TxnResponse{Succeeded: p.Succeeded, Responses: list(p.Responses, opResponseFromPB)}
}

func opResponseFromPB(p *etcdserverpb.ResponseOp) kv.OpResponse {
	switch r := p.Response.(type) {
	case *etcdserverpb.ResponseOp_ResponseRange:
		return kv.OpResponse{Revision: kv.Revision(r.ResponseRange.Header.GetRevision()), Range: rangeResponseFromPB(r.ResponseRange)}
	case *etcdserverpb.ResponseOp_ResponsePut:
		return kv.OpResponse{Revision: kv.Revision(r.ResponsePut.Header.GetRevision()), Put: &kv.PutResponse{Prev: prevFromPB(r.ResponsePut.PrevKv)}}
	case *etcdserverpb.ResponseOp_ResponseDeleteRange:
		return kv.OpResponse{Revision: kv.Revision(r.ResponseDeleteRange.Header.GetRevision()), DeleteRange: deleteResponseFromPB(r.ResponseDeleteRange)}
	case *etcdserverpb.ResponseOp_ResponseTxn:
		return kv.OpResponse{Revision: kv.Revision(r.ResponseTxn.Header.GetRevision()), Txn: txnResponseFromPB(r.ResponseTxn)}
	}
	return kv.OpResponse{}
}

// headed is any response message.
type headed interface {
	proto.Message
	GetHeader() *etcdserverpb.ResponseHeader
}

// responseTwins pairs each kind with its protobuf message and the conversion from it.
var responseTwins = map[kv.Kind]struct {
	empty   headed
	convert func(headed) *kv.Response
}{
	kv.KindRange: {&etcdserverpb.RangeResponse{}, func(m headed) *kv.Response {
		return &kv.Response{Range: rangeResponseFromPB(m.(*etcdserverpb.RangeResponse))}
	}},
	kv.KindPut: {&etcdserverpb.PutResponse{}, func(m headed) *kv.Response {
		return &kv.Response{Put: &kv.PutResponse{Prev: prevFromPB(m.(*etcdserverpb.PutResponse).PrevKv)}}
	}},
	kv.KindDeleteRange: {&etcdserverpb.DeleteRangeResponse{}, func(m headed) *kv.Response {
		return &kv.Response{DeleteRange: deleteResponseFromPB(m.(*etcdserverpb.DeleteRangeResponse))}
	}},
	kv.KindTxn: {&etcdserverpb.TxnResponse{}, func(m headed) *kv.Response {
		return &kv.Response{Txn: txnResponseFromPB(m.(*etcdserverpb.TxnResponse))}
	}},
	kv.KindCompact:     {&etcdserverpb.CompactionResponse{}, func(headed) *kv.Response { return &kv.Response{} }},
	kv.KindLeaseRevoke: {&etcdserverpb.LeaseRevokeResponse{}, func(headed) *kv.Response { return &kv.Response{} }},
	kv.KindPublishNode: {&etcdserverpb.LeaseRevokeResponse{}, func(headed) *kv.Response { return &kv.Response{} }},
	kv.KindLeaseGrant: {&etcdserverpb.LeaseGrantResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.LeaseGrantResponse)
		return &kv.Response{LeaseGrant: &kv.LeaseGrantResponse{ID: kv.LeaseID(p.ID), TTLSeconds: p.TTL}}
	}},
	kv.KindLeaseKeepAlive: {&etcdserverpb.LeaseKeepAliveResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.LeaseKeepAliveResponse)
		return &kv.Response{LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: kv.LeaseID(p.ID), TTLSeconds: p.TTL}}
	}},
	kv.KindLeaseTimeToLive: {&etcdserverpb.LeaseTimeToLiveResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.LeaseTimeToLiveResponse)
		return &kv.Response{LeaseTimeToLive: &kv.LeaseTimeToLiveResponse{ID: kv.LeaseID(p.ID), TTLSeconds: p.TTL,
			GrantedTTLSeconds: p.GrantedTTL, Keys: list(p.Keys, pick)}}
	}},
	kv.KindLeaseLeases: {&etcdserverpb.LeaseLeasesResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.LeaseLeasesResponse)
		return &kv.Response{LeaseLeases: &kv.LeaseLeasesResponse{IDs: list(p.Leases, func(s *etcdserverpb.LeaseStatus) kv.LeaseID { return kv.LeaseID(s.ID) })}}
	}},
	kv.KindAlarm: {&etcdserverpb.AlarmResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.AlarmResponse)
		return &kv.Response{Alarm: &kv.AlarmResponse{Alarms: list(p.Alarms, func(a *etcdserverpb.AlarmMember) kv.Alarm {
			return kv.Alarm{Node: kv.NodeID(a.MemberID), Type: kv.AlarmType(pickEnum(a.Alarm))}
		})}}
	}},
	kv.KindMemberList: {&etcdserverpb.MemberListResponse{}, func(m headed) *kv.Response {
		p := m.(*etcdserverpb.MemberListResponse)
		return &kv.Response{MemberList: &kv.MemberListResponse{Nodes: list(p.Members, memberFromPB)}}
	}},
}

// populate fills a message at random, including absurd enums and negative numbers.
func populate(rng *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if rng.Intn(3) == 0 || depth == 0 && field.Message() != nil {
			continue
		}
		if !field.IsList() {
			m.Set(field, value(rng, field, func() protoreflect.Value { return m.NewField(field) }, depth))
			continue
		}
		elements := m.Mutable(field).List()
		for range rng.Intn(4) {
			elements.Append(value(rng, field, elements.NewElement, depth))
		}
	}
}

func value(rng *rand.Rand, field protoreflect.FieldDescriptor, fresh func() protoreflect.Value, depth int) protoreflect.Value {
	number := [...]int64{0, 1, 2, 3, 4, 5, 127, 128, 255, 256, 300, -1, 1 << 31, 1 << 40, -1 << 63, 1<<63 - 1}[rng.Intn(16)]
	raw := make([]byte, [...]int{0, 1, 3, 8, 127, 128, 300}[rng.Intn(7)])
	for i := range raw {
		raw[i] = byte('a' + rng.Intn(26))
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rng.Intn(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(raw))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(raw)
	case protoreflect.MessageKind:
		v := fresh()
		populate(rng, v.Message(), depth-1)
		return v
	default:
		panic("populate: no such field kind in etcd's protocol yet: " + field.Kind().String())
	}
}
