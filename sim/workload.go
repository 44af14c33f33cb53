package sim

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Workloads are all workloads, by name.
func Workloads() []Workload { return []Workload{{Name: "putget", Client: putGet}} }

// putGet writes and reads a few keys.
func putGet(c Client) {
	r := c.Rand()
	for i := 0; !c.Ended(); i++ {
		key := []byte(fmt.Sprintf("k%d", r.IntN(8)))
		req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: key}}}
		switch p := r.IntN(20); {
		case p < 9:
			req = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: []byte(fmt.Sprintf("c%d.%d", c.Number(), i))}}
		case p < 10:
			req = &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: key}}}
		case p < 11:
			req.Range.Span = kv.Span{Start: []byte("k0"), End: []byte("k9")}
		}
		if _, err := c.Do(1+r.IntN(c.Nodes()), req, time.Second); err != nil {
			_ = c.Sleep(5 * time.Millisecond)
		}
		_ = c.Sleep(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
	}
}
