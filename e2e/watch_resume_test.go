package e2e

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// counter writes 0, 1, 2, ... to one key until it is told to stop, each with a comparison, so that a write that was
// repeated because nobody knows how it ended takes effect once.
type counter struct {
	key     string
	written chan int // the number of writes, at the end
	stop    context.CancelFunc
}

// attemptLimit keeps a paused node, which the client asks in its turn, from holding up the writer.
const attemptLimit = 500 * time.Millisecond

func startCounter(t *testing.T, c *clientv3.Client, key string) *counter {
	ctx, stop := context.WithCancel(t.Context())
	w := &counter{key: key, written: make(chan int, 1), stop: stop}
	go func() {
		next := 0
		for ctx.Err() == nil {
			if w.write(c, next) {
				next++
			}
		}
		w.written <- next
	}()
	return w
}

// write makes one attempt and tells whether the number is there.
func (w *counter) write(c *clientv3.Client, number int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), attemptLimit)
	defer cancel()
	if _, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(w.key), "=", number)).Then(clientv3.OpPut(w.key, strconv.Itoa(number))).Commit(); err == nil {
		return true // now, or in an attempt before
	}
	return false
}

// end stops the writer and returns how many numbers are there.
func (w *counter) end(t *testing.T, c *clientv3.Client) int {
	t.Helper()
	w.stop()
	written := <-w.written
	response := try(c.Get(within(t), w.key))(t)
	if version := int(response.Kvs[0].Version); version != written && version != written+1 {
		t.Errorf("%d writes were acknowledged, the version is %d", written, version)
	}
	return int(response.Kvs[0].Version)
}

// checkCount wants events 0 to n-1, in order, none missing and none twice, with revisions that grow.
func checkCount(t *testing.T, what string, watch clientv3.WatchChan, n int) {
	t.Helper()
	ctx := within(t)
	next, last := 0, int64(0)
	for next < n {
		select {
		case response, ok := <-watch:
			if !ok || response.Err() != nil {
				t.Fatalf("%s ended after %d events: %v", what, next, response.Err())
			}
			for _, event := range response.Events {
				if string(event.Kv.Value) != strconv.Itoa(next) || event.Kv.ModRevision <= last {
					t.Fatalf("%s: event %s at %d, want %d after revision %d", what, event.Kv.Value, event.Kv.ModRevision, next, last)
				}
				next, last = next+1, event.Kv.ModRevision
			}
		case <-ctx.Done():
			t.Fatalf("%s: %d of %d events came", what, next, n)
		}
	}
}

// progressed waits until a counter went some way further.
func progressed(t *testing.T, c *clientv3.Client, key string) {
	t.Helper()
	version := func(ctx context.Context) (int64, error) {
		response, err := c.Get(ctx, key)
		if err != nil || response.Count == 0 {
			return 0, err
		}
		return response.Kvs[0].Version, nil
	}
	var from int64
	eventually(t, "read "+key, func(ctx context.Context) (err error) {
		from, err = version(ctx)
		return err
	})
	eventually(t, "progress of "+key, func(ctx context.Context) error {
		now, err := version(ctx)
		if err == nil && now < from+10 {
			err = fmt.Errorf("version %d, was %d", now, from)
		}
		return err
	})
}

func testWatchesResumeOverRestarts(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	const key = "resume"
	from := try(c.Get(within(t), key))(t).Header.Revision + 1
	watches := map[string]clientv3.WatchChan{"of all nodes": c.Watch(t.Context(), key, clientv3.WithRev(from))}
	for _, n := range cl.Nodes {
		watches["of "+n.Name] = n.Client(t).Watch(t.Context(), key, clientv3.WithRev(from))
	}
	writer := startCounter(t, c, key)
	progressed(t, c, key)
	for _, n := range cl.Nodes {
		// In order, with kill -9, and the leader among them.
		if _, err := n.Stop(endLimit); err != nil {
			t.Error(err)
		}
		progressed(t, c, key)
		must(t, n.Restart())
		progressed(t, c, key)
		must(t, n.Kill())
		progressed(t, c, key)
		must(t, n.Restart())
	}
	other := try(cl.Followers())(t)[0].Client(t)
	leader := try(cl.Leader())(t)
	must(t, leader.Pause())
	progressed(t, other, key)
	must(t, leader.Resume())
	progressed(t, c, key)
	must(t, cl.Kill())
	must(t, cl.Start())
	progressed(t, c, key)
	n := writer.end(t, c)
	t.Log(n, "events")
	for name, watch := range watches {
		checkCount(t, "watch "+name, watch, n)
	}
}

// A watcher that does not read for a while gets everything, from the history if need be, and
// does not hold up others.
func TestSlowWatcher(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	const prefix, writes = "slow/", 400
	from := try(c.Get(within(t), prefix))(t).Header.Revision + 1
	slow := cl.Nodes[0].Client(t).Watch(t.Context(), prefix+"n", clientv3.WithRev(from))
	quick := cl.Nodes[0].Client(t).Watch(t.Context(), prefix+"n", clientv3.WithRev(from))
	done := make(chan struct{})
	go func() {
		defer close(done)
		checkCount(t, "quick", quick, writes)
	}()
	var batch []clientv3.Op
	for i := range 60 {
		batch = append(batch, clientv3.OpPut(fmt.Sprintf("%sfill/%d", prefix, i), "x"))
	}
	for i := range writes {
		try(c.Txn(within(t)).Then(append(batch[:i%60:i%60], clientv3.OpPut(prefix+"n", strconv.Itoa(i)))...).Commit())(t)
	}
	<-done
	checkCount(t, "slow", slow, writes)
}

// A node that was away serves a watch from before, with everything that it missed.
func testWatchAtANodeThatWasAway(t *testing.T, cl *cluster.Cluster) {
	c := try(cl.Leader())(t).Client(t)
	const key = "away"
	away := try(cl.Followers())(t)[0]
	client := away.Client(t)
	from := try(c.Get(within(t), key))(t).Header.Revision + 1
	watch := client.Watch(t.Context(), key, clientv3.WithRev(from))
	must(t, away.Signal(syscall.SIGKILL))
	try(away.WaitExit(cluster.Patience))(t)
	const writes = 300
	for i := range writes {
		try(c.Put(within(t), key, strconv.Itoa(i)))(t)
	}
	must(t, away.Start())
	checkCount(t, "watch", watch, writes)
}
