package chaos

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

// sendGrant grants a lease under an ID of the client's choice, which the official client's Grant cannot.
func sendGrant(ctx context.Context, client *clientv3.Client, r *kv.LeaseGrantRequest) (*kv.Response, error) {
	got, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: int64(r.ID), TTL: r.TTLSeconds})
	if err != nil {
		return nil, err
	}
	return &kv.Response{Kind: kv.KindLeaseGrant, Revision: kv.Revision(got.Header.Revision),
		LeaseGrant: &kv.LeaseGrantResponse{ID: kv.LeaseID(got.ID), TTLSeconds: got.TTL}}, nil
}

// watching is a watch that goes on through everything, until it has delivered the last revision. After a while it moves to another
// node if roaming is set; else the official client resumes it at the same node.
type watching struct {
	history.Watcher
	recorder *recorder
	node     int
	roaming  time.Duration
	err      error
	position atomic.Int64 // everything up to here is delivered
	// compacted is what the last error told.
	compacted kv.Revision
}

// run watches until everything up to the revision that final delivers has come, or the context ends.
func (w *watching) run(ctx context.Context, final <-chan kv.Revision) {
	next, last := w.Start, kv.Revision(0)
	for node := w.node; ; node = (node + 1) % len(w.recorder.cluster.nodes) {
		session, end := context.WithCancel(ctx)
		move := make(<-chan time.Time)
		if w.roaming > 0 {
			move = time.After(w.roaming)
		}
		client, err := newClient(w.recorder.cluster.nodes[node].clientURL)
		if err != nil {
			w.err = err
			end()
			return
		}
		done := w.session(session, client, &next, &last, final, move)
		end()
		client.Close()
		if done || ctx.Err() != nil {
			break
		}
	}
	if w.err == nil && (last == 0 || next <= last) {
		w.err = fmt.Errorf("watcher %s has delivered everything up to %d, not up to %d, when its time ended", w.Name, next-1, last)
	}
}

// session watches at one node. next is the first revision not delivered.
func (w *watching) session(ctx context.Context, client *clientv3.Client, next, last *kv.Revision, final <-chan kv.Revision, move <-chan time.Time) (done bool) {
	options := []clientv3.OpOption{clientv3.WithRange(string(w.Span.End)), clientv3.WithRev(int64(*next)), clientv3.WithProgressNotify()}
	if w.PrevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	responses := client.Watch(ctx, string(w.Span.Start), options...)
	ask := time.NewTicker(500 * time.Millisecond)
	defer ask.Stop()
	for {
		if *last != 0 && *next > *last {
			return true
		}
		select {
		case *last = <-final:
			final = nil
		case <-move:
			return false
		case <-ask.C:
			// Progress tells that nothing is missing where the last revisions are outside of the span.
			client.RequestProgress(ctx)
		case r, open := <-responses:
			if !open {
				return false
			}
			if err := r.Err(); err != nil {
				w.compacted = kv.Revision(r.CompactRevision)
				w.err = fmt.Errorf("watcher %s at revision %d: %w", w.Name, *next, err)
				return true
			}
			w.take(r, next)
		}
	}
}

func (w *watching) take(r clientv3.WatchResponse, next *kv.Revision) {
	b := history.Batch{At: w.recorder.now(), Revision: kv.Revision(r.Header.Revision), Progress: r.IsProgressNotify()}
	for _, e := range r.Events {
		b.Events = append(b.Events, fromEvent(e))
	}
	switch n := len(b.Events); {
	case b.Progress:
		*next = max(*next, b.Revision+1)
	case n > 0:
		*next = max(*next, b.Events[n-1].KV.ModRevision+1)
		w.recorder.sawRevision(b.Events[n-1].KV.ModRevision)
	default:
		return
	}
	w.position.Store(int64(*next - 1))
	w.Batches = append(w.Batches, b)
}
