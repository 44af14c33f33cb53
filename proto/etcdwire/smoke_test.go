package etcdwire

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func TestSmoke(t *testing.T) {
	in, _ := proto.Marshal(&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: -3})
	r, err := DecodeBody(kv.KindPut, in, Limits{})
	if err != nil || string(r.Put.Key) != "k" || r.Put.Lease != -3 {
		t.Fatal(r, err)
	}
}
