package gateway

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// A write that took effect and whose answer no frame can carry ends at once, not with the client's deadline.
func TestAnswerBeyondFrame(t *testing.T) {
	c := newCluster(t, Options{})
	c.limit = 1000
	c.nodes[1].gateway.PeerUp(2, Dialect{})
	c.elect(1)
	c.exchange()
	do := func(node kv.NodeID, req *kv.Request) (answered bool, err error) {
		c.nodes[node].gateway.Submit(&Call{Req: req, Done: func(_ *kv.Response, failed error) { answered, err = true, failed }})
		c.deliver()
		c.exchange()
		return answered, err
	}
	put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 2*c.limit)}}
	if answered, err := do(1, put); !answered || err != nil {
		t.Fatalf("answered: %v, %v", answered, err)
	}
	remove := &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("k")}, PrevKV: true}}
	if answered, err := do(2, remove); !answered || !errors.Is(err, kv.ErrOutcomeUnknown) {
		t.Fatalf("answered: %v, %v", answered, err)
	}
}
