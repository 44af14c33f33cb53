package shard

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// nullEngine keeps nothing, so that what is measured is the machine.
type nullEngine struct{ storage.Engine }

type nullBatch struct{}

func (nullBatch) Set(_, _ []byte)         {}
func (nullBatch) Delete([]byte)           {}
func (nullBatch) DeleteRange(_, _ []byte) {}
func (nullBatch) Count() int              { return 0 }
func (nullBatch) SizeBytes() int          { return 0 }
func (nullBatch) Reset()                  {}
func (nullBatch) Close()                  {}

const benchmarkRound = 256

func benchmarkGroup(b *testing.B) (*group, []*kv.Request) {
	engine := nullEngine{storage.NewMemory(storage.MemoryOptions{})}
	options := testOptions(1)
	options.Versions.CacheBytes = 256 << 20
	m, err := Open(engine, options)
	if err != nil {
		b.Fatal(err)
	}
	g := &group{}
	if err := g.elect(&replica{Machine: m, engine: engine.Engine.(*storage.Memory), store: m.store}, 1); err != nil {
		b.Fatal(err)
	}
	requests := make([]*kv.Request, 64*benchmarkRound)
	for i := range requests {
		requests[i] = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "bench/key/%08d", i*7919%100_000), Value: make([]byte, 256)}}
	}
	return g, requests
}

// BenchmarkPut evaluates and encodes rounds of puts, and decodes and applies them; the parts are reported apart.
func BenchmarkPut(b *testing.B) {
	g, requests := benchmarkGroup(b)
	m := g.leader.Machine
	var evaluating, applying time.Duration
	index := m.AppliedIndex()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		for i := range benchmarkRound {
			if out := m.Evaluate(requests[(n*benchmarkRound+i)%len(requests)]); out.Err != nil {
				b.Fatal(out.Err)
			}
		}
		data, _ := m.TakeProposal(0)
		evaluated := time.Now()
		index++
		if _, err := m.Apply(consensus.Entry{Index: index, Term: 1, Data: data}, nullBatch{}); err != nil {
			b.Fatal(err)
		}
		evaluating += evaluated.Sub(start)
		applying += time.Since(evaluated)
	}
	puts := float64(b.N) * benchmarkRound
	b.ReportMetric(float64(evaluating.Nanoseconds())/puts, "ns/evaluate+encode")
	b.ReportMetric(float64(applying.Nanoseconds())/puts, "ns/decode+apply")
}

// BenchmarkDecode is decoding alone, without mvcc's apply.
func BenchmarkDecode(b *testing.B) {
	g, requests := benchmarkGroup(b)
	for i := range benchmarkRound {
		g.leader.Evaluate(requests[i])
	}
	data, _ := g.leader.TakeProposal(0)
	for b.Loop() {
		if _, err := decodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchmarkRound, "ns/effect")
}
