package etcdwire

import (
	"bytes"
	"math/rand"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestAuthTravels: what one node says of users and roles is what the other hears, and so is by which state a request was allowed.
func TestAuthTravels(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	name := func() string { return string(bytes.ToValidUTF8(randomBytes(rng), []byte("?"))) }
	permission := func() kv.Permission {
		return kv.Permission{Type: kv.PermissionType(rng.Intn(3)), Span: kv.Span{Start: randomBytes(rng), End: randomBytes(rng)}}
	}
	for range 2000 {
		sent := &kv.Request{Kind: kv.KindAuth, Principal: name(), AuthVersion: randomNumber(rng), Auth: &kv.AuthRequest{
			Action: kv.AuthAction(rng.Intn(20)), User: name(), Role: name(), Hash: randomBytes(rng), NoPassword: rng.Intn(2) == 0, Secret: randomBytes(rng), Permission: permission(),
		}}
		got, err := DecodeRequest(AppendRequest(nil, sent), Limits{})
		if err != nil || !reflect.DeepEqual(got, sent) {
			t.Fatalf("%v:\ngot  %+v %+v\nsent %+v %+v", err, got, got.Auth, sent, sent.Auth)
		}
		answer := &kv.Response{Kind: kv.KindAuth, Revision: kv.Revision(rng.Intn(1000)), Auth: &kv.AuthResponse{
			Enabled: rng.Intn(2) == 0, Revision: randomNumber(rng), Names: several(rng, name), Permissions: several(rng, permission),
		}}
		heard, err := DecodeResponse(AppendResponse(nil, answer))
		if err != nil || !reflect.DeepEqual(heard, answer) {
			t.Fatalf("%v:\ngot  %+v\nsent %+v", err, heard.Auth, answer.Auth)
		}
	}
}

// TestRequestsWithoutUsers: what nodes of a cluster without users tell each other is what it was before there were any.
func TestRequestsWithoutUsers(t *testing.T) {
	r := &kv.Request{Kind: kv.KindPut, Principal: "p", Put: &kv.PutRequest{Key: []byte("k")}}
	if got, want := AppendRequest(nil, r), append([]byte{byte(kv.KindPut), 1, 'p'}, AppendPut(nil, r.Put)...); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	for _, bad := range [][]byte{{byte(kv.KindPut), 1, judgedMark}, {byte(kv.KindPut), 2, judgedMark, 0x80}} {
		if _, err := DecodeRequest(bad, Limits{}); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}
