package etcdwire

import (
	"math/rand"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"google.golang.org/protobuf/proto"
)

// FuzzRequest: both decoders accept the same bytes as each kind of request, and read the same.
func FuzzRequest(f *testing.F) {
	rng := rand.New(rand.NewSource(3))
	for kind := kv.KindRange; kind <= kv.KindPublishNode; kind++ {
		for range 3 {
			m := requestTwins[kind].empty.ProtoReflect().New()
			populate(rng, m, 4)
			b, err := proto.Marshal(m.Interface())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		if _, known := requestTwins[kv.Kind(kind)]; known {
			checkRequest(t, kv.Kind(kind), in)
		}
	})
}

// FuzzResponse does for responses what FuzzRequest does for requests.
func FuzzResponse(f *testing.F) {
	rng := rand.New(rand.NewSource(4))
	for kind := kv.KindRange; kind <= kv.KindPublishNode; kind++ {
		for range 3 {
			m := responseTwins[kind].empty.ProtoReflect().New()
			populate(rng, m, 4)
			b, err := proto.Marshal(m.Interface())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		if _, known := responseTwins[kv.Kind(kind)]; known {
			checkResponse(t, kv.Kind(kind), in)
		}
	})
}

// FuzzNode: what another node sends never makes a decoder panic, and what is accepted survives a round trip.
func FuzzNode(f *testing.F) {
	f.Add(AppendRequest(nil, &kv.Request{Kind: kv.KindPut, Principal: "p", Put: &kv.PutRequest{Key: []byte("k")}}))
	f.Add(AppendResponse(nil, &kv.Response{Kind: kv.KindPut, Revision: 4, Put: &kv.PutResponse{Prev: &kv.KeyValue{Key: []byte("k")}}}))
	f.Add(AppendError(nil, kv.ErrCompacted, Hints{Compacted: 4}))
	f.Add(AppendRequest(nil, &kv.Request{Kind: kv.KindMember, Member: &kv.MemberRequest{Action: kv.MemberAdd, ID: 7, PeerURLs: []string{"http://a:1"}, Learner: true, MaxLearners: 1, Version: 3}}))
	f.Add(AppendResponse(nil, &kv.Response{Kind: kv.KindMember, MemberList: &kv.MemberListResponse{Nodes: []kv.NodeRecord{{ID: 7}}, Version: 3}}))
	rng := rand.New(rand.NewSource(5))
	for _, kind := range commitKinds {
		f.Add(AppendRequest(nil, &kv.Request{Kind: kind, Commit: randomCommit(rng)}))
		f.Add(AppendResponse(nil, &kv.Response{Kind: kind, Revision: 9, Commit: randomCommitted(rng)}))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := DecodeRequest(in, Limits{}); err == nil {
			if _, err := DecodeRequest(AppendRequest(nil, r), Limits{}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := DecodeResponse(in); err == nil {
			if _, err := DecodeResponse(AppendResponse(nil, r)); err != nil {
				t.Fatal(err)
			}
		}
		if e, hints, err := DecodeError(in); err == nil {
			again, sameHints, err := DecodeError(AppendError(nil, e, hints))
			if err != nil || sameHints != hints || again.Error() != e.Error() || kv.CodeOf(again) != kv.CodeOf(e) {
				t.Fatal(again, err)
			}
		}
	})
}
