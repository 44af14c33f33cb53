package gateway

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// BenchmarkCall: one operation is a call, with all that gateways do for it; consensus is a slice, which costs the same everywhere.
func BenchmarkCall(b *testing.B) {
	put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}
	get := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}}
	for _, bench := range []struct {
		what string
		at   kv.NodeID
		req  *kv.Request
	}{{"local put", 1, put}, {"local get", 1, get}, {"forwarded put", 2, put}, {"get after a barrier", 2, get}} {
		b.Run(bench.what, func(b *testing.B) {
			c := newCluster(b, Options{})
			speakNewest(c)
			c.elect(1)
			c.exchange()
			b.ReportAllocs()
			for b.Loop() {
				answered := false
				c.nodes[bench.at].gateway.Submit(&Call{Req: bench.req, Done: func(*kv.Response, error) { answered = true }})
				for !answered {
					c.deliver()
					c.nodes[1].applyOne()
					c.nodes[2].applyOne()
				}
				c.log = c.log[:len(c.log):len(c.log)]
			}
		})
	}
}
