package gateway

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// BenchmarkGiveUp: one operation is a call that waits, as writes or reads do without a leader, and ends.
func BenchmarkGiveUp(b *testing.B) {
	write, read := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}
	for what, req := range map[string]*kv.Request{"write": write, "read": read} {
		for _, waiting := range []int{1000, 16_000} {
			b.Run(fmt.Sprintf("%s/%d", what, waiting), func(b *testing.B) {
				c := newCluster(b, Options{})
				for at := 0; at < b.N; at += waiting {
					calls := make([]*Call, waiting)
					for i := range calls {
						calls[i] = &Call{Req: req, Done: func(*kv.Response, error) {}}
						c.nodes[1].gateway.Submit(calls[i])
					}
					for _, call := range calls {
						c.nodes[1].gateway.Cancel(call)
					}
				}
			})
		}
	}
}
