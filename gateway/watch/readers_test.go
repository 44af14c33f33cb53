package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// gatedSource is a shard whose views are closed when the gate opens, so that what their readers hold can be counted.
type gatedSource struct {
	list listView
	gate chan struct{}
	held *atomic.Int64 // bytes that views handed out which are not closed
}

func (s *gatedSource) Revision() kv.Revision  { return s.list.revision }
func (s *gatedSource) Compacted() kv.Revision { return 0 }

func (s *gatedSource) View() (View, error) {
	v := &gatedView{listView: s.list, source: s}
	v.listView.held = &v.handed
	return v, nil
}

func (s *gatedSource) Replaced(mvcc.Locator) (kv.KeyValue, bool, error) {
	return kv.KeyValue{}, false, errors.New("no change has a version before")
}

type gatedView struct {
	listView
	source *gatedSource
	handed int64
}

// History is there so that the test can be run with a reader of whole revisions.
func (v *gatedView) History(from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	next = to + 1
	last, size := kv.Revision(0), int64(0)
	err = v.Changes(mvcc.Locator{Rev: from}, to, func(at mvcc.Locator, _ []byte, bytes int64) bool {
		if at.Rev != last && size >= limitBytes {
			next = at.Rev
			return false
		}
		last = at.Rev
		size += bytes
		return true
	}, fn)
	return next, err
}

func (v *gatedView) Changes(from mvcc.Locator, to kv.Revision, want func(mvcc.Locator, []byte, int64) bool, fn func(*mvcc.Effect) error) error {
	return v.listView.Changes(from, to, want, func(e *mvcc.Effect) error {
		v.source.held.Add(rowBytes(e))
		return fn(e)
	})
}

func (v *gatedView) Close() error {
	<-v.source.gate
	v.source.held.Add(-v.handed)
	return nil
}

// TestCatchUpsHoldLittle: a thousand watches that catch up at once, over eight shards with large values, hold what MaxReaders of them may.
func TestCatchUpsHoldLittle(t *testing.T) {
	for _, shards := range []int{1, 8} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testCatchUpsHoldLittle(t, shards) })
		})
	}
}

func testCatchUpsHoldLittle(t *testing.T, shards int) {
	const streams, revisions, valueBytes, chunkBytes, readers = 1000, 24, 100_000, 256 << 10, 4
	var held atomic.Int64
	gate := make(chan struct{})
	options := Options{Encode: encodeText, ChunkBytes: chunkBytes, MaxReaders: readers, Sources: map[kv.ShardID]Source{}}
	var ids []kv.ShardID
	for i := range shards {
		s := &gatedSource{gate: gate, held: &held}
		for revision := kv.Revision(i + 1); revision <= revisions; revision += kv.Revision(shards) {
			s.list.effects = append(s.list.effects, mvcc.Effect{
				Key: []byte("k"), Value: make([]byte, valueBytes), At: mvcc.Locator{Rev: revision}, Create: 1, Version: int64(revision)})
		}
		s.list.revision = revisions
		ids = append(ids, kv.ShardID(i+1))
		options.Sources[ids[i]], options.Source = s, s
	}
	if shards > 1 {
		options.Shards = func(kv.Span) []kv.ShardID { return ids }
		options.Known = func() kv.Revision { return revisions }
		options.Learn = func([]kv.ShardID, func(kv.Present, error)) {}
	}
	hub, err := NewHub(options)
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	memory := &countedMemory{t: t, limit: 64 << 20}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for range streams {
		s, err := hub.NewStream(nil, memory)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), CreateRequest{Span: kv.Span{Start: []byte("a"), End: []byte("z")}, StartRevision: 1}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer s.Close()
			for next := kv.Revision(1); next <= revisions; {
				b, err := s.Next(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range b.Events {
					if e.Revision() != next {
						t.Errorf("revision %d instead of %d", e.Revision(), next)
					}
					next++
				}
			}
		})
	}
	synctest.Wait()
	if got, want := held.Load(), int64(readers*(2*chunkBytes+valueBytes)); got == 0 || got > want {
		t.Errorf("%d streams that catch up hold %d bytes, want no more than %d", streams, got, want)
		cancel()
	}
	if memory.bytes() < streams*watcherBytes {
		t.Errorf("only %d bytes are reserved", memory.bytes())
	}
	close(gate)
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	for now := time.Duration(0); ; now += time.Millisecond {
		synctest.Wait()
		select {
		case <-over:
			return
		default:
			hub.Tick(now)
		}
	}
}
