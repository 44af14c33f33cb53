package mvcc

import (
	"math"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestLargestLimits: a limit that nothing reaches is none, however large it is.
func TestLargestLimits(t *testing.T) {
	const n = 10
	s := storeOf(t, n, 100, 0)
	for _, limit := range []int64{n, n + 1, math.MaxInt64 - 1, math.MaxInt64} {
		for _, measured := range []bool{false, true} {
			l, err := s.NewList(&kv.RangeRequest{Span: benchSpan, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			looked := 0
			if measured {
				if err := l.Measure(nil, func([]byte, Meta) error { looked++; return nil }); err != nil || looked != n {
					t.Fatalf("limit %d: %d keys are measured, %v", limit, looked, err)
				}
			}
			kvs, err := l.Next(math.MaxInt32, nil)
			if err != nil || len(kvs) != n {
				t.Fatalf("limit %d: %d keys, %v", limit, len(kvs), err)
			}
			if ended, err := l.Ended(); err != nil || !ended || l.More() {
				t.Errorf("limit %d: ended %v, more %v, %v", limit, ended, l.More(), err)
			}
		}
	}
}
