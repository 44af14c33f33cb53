package etcdwire

import (
	"bytes"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func BenchmarkPut(b *testing.B) {
	in := AppendPut(nil, &kv.PutRequest{Key: []byte("key-0001"), Value: bytes.Repeat([]byte("v"), 256)})
	header := Header{ClusterID: 1 << 62, MemberID: 1 << 61, RaftTerm: 7}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		response := &kv.Response{Kind: kv.KindPut, Revision: 12345678, Put: &kv.PutResponse{}}
		out := make([]byte, 0, 64)
		for range b.N {
			if _, err := DecodeBody(kv.KindPut, in, Limits{}); err != nil {
				b.Fatal(err)
			}
			out = AppendAnswer(out[:0], header, response)
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		response := &etcdserverpb.PutResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1 << 62, MemberId: 1 << 61, Revision: 12345678, RaftTerm: 7}}
		for range b.N {
			request := new(etcdserverpb.PutRequest)
			if err := proto.Unmarshal(in, request); err != nil {
				b.Fatal(err)
			}
			if _, err := proto.Marshal(response); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRangeResponse(b *testing.B) {
	response := &kv.Response{Kind: kv.KindRange, Revision: 5, Range: &kv.RangeResponse{Count: 1000}}
	for range 1000 {
		response.Range.KVs = append(response.Range.KVs, kv.KeyValue{Key: []byte("key-0001"), Value: bytes.Repeat([]byte("v"), 256), CreateRevision: 100000, ModRevision: 200000, Version: 4})
	}
	out := make([]byte, 0, AnswerSize(Header{}, response))
	b.SetBytes(int64(cap(out)))
	b.ReportAllocs()
	for range b.N {
		out = AppendAnswer(out[:0], Header{}, response)
	}
}
