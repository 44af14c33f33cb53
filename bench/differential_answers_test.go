package main

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// both sends a request to both systems and compares.
func (d *differential) both(m method, request proto.Message) (etcd, quorate answer) {
	return d.bothRaw(m, request, d.encode(request), m.name+" "+prototext.MarshalOptions{}.Format(request))
}

func (d *differential) encode(m proto.Message) []byte {
	out, err := proto.Marshal(m)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// bothRaw does the same with bytes; request is what they mean, if anything.
func (d *differential) bothRaw(m method, request proto.Message, in []byte, text string) (etcd, quorate answer) {
	ctx, cancel := d.limit()
	defer cancel()
	member := d.chance.IntN(len(d.quorate.connections))
	if serializable(request) {
		d.catchUp(member)
	}
	quorate = d.quorate.ask(ctx, member, m, bytes.Clone(in))
	etcd = d.etcd.ask(ctx, 0, m, in)
	if ctx.Err() != nil {
		d.t.Fatalf("step %d: %s was not answered: etcd %s, Quorate %s", d.step, text, etcd.text(), quorate.text())
	}
	if *differentialShards > 1 && onlySerializable(request) && quorate.err == nil && revisionOf(quorate.message) < d.revision {
		d.older++ // it is as of a revision that all shards it looks at have come to
		return etcd, quorate
	}
	d.note(etcd, quorate)
	if t, ok := request.(*pb.TxnRequest); ok && writesTwice(t) {
		d.withoutPrevious[d.revision] = true
	}
	normalize(request, etcd.message)
	normalize(request, quorate.message)
	if !same(etcd, quorate, len(in) > maxRequestBytes) {
		d.differ(text, etcd.text(), quorate.text())
	}
	return etcd, quorate
}

// catchUp lets a member have everything that was acknowledged.
func (d *differential) catchUp(member int) {
	ctx, cancel := d.limit()
	defer cancel()
	in := d.encode(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true}) // of all shards
	if a := d.quorate.ask(ctx, member, methodRange, in); a.err != nil {
		d.t.Fatal(a.err)
	}
}

// serializable tells whether the request is answered by what the member happens to have.
func serializable(request proto.Message) bool {
	switch r := request.(type) {
	case *pb.RangeRequest:
		return r.GetSerializable()
	case *pb.TxnRequest, *pb.HashKVRequest, *pb.AuthStatusRequest, *pb.DefragmentRequest, *pb.LeaseLeasesRequest,
		*pb.LeaseKeepAliveRequest, *pb.LeaseTimeToLiveRequest:
		return true
	}
	return false
}

// note keeps the revision of the systems, and whether they went apart.
func (d *differential) note(etcd, quorate answer) {
	if e, q := revisionOf(etcd.message), revisionOf(quorate.message); e != 0 && q != 0 {
		d.revision = e
		d.diverged = d.diverged || e != q
	}
}

// onlySerializable tells whether a request is a serializable read.
func onlySerializable(request proto.Message) bool {
	switch r := request.(type) {
	case *pb.RangeRequest:
		return r.GetSerializable()
	case *pb.TxnRequest:
		return !slices.ContainsFunc(slices.Concat(r.GetSuccess(), r.GetFailure()), func(op *pb.RequestOp) bool {
			if inner := op.GetRequestTxn(); inner != nil {
				return !onlySerializable(inner)
			}
			return !op.GetRequestRange().GetSerializable()
		})
	}
	return false
}

func revisionOf(m proto.Message) int64 { return headerOf(m).GetRevision() }

func headerOf(m proto.Message) *pb.ResponseHeader {
	if r, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok && m != nil {
		return r.GetHeader()
	}
	if r, ok := m.(*pb.RangeStreamResponse); ok {
		return r.GetRangeResponse().GetHeader()
	}
	return nil
}

// maxRequestBytes is --max-request-bytes, less what etcd adds.
const maxRequestBytes = 1536<<10 - 200

func isHashKV(m proto.Message) bool { _, is := m.(*pb.HashKVResponse); return is }

// same compares the answers.
func same(etcd, quorate answer, tooLarge bool) bool {
	if etcd.err == nil && quorate.err == nil {
		return proto.Equal(etcd.message, quorate.message) || closeEnough(etcd.message, quorate.message)
	}
	e, q := status.Convert(etcd.err), status.Convert(quorate.err)
	switch {
	case quorate.err == nil && isHashKV(quorate.message) && e.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted):
		return true // etcd is not done with the hash of a compaction, which we wait for
	case tooLarge && q.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooLarge):
		return true // etcd looks at other things first, and not at all at the size of what only reads
	case complaint(e.Message()) && q.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCTooManyOps):
		return true // our decoder counts while it reads, and did not come to what is malformed
	case *differentialShards > 1 && lost(e.Message()) && (lost(q.Message()) || outOfReach(q.Message())):
		return true // ranges of the past are looked at before anything else, and of two shards that refuse one is the first
	case e.Code() != q.Code():
		return false
	case complaint(e.Message()) && complaint(q.Message()):
		return true // what a decoder complains of first differs
	case e.Code() == codes.Unimplemented && strings.HasPrefix(e.Message(), "unknown"):
		return true
	}
	return e.Message() == q.Message()
}

// lost: a put needs a lease or a key that is not there.
func lost(text string) bool {
	return text == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound) || text == rpctypes.ErrorDesc(rpctypes.ErrGRPCKeyNotFound)
}

// outOfReach: a range is at a revision that is compacted, or not there yet.
func outOfReach(text string) bool {
	return text == rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted) || text == rpctypes.ErrorDesc(rpctypes.ErrGRPCFutureRev)
}

// complaint of a decoder about a message that is none.
func complaint(text string) bool { return strings.Contains(text, "failed to unmarshal") }

// closeEnough: what is left of a lease is a matter of the clock; and for a revision at which it was compacted etcd
// tells another hash as long as it is not done with the one of the compaction.
func closeEnough(etcd, quorate proto.Message) bool {
	if e, isHash := etcd.(*pb.HashKVResponse); isHash {
		q := quorate.(*pb.HashKVResponse)
		return e.HashRevision == q.HashRevision && e.CompactRevision == e.HashRevision && q.CompactRevision < q.HashRevision &&
			proto.Equal(e.Header, q.Header)
	}
	e, isTTL := etcd.(*pb.LeaseTimeToLiveResponse)
	q, isToo := quorate.(*pb.LeaseTimeToLiveResponse)
	if !isTTL || !isToo || max(e.TTL-q.TTL, q.TTL-e.TTL) > 3 || (e.TTL < 0) != (q.TTL < 0) {
		return false
	}
	e = proto.Clone(e).(*pb.LeaseTimeToLiveResponse)
	e.TTL = q.TTL
	return proto.Equal(e, q)
}

// normalize takes out of an answer what may differ.
func normalize(request, response proto.Message) {
	if r, ok := response.(interface{ GetHeader() *pb.ResponseHeader }); ok && response != nil {
		clearIdentity(r.GetHeader())
	}
	switch r := response.(type) {
	case *pb.RangeResponse:
		normalizeRange(request, r)
	case *pb.RangeStreamResponse:
		clearIdentity(r.GetRangeResponse().GetHeader())
		normalizeRange(request, r.GetRangeResponse())
	case *pb.TxnResponse:
		if t, ok := request.(*pb.TxnRequest); ok {
			normalizeTxn(t, r)
		}
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(r.Keys, bytes.Compare) // etcd's order is that of a map
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(r.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	case *pb.AlarmResponse:
		slices.SortFunc(r.Alarms, func(a, b *pb.AlarmMember) int {
			return cmp.Or(cmp.Compare(a.MemberID, b.MemberID), cmp.Compare(a.Alarm, b.Alarm))
		})
	case *pb.HashKVResponse:
		r.Hash = 0
	}
}

func clearIdentity(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}

// normalizeRange: without values etcd 3.7 forgets the leases, and its sort is stable for up to twelve keys.
func normalizeRange(request proto.Message, r *pb.RangeResponse) {
	asked, ok := request.(*pb.RangeRequest)
	if !ok {
		return
	}
	if asked.GetKeysOnly() {
		for _, pair := range r.GetKvs() {
			pair.Lease = 0
		}
	}
	const stable = 12
	if asked.GetSortTarget() != pb.RangeRequest_KEY && r.GetCount() > stable {
		r.Kvs = nil
	}
}

func normalizeTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	ops := request.GetFailure()
	if response.GetSucceeded() {
		ops = request.GetSuccess()
	}
	for i := range min(len(ops), len(response.GetResponses())) {
		normalizeRange(ops[i].GetRequestRange(), response.Responses[i].GetResponseRange())
		if nested := response.Responses[i].GetResponseTxn(); nested != nil {
			normalizeTxn(ops[i].GetRequestTxn(), nested)
		}
	}
}
