package etcdwire

import "github.com/quoratedb/quorate/kv"

// What nodes tell each other about changes of the list of members. etcd has a message for each of the actions; between nodes there is one for all.

// The fields of a MemberRequest.
const (
	memberAction      = 1
	memberID          = 2
	memberPeerURLs    = 3
	memberLearner     = 4
	memberMaxLearners = 5
	memberVersion     = 6
)

// memberedVersion is the field of the list's version in the answer, whose others are those of etcd's MemberListResponse.
const memberedVersion = 3

func appendMemberChange(dst []byte, r *kv.MemberRequest) []byte {
	dst = appendInt(dst, memberAction, int64(r.Action))
	dst = appendInt(dst, memberID, int64(r.ID))
	dst = appendStrings(dst, memberPeerURLs, r.PeerURLs)
	dst = appendBool(dst, memberLearner, r.Learner)
	dst = appendInt(dst, memberMaxLearners, int64(r.MaxLearners))
	return appendInt(dst, memberVersion, int64(r.Version))
}

func decodeMemberChange(in []byte, out *kv.MemberRequest) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case memberAction<<3 | wireVarint:
			out.Action = kv.MemberAction(c.enum())
		case memberID<<3 | wireVarint:
			out.ID = kv.NodeID(c.varint())
		case memberPeerURLs<<3 | wireBytes:
			out.PeerURLs = append(out.PeerURLs, c.utf8())
		case memberLearner<<3 | wireVarint:
			out.Learner = c.bool()
		case memberMaxLearners<<3 | wireVarint:
			out.MaxLearners = int(int64(c.varint()))
		case memberVersion<<3 | wireVarint:
			out.Version = c.varint()
		default:
			c.skip()
		}
	}
	return c.result()
}

func appendMemberChanged(dst []byte, h Header, r *kv.MemberListResponse) []byte {
	return appendInt(AppendMemberListResponse(dst, h, r), memberedVersion, int64(r.Version))
}

func decodeMemberChanged(in []byte, rev *kv.Revision, out *kv.MemberListResponse) error {
	if err := decodeMemberListResponse(in, rev, out); err != nil {
		return err
	}
	c := cursor{b: in}
	for c.more() {
		if c.tag() == memberedVersion<<3|wireVarint {
			out.Version = c.varint()
		} else {
			c.skip()
		}
	}
	return c.result()
}
