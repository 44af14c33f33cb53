package etcdwire

import (
	"bytes"
	"math/rand"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestMemberChangesTravel: what one node says of a change of members is what the other hears.
func TestMemberChangesTravel(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	text := func() string { return string(bytes.ToValidUTF8(randomBytes(rng), []byte("?"))) }
	record := func() kv.NodeRecord {
		return kv.NodeRecord{ID: kv.NodeID(randomNumber(rng)), Name: text(), PeerURLs: several(rng, text), ClientURLs: several(rng, text), Learner: rng.Intn(2) == 0}
	}
	for range 2000 {
		sent := &kv.Request{Kind: kv.KindMember, Principal: text(), Member: &kv.MemberRequest{
			Action: kv.MemberAction(rng.Intn(20)), ID: kv.NodeID(randomNumber(rng)), PeerURLs: several(rng, text), Learner: rng.Intn(2) == 0,
			MaxLearners: int(int64(randomNumber(rng))), Version: randomNumber(rng),
		}}
		got, err := DecodeRequest(AppendRequest(nil, sent), Limits{})
		if err != nil || !reflect.DeepEqual(got, sent) {
			t.Fatalf("%v:\ngot  %+v %+v\nsent %+v %+v", err, got, got.Member, sent, sent.Member)
		}
		answer := &kv.Response{Kind: kv.KindMember, Revision: kv.Revision(rng.Intn(1000)), MemberList: &kv.MemberListResponse{Nodes: several(rng, record), Version: randomNumber(rng)}}
		heard, err := DecodeResponse(AppendResponse(nil, answer))
		if err != nil || !reflect.DeepEqual(heard, answer) {
			t.Fatalf("%v:\ngot  %+v\nsent %+v", err, heard.MemberList, answer.MemberList)
		}
	}
}
