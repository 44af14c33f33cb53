package gather

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// BenchmarkPage reads all keys of a store on a real engine in pages of 1,000: an operation is a page.
func BenchmarkPage(b *testing.B) {
	const n = 400_000
	key := func(i int) []byte { return fmt.Appendf(nil, "/registry/pods/%08d", i) }
	var splits [][]byte
	for i := 1; i < 16; i++ {
		splits = append(splits, key(i*n/16))
	}
	for _, scheme := range []partition.Scheme{
		{Kind: partition.Hash, Shards: 1},
		{Kind: partition.Range, Shards: 16, SplitKeys: splits},
		{Kind: partition.Hash, Shards: 16},
	} {
		b.Run(fmt.Sprintf("%v-%d", scheme.Kind, scheme.Shards), func(b *testing.B) {
			engine, err := lsm.Open(lsm.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			g, err := By(scheme)
			if err != nil {
				b.Fatal(err)
			}
			stores, ids := fillBench(b, engine, g.table, n, key), scheme.ShardIDs()
			began := cpuTime(b)
			b.ResetTimer()
			next := []byte("/registry/")
			for range b.N {
				states := make([]State, len(stores))
				for i := range stores {
					states[i] = stores[i].View()
				}
				at := kv.Present{Revision: n + 1}
				q := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: next, End: []byte("/registry0")}, Limit: 1000}}
				used, shards := overlapping(g.table, q.Range.Span, states, ids)
				resp, err := g.Gather(q, shards, used, at)
				if err != nil {
					b.Fatal(err)
				}
				for i := range states {
					states[i].Close()
				}
				if next = []byte("/registry/"); resp.Range.More {
					next = append(resp.Range.KVs[len(resp.Range.KVs)-1].Key, 0)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/float64(b.N), "cpu-us/page")
		})
	}
}

func overlapping(table *partition.Table, span kv.Span, states []State, ids []kv.ShardID) (used []State, shards []kv.ShardID) {
	for _, d := range table.Overlapping(span) {
		for i, id := range ids {
			if id == d.Shard {
				used, shards = append(used, states[i]), append(shards, id)
			}
		}
	}
	return used, shards
}

func fillBench(b *testing.B, engine *lsm.Engine, table *partition.Table, n int, key func(int) []byte) (stores []*mvcc.Store) {
	commit := func(fill func(storage.Batch)) {
		batch := engine.NewBatch()
		defer batch.Close()
		fill(batch)
		if err := engine.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	at := map[kv.ShardID]int{}
	for i, d := range table.Descriptors() {
		s, err := mvcc.Open(engine, mvcc.Options{Rows: keys.RowsOf(d.Shard)})
		if err != nil {
			b.Fatal(err)
		}
		stores, at[d.Shard] = append(stores, s), i
	}
	flush := func(s *mvcc.Store) {
		if !s.Freeze() {
			return
		}
		for done := false; !done; {
			commit(func(batch storage.Batch) {
				var err error
				if done, err = s.FlushChunk(batch, 1000); err != nil {
					b.Fatal(err)
				}
			})
		}
		s.FlushDone()
	}
	value := make([]byte, 256)
	for i := range n {
		id := i * 7919 % n
		k, rev := key(id), kv.Revision(i+2)
		s := stores[at[table.Overlapping(kv.Span{Start: k})[0].Shard]]
		commit(func(batch storage.Batch) {
			s.Apply(batch, []mvcc.Effect{{Key: k, Value: value, At: mvcc.Locator{Rev: rev}, Create: rev, Version: 1}}, rev)
		})
		if s.NeedsFlush() {
			flush(s)
		}
	}
	for _, s := range stores {
		flush(s)
	}
	return stores
}

// cpuTime is what the process has used; a busy machine says little by the clock.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
