package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// spanWatch measures the way of events: clients put to the keys of some spans, and watchers, each of one span, get them. Every value begins with the time of
// its put.
type spanWatch struct {
	w         *worker
	began     time.Time
	expected  atomic.Int64 // events
	got       atomic.Int64
	perWatch  [][]time.Duration
	watchedBy func(key int) int // how many watchers have the key
}

func (w *worker) watchSpans(ctx context.Context) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &spanWatch{w: w, began: time.Now(), perWatch: make([][]time.Duration, w.spec.Watchers), watchedBy: watchersByKey(w.spec)}
	var group sync.WaitGroup
	for i := range w.spec.Watchers {
		if err := s.watch(ctx, i, &group); err != nil {
			return result{}, err
		}
	}
	began, cpu := time.Now(), ownCPU()
	r, err := w.measure(ctx, s.put)
	if err != nil {
		return r, err
	}
	for limit := time.Now().Add(30 * time.Second); s.got.Load() < s.expected.Load() && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	took, used := time.Since(began), ownCPU()-cpu
	missing := max(0, s.expected.Load()-s.got.Load())
	cancel()
	group.Wait()
	failed := r.Errors
	r = summarize(s.perWatch, took, used)
	r.Errors = failed + int(missing)
	return r, nil
}

// watchersByKey counts the watchers of each key: watcher i has span i, and so on round.
func watchersByKey(spec workSpec) func(int) int {
	per := make([]int, len(spec.Watched))
	for i := range spec.Watchers {
		per[i%len(per)]++
	}
	return func(key int) (n int) {
		for i, span := range spec.Watched {
			if span[0] <= key && key < span[1] {
				n += per[i]
			}
		}
		return n
	}
}

func (s *spanWatch) watch(ctx context.Context, i int, group *sync.WaitGroup) error {
	span := s.w.spec.Watched[i%len(s.w.spec.Watched)]
	ch := s.w.clients[i%len(s.w.clients)].Watch(ctx, key(span[0]), clientv3.WithRange(key(span[1])), clientv3.WithCreatedNotify())
	select {
	case <-ch: // created
	case <-time.After(30 * time.Second):
		return fmt.Errorf("watcher %d was not created in 30 s", i)
	}
	group.Go(func() {
		for resp := range ch {
			now := time.Since(s.began)
			for _, e := range resp.Events {
				sent, _, _ := strings.Cut(string(e.Kv.Value), " ")
				nanos, _ := strconv.ParseInt(sent, 10, 64)
				s.perWatch[i] = append(s.perWatch[i], now-time.Duration(nanos))
			}
			s.got.Add(int64(len(resp.Events)))
		}
	})
	return nil
}

func (s *spanWatch) put(ctx context.Context, c *clientv3.Client, _, _ int, random *rand.Rand) error {
	span := s.w.spec.Written[random.IntN(len(s.w.spec.Written))]
	n := span[0] + random.IntN(span[1]-span[0])
	value := make([]byte, 0, valueBytes)
	value = append(strconv.AppendInt(value, int64(time.Since(s.began)), 10), ' ')
	if _, err := c.Put(ctx, key(n), string(value[:valueBytes])); err != nil {
		return err
	}
	s.expected.Add(int64(s.watchedBy(n)))
	return nil
}
