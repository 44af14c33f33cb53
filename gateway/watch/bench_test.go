package watch

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// BenchmarkFanOut: one operation is one change of 256 B that everybody watches. The senders do what the edge
// does up to the socket: encode once, copy the message for each watch.
func BenchmarkFanOut(b *testing.B) {
	for _, shape := range []struct{ streams, watches int }{{0, 0}, {1, 1}, {10, 10}, {10, 100}, {100, 10}, {1000, 1}} {
		b.Run(fmt.Sprintf("streams=%d/watches=%d", shape.streams, shape.watches), func(b *testing.B) {
			benchmarkFanOut(b, shape.streams, shape.watches)
		})
	}
}

func benchmarkFanOut(b *testing.B, streams, watches int) {
	w := newWorld(b)
	hub, err := NewHub(Options{Source: w, Encode: etcdwire.AppendEvent})
	if err != nil {
		b.Fatal(err)
	}
	defer hub.Close()
	last := kv.Revision(1 + b.N)
	var wait sync.WaitGroup
	var mu sync.Mutex
	messages := 0
	all, err := budget.New(budget.Limits{TotalBytes: 4 << 30, AccountBytes: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	for range streams {
		s, err := hub.NewStream(nil, all.NewAccount())
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		for range watches {
			if _, err := s.Create(context.Background(), CreateRequest{Span: kv.Span{Start: []byte("key")}}); err != nil {
				b.Fatal(err)
			}
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			var buffer []byte
			sent := 0
			for at := kv.Revision(0); at < last; {
				batch, err := s.Next(context.Background())
				if err != nil {
					b.Error(err)
					return
				}
				if batch.Kind != KindEvents {
					continue
				}
				at = batch.Revision
				for range batch.IDs {
					buffer = buffer[:0]
					for _, event := range batch.Events {
						buffer = append(buffer, event.Encoded(false)...)
					}
					sent++
				}
			}
			mu.Lock()
			messages += sent
			mu.Unlock()
		}()
	}
	value := make([]byte, 256)
	applied := make([][]change, 1)
	applied[0] = []change{{"key", value}}
	b.ResetTimer()
	start := time.Now()
	for range b.N {
		hub.Applied(w.commit(applied...))
	}
	wait.Wait()
	if n := streams * watches; n > 0 {
		b.ReportMetric(float64(b.N*n)/time.Since(start).Seconds(), "events/s")
		b.ReportMetric(float64(b.N*n)/float64(max(messages, 1)), "events/message")
	}
}
