package mvcc

import (
	"fmt"
	"sync"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// TestViewsWhileWriting reads views in goroutines while the store goes on: run with -race.
func TestViewsWhileWriting(t *testing.T) {
	engine := storage.NewMemory(storage.MemoryOptions{})
	s, err := Open(engine, Options{BucketRows: 4})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(fn func(b storage.Batch)) {
		b := engine.NewBatch()
		fn(b)
		if err := engine.Apply(b); err != nil {
			t.Error(err)
		}
	}
	everything := kv.Everything()
	last := map[string]Effect{}
	var readers sync.WaitGroup
	for i := range 600 {
		rev := s.Revision() + 1
		key := fmt.Sprintf("k%03d", i*7%100)
		e := Effect{Key: []byte(key), Value: fmt.Append(nil, i), At: Locator{Rev: rev}, Create: rev, Version: 1}
		if before, ok := last[key]; ok {
			e.Prev, e.PrevLive, e.Create, e.Version = before.At, true, before.Create, before.Version+1
		}
		last[key] = e
		commit(func(b storage.Batch) { s.Apply(b, []Effect{e}, rev) })
		switch i % 10 {
		case 3:
			s.Freeze()
		case 4, 5, 6:
			done := false
			commit(func(b storage.Batch) {
				var err error
				if done, err = s.FlushChunk(b, 5); err != nil {
					t.Error(err)
				}
			})
			if done {
				s.FlushDone()
			}
		case 7:
			commit(func(b storage.Batch) { s.SetCompacted(b, rev-5) })
		case 8:
			commit(func(b storage.Batch) {
				if _, err := s.CompactStep(b, 10); err != nil {
					t.Error(err)
				}
			})
		case 9:
			v := s.View()
			readers.Add(1)
			go func() {
				defer readers.Done()
				defer v.Close()
				r, err := v.Range(&kv.RangeRequest{Span: everything}, nil)
				if want := min(i+1, 100); err != nil || len(r.KVs) != want || r.Count != int64(want) {
					t.Errorf("view %d has %d keys: %v", i, len(r.KVs), err)
				}
				count, err := v.countAt(everything, v.Compacted(), nil)
				if err != nil || count > int64(len(r.KVs)) {
					t.Errorf("view %d counts %d keys before: %v", i, count, err)
				}
				if _, err := v.Hash(0); err != nil {
					t.Error(err)
				}
			}()
		}
	}
	readers.Wait()
}
