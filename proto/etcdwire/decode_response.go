package etcdwire

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// decodeHeaderRevision reads what nodes use of an etcdserverpb.ResponseHeader.
func decodeHeaderRevision(in []byte, out *kv.Revision) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 3<<3 | wireVarint:
			*out = kv.Revision(c.int64())
		default:
			c.skip()
		}
	}
	return c.result()
}

func mergeKV(in []byte, out *kv.KeyValue) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Key = c.bytes()
		case 2<<3 | wireVarint:
			out.CreateRevision = kv.Revision(c.int64())
		case 3<<3 | wireVarint:
			out.ModRevision = kv.Revision(c.int64())
		case 4<<3 | wireVarint:
			out.Version = c.int64()
		case 5<<3 | wireBytes:
			out.Value = c.bytes()
		case 6<<3 | wireVarint:
			out.Lease = kv.LeaseID(c.int64())
		default:
			c.skip()
		}
	}
	return c.result()
}

func addKV(in []byte, list *[]kv.KeyValue) error {
	*list = append(*list, kv.KeyValue{})
	return mergeKV(in, &(*list)[len(*list)-1])
}

func mergeRangeResponse(in []byte, rev *kv.Revision, out *kv.RangeResponse) error {
	c := cursor{b: in}
	n, _, _ := c.countFields(2<<3|wireBytes, 0, 0)
	reserve(&out.KVs, n)
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireBytes:
			err = addKV(c.bytes(), &out.KVs)
		case 3<<3 | wireVarint:
			out.More = c.bool()
		case 4<<3 | wireVarint:
			out.Count = c.int64()
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func mergePutResponse(in []byte, rev *kv.Revision, out *kv.PutResponse) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireBytes:
			if out.Prev == nil {
				out.Prev = new(kv.KeyValue)
			}
			err = mergeKV(c.bytes(), out.Prev)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func mergeDeleteRangeResponse(in []byte, rev *kv.Revision, out *kv.DeleteRangeResponse) error {
	c := cursor{b: in}
	n, _, _ := c.countFields(3<<3|wireBytes, 0, 0)
	reserve(&out.Prev, n)
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireVarint:
			out.Deleted = c.int64()
		case 3<<3 | wireBytes:
			err = addKV(c.bytes(), &out.Prev)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func mergeTxnResponse(in []byte, rev *kv.Revision, out *kv.TxnResponse, remaining int) error {
	if remaining <= 0 {
		return ErrTooDeep
	}
	c := cursor{b: in}
	n, _, _ := c.countFields(3<<3|wireBytes, 0, 0)
	reserve(&out.Responses, n)
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireVarint:
			out.Succeeded = c.bool()
		case 3<<3 | wireBytes:
			out.Responses = append(out.Responses, kv.OpResponse{})
			err = decodeOpResponse(c.bytes(), &out.Responses[len(out.Responses)-1], remaining)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// decodeOpResponse reads an etcdserverpb.ResponseOp, a oneof like RequestOp.
func decodeOpResponse(in []byte, out *kv.OpResponse, remaining int) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			if out.Range == nil {
				*out = kv.OpResponse{Range: new(kv.RangeResponse)}
			}
			err = mergeRangeResponse(c.bytes(), &out.Revision, out.Range)
		case 2<<3 | wireBytes:
			if out.Put == nil {
				*out = kv.OpResponse{Put: new(kv.PutResponse)}
			}
			err = mergePutResponse(c.bytes(), &out.Revision, out.Put)
		case 3<<3 | wireBytes:
			if out.DeleteRange == nil {
				*out = kv.OpResponse{DeleteRange: new(kv.DeleteRangeResponse)}
			}
			err = mergeDeleteRangeResponse(c.bytes(), &out.Revision, out.DeleteRange)
		case 4<<3 | wireBytes:
			if out.Txn == nil {
				*out = kv.OpResponse{Txn: new(kv.TxnResponse)}
			}
			err = mergeTxnResponse(c.bytes(), &out.Revision, out.Txn, remaining-1)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeLeaseGrantResponse(in []byte, rev *kv.Revision, out *kv.LeaseGrantResponse) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireVarint:
			out.ID = kv.LeaseID(c.int64())
		case 3<<3 | wireVarint:
			out.TTLSeconds = c.int64()
		case 4<<3 | wireBytes:
			c.utf8() // the error, which nobody sets
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeLeaseKeepAliveResponse(in []byte, rev *kv.Revision, out *kv.LeaseKeepAliveResponse) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireVarint:
			out.ID = kv.LeaseID(c.int64())
		case 3<<3 | wireVarint:
			out.TTLSeconds = c.int64()
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeLeaseTimeToLiveResponse(in []byte, rev *kv.Revision, out *kv.LeaseTimeToLiveResponse) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case 2<<3 | wireVarint:
			out.ID = kv.LeaseID(c.int64())
		case 3<<3 | wireVarint:
			out.TTLSeconds = c.int64()
		case 4<<3 | wireVarint:
			out.GrantedTTLSeconds = c.int64()
		case 5<<3 | wireBytes:
			out.Keys = append(out.Keys, c.bytes())
		case bindingField<<3 | wireBytes:
			out.Binding = new(kv.LeaseBinding)
			err = decodeBinding(c.bytes(), out.Binding)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeLeaseLeasesResponse(in []byte, rev *kv.Revision, out *kv.LeaseLeasesResponse) error {
	return decodeElements(in, rev, func(element []byte) error {
		id, err := decodeID(element)
		out.IDs = append(out.IDs, id)
		return err
	})
}

func decodeAlarmResponse(in []byte, rev *kv.Revision, out *kv.AlarmResponse) error {
	return decodeElements(in, rev, func(element []byte) error {
		var a kv.Alarm
		c := cursor{b: element}
		for c.more() {
			switch c.tag() {
			case 1<<3 | wireVarint:
				a.Node = kv.NodeID(c.varint())
			case 2<<3 | wireVarint:
				a.Type = kv.AlarmType(c.enum())
			default:
				c.skip()
			}
		}
		out.Alarms = append(out.Alarms, a)
		return c.result()
	})
}

func decodeMemberListResponse(in []byte, rev *kv.Revision, out *kv.MemberListResponse) error {
	return decodeElements(in, rev, func(element []byte) error {
		var n kv.NodeRecord
		err := DecodeMember(element, &n)
		out.Nodes = append(out.Nodes, n)
		return err
	})
}

// decodeHeaderOnly reads the responses that have nothing but a header.
func decodeHeaderOnly(in []byte, rev *kv.Revision) error {
	return decodeElements(in, rev, nil)
}

// decodeElements reads the messages of a header and a repeated message 2.
func decodeElements(in []byte, rev *kv.Revision, element func([]byte) error) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch tag := c.tag(); {
		case tag == 1<<3|wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case tag == 2<<3|wireBytes && element != nil:
			err = element(c.bytes())
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// DecodeAnswer reads the etcd response message that belongs to kind. Of the header only the revision is kept.
func DecodeAnswer(kind kv.Kind, in []byte) (*kv.Response, error) {
	switch kind {
	case kv.KindRange:
		m := new(struct {
			response kv.Response
			body     kv.RangeResponse
		})
		m.response.Kind, m.response.Range = kind, &m.body
		return &m.response, mergeRangeResponse(in, &m.response.Revision, &m.body)
	case kv.KindPut:
		m := new(struct {
			response kv.Response
			body     kv.PutResponse
		})
		m.response.Kind, m.response.Put = kind, &m.body
		return &m.response, mergePutResponse(in, &m.response.Revision, &m.body)
	case kv.KindDeleteRange:
		m := new(struct {
			response kv.Response
			body     kv.DeleteRangeResponse
		})
		m.response.Kind, m.response.DeleteRange = kind, &m.body
		return &m.response, mergeDeleteRangeResponse(in, &m.response.Revision, &m.body)
	case kv.KindTxn:
		m := new(struct {
			response kv.Response
			body     kv.TxnResponse
		})
		m.response.Kind, m.response.Txn = kind, &m.body
		return &m.response, mergeTxnResponse(in, &m.response.Revision, &m.body, DefaultTxnDepth)
	default:
		return decodeRareAnswer(kind, in)
	}
}

func decodeRareAnswer(kind kv.Kind, in []byte) (*kv.Response, error) {
	r := &kv.Response{Kind: kind}
	switch kind {
	case kv.KindLeaseGrant:
		r.LeaseGrant = new(kv.LeaseGrantResponse)
		return r, decodeLeaseGrantResponse(in, &r.Revision, r.LeaseGrant)
	case kv.KindLeaseKeepAlive:
		r.LeaseKeepAlive = new(kv.LeaseKeepAliveResponse)
		return r, decodeLeaseKeepAliveResponse(in, &r.Revision, r.LeaseKeepAlive)
	case kv.KindLeaseTimeToLive, kv.KindLeaseAttach, kv.KindLeaseKeys:
		r.LeaseTimeToLive = new(kv.LeaseTimeToLiveResponse)
		return r, decodeLeaseTimeToLiveResponse(in, &r.Revision, r.LeaseTimeToLive)
	case kv.KindAuth:
		r.Auth = new(kv.AuthResponse)
		return r, decodeAuthResponse(in, &r.Revision, r.Auth)
	case kv.KindMember:
		r.MemberList = new(kv.MemberListResponse)
		return r, decodeMemberChanged(in, &r.Revision, r.MemberList)
	case kv.KindLeaseLeases:
		r.LeaseLeases = new(kv.LeaseLeasesResponse)
		return r, decodeLeaseLeasesResponse(in, &r.Revision, r.LeaseLeases)
	case kv.KindAlarm:
		r.Alarm = new(kv.AlarmResponse)
		return r, decodeAlarmResponse(in, &r.Revision, r.Alarm)
	case kv.KindMemberList:
		r.MemberList = new(kv.MemberListResponse)
		return r, decodeMemberListResponse(in, &r.Revision, r.MemberList)
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		r.Commit = new(kv.CommitResponse)
		return r, decodeCommitResponse(in, &r.Revision, r.Commit)
	case kv.KindCompact, kv.KindLeaseRevoke, kv.KindLeaseRelease, kv.KindPublishNode:
		return r, decodeHeaderOnly(in, &r.Revision)
	default:
		return nil, fmt.Errorf("response kind %d: %w", kind, ErrUnknownKind)
	}
}
