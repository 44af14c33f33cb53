package etcd

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestLongListInParts: a long list is the same message in parts as in one piece, and no part is much longer than what is encoded at once.
func TestLongListInParts(t *testing.T) {
	list := func() *kv.Response {
		r := &kv.RangeResponse{Count: 4000, More: true}
		for i := range 4000 {
			r.KVs = append(r.KVs, kv.KeyValue{Key: fmt.Appendf(nil, "%05d", i), Value: bytes.Repeat([]byte{byte(i)}, 1000), ModRevision: kv.Revision(i)})
		}
		return &kv.Response{Kind: kv.KindRange, Revision: 7, Range: r}
	}
	header := etcdwire.Header{ClusterID: 1, MemberID: 2, RaftTerm: 3}
	var want, got etcdserverpb.RangeResponse
	if err := proto.Unmarshal(etcdwire.AppendAnswer(nil, header, list()), &want); err != nil {
		t.Fatal(err)
	}
	m := answerMessage(header, list())
	var all []byte
	parts := 0
	for ; len(all) < m.SizeBytes; parts++ {
		part, err := m.Next()
		if err != nil || len(part) > partBytes {
			t.Fatalf("a part has %d bytes, %v", len(part), err)
		}
		all = append(all, part...)
	}
	if parts < 4 || len(all) != m.SizeBytes {
		t.Fatalf("%d bytes are in %d parts of %d", m.SizeBytes, parts, len(all))
	}
	if err := proto.Unmarshal(all, &got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&got, &want) {
		t.Fatal("the parts make another message")
	}
}
