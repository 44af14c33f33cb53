package etcd

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestListsWithoutMemory: a list is refused at once if there is no memory when it begins. When it has begun it waits for memory.
func TestListsWithoutMemory(t *testing.T) {
	const all = 32 << 20
	memory, err := budget.New(budget.Limits{TotalBytes: all, AccountBytes: all})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, func(o *Options) { o.Memory = memory })
	c := w.client()
	for i := range 10 {
		must[*clientv3.PutResponse](t)(c.Put(w.ctx, fmt.Sprintf("k%02d", i), strings.Repeat("v", 1000)))
	}
	others := memory.NewAccount()
	request := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	kvClient := etcdserverpb.NewKVClient(c.ActiveConnection())
	readers := map[string]func() (int, error){
		"Range": func() (int, error) {
			response, err := kvClient.Range(w.ctx, request)
			return len(response.GetKvs()), err
		},
		"RangeStream": func() (keys int, err error) {
			stream, err := kvClient.RangeStream(w.ctx, request)
			for err == nil {
				var part *etcdserverpb.RangeStreamResponse
				if part, err = stream.Recv(); err == nil {
					keys += len(part.RangeResponse.Kvs)
				}
			}
			if err.Error() == "EOF" {
				err = nil
			}
			return keys, err
		},
	}
	for name, read := range readers {
		w.store.beforeNext = func(left int) {
			if left == 10 && others.UsedBytes() == 0 {
				others.Force(all)
			}
		}
		if _, err := read(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s without memory: %v", name, err)
		}
		others.Release(all)
		looked := 0
		w.store.beforeNext = func(left int) {
			switch {
			case left == 7 && looked == 0:
				others.Force(all)
				looked++
			case left == 7 && looked == 5:
				others.Release(all)
				looked++
			case left == 7:
				looked++
			}
		}
		if keys, err := read(); keys != 10 || err != nil || looked < 6 {
			t.Errorf("%s: after %d looks for memory %d keys, %v", name, looked, keys, err)
		}
		if open := w.store.listings.Load(); open != 0 {
			t.Errorf("%s: %d lists are open", name, open)
		}
	}
}

// TestMeasureIsCanceled: nobody looks at the rest of a list whose client has gone.
func TestMeasureIsCanceled(t *testing.T) {
	w := start(t)
	c := w.client()
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k", "v"))
	ctx, cancel := context.WithCancel(w.ctx)
	deadline := time.Now().Add(10 * time.Second)
	w.store.endless = func() bool {
		cancel()
		return time.Now().Before(deadline)
	}
	if _, err := c.Get(ctx, "k", clientv3.WithPrefix()); err == nil {
		t.Error("a call that was canceled is answered")
	}
	for w.store.listings.Load() != 0 {
		runtime.Gosched()
	}
	if !time.Now().Before(deadline) {
		t.Error("the list was measured to its end")
	}
}

// fakeListing gives out three keys at a time.
type fakeListing struct {
	revision kv.Revision
	all      kv.RangeResponse
	store    *fake
}

func (f *fake) OpenRange(_ context.Context, request *kv.Request) (gateway.Listing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, err := f.get(request.Range)
	if err != nil {
		return nil, err
	}
	f.listings.Add(1)
	return &fakeListing{f.revision, *all, f}, nil
}

func (l *fakeListing) Revision() kv.Revision { return l.revision }
func (l *fakeListing) Close()                { l.store.listings.Add(-1) }
func (l *fakeListing) Ended() (bool, error)  { return len(l.all.KVs) == 0, nil }
func (l *fakeListing) More() bool            { return l.all.More }

func (l *fakeListing) Count(*kv.Tally) (int64, error) { return l.all.Count, nil }

func (l *fakeListing) Next(_ int64, memory *kv.Tally) ([]kv.KeyValue, error) {
	if l.store.beforeNext != nil {
		l.store.beforeNext(len(l.all.KVs))
	}
	n := min(len(l.all.KVs), 3)
	part := l.all.KVs[:n:n]
	for i := range part {
		if err := memory.Add(int64(len(part[i].Key) + len(part[i].Value))); err != nil {
			return nil, err
		}
	}
	l.all.KVs = l.all.KVs[n:]
	return part, nil
}

func (l *fakeListing) Measure(_ *kv.Tally, fn func([]byte, mvcc.Meta) error) error {
	for l.store.endless != nil && l.store.endless() {
		if err := fn([]byte("k"), mvcc.Meta{}); err != nil {
			return err
		}
	}
	for i := range l.all.KVs {
		p := &l.all.KVs[i]
		m := mvcc.Meta{At: mvcc.Locator{Rev: p.ModRevision}, Create: p.CreateRevision, Version: p.Version, Lease: p.Lease, ValueLen: uint32(len(p.Value))}
		if err := fn(p.Key, m); err != nil {
			return err
		}
	}
	return nil
}
