package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// events collects n events of a watch, each written as "put key=value" or "delete key".
func events(t *testing.T, watch clientv3.WatchChan, n int) []string {
	t.Helper()
	var got []string
	ctx := within(t)
	for len(got) < n {
		select {
		case response, ok := <-watch:
			if !ok || response.Err() != nil {
				t.Fatalf("after %d of %d events the watch ended: %v %q", len(got), n, response.Err(), got)
			}
			for _, event := range response.Events {
				got = append(got, describe(event))
			}
		case <-ctx.Done():
			t.Fatalf("%d of %d events came: %q", len(got), n, got)
		}
	}
	return got
}

func describe(event *clientv3.Event) string {
	if event.Type == clientv3.EventTypeDelete {
		return "delete " + string(event.Kv.Key)
	}
	return fmt.Sprintf("put %s=%s", event.Kv.Key, event.Kv.Value)
}

func wantEvents(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestWatchFromPastPresentAndFuture(t *testing.T) {
	cl := calmCluster(t)
	writer := cl.Client(t)
	for i, n := range cl.Nodes {
		c := n.Client(t)
		prefix := fmt.Sprintf("watch-from/%d/", i)
		first := try(writer.Put(within(t), prefix+"a", "1"))(t).Header.Revision
		second := try(writer.Put(within(t), prefix+"b", "2"))(t).Header.Revision
		past := c.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(first))
		past2 := c.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(first+1))
		// A watch without a revision begins with what its node has: a read sees to it that this is everything.
		try(c.Get(within(t), prefix))(t)
		present := c.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if response := <-present; !response.Created || response.Header.Revision < second {
			t.Errorf("created: %+v", response)
		}
		// Two revisions ahead at least: others write too, so that only the end of what it sees is certain.
		future := c.Watch(within(t), prefix+"future", clientv3.WithRev(second+100_000), clientv3.WithCreatedNotify())
		<-future
		try(writer.Put(within(t), prefix+"future", "too early"))(t)
		try(writer.Delete(within(t), prefix+"a"))(t)
		wantEvents(t, "past", events(t, past, 4), "put "+prefix+"a=1", "put "+prefix+"b=2", "put "+prefix+"future=too early", "delete "+prefix+"a")
		wantEvents(t, "after the first", events(t, past2, 3), "put "+prefix+"b=2", "put "+prefix+"future=too early", "delete "+prefix+"a")
		wantEvents(t, "present", events(t, present, 2), "put "+prefix+"future=too early", "delete "+prefix+"a")
		select {
		case response := <-future:
			t.Errorf("a watch of the future got %+v", response)
		default:
		}
	}
}

// A watch from a revision that is not there yet begins exactly there.
func testWatchOfTheFuture(t *testing.T, cl *cluster.Cluster) {
	for _, n := range cl.Nodes {
		c := n.Client(t)
		now := try(c.Put(within(t), "future", "0"))(t).Header.Revision
		watch := c.Watch(within(t), "future", clientv3.WithRev(now+3), clientv3.WithCreatedNotify())
		<-watch
		for i := range 5 {
			try(c.Put(within(t), "future", fmt.Sprint(i+1)))(t)
		}
		wantEvents(t, n.Name, events(t, watch, 3), "put future=3", "put future=4", "put future=5")
	}
}

func TestWatchOptions(t *testing.T) {
	cl := calmCluster(t)
	writer := cl.Client(t)
	for i, n := range cl.Nodes {
		c := n.Client(t)
		prefix := fmt.Sprintf("watch-options/%d/", i)
		open := func(key string, options ...clientv3.OpOption) clientv3.WatchChan {
			watch := c.Watch(within(t), key, append(options, clientv3.WithCreatedNotify())...)
			if response := <-watch; !response.Created {
				t.Fatalf("created: %+v", response)
			}
			return watch
		}
		all := open(prefix, clientv3.WithPrefix(), clientv3.WithPrevKV())
		puts := open(prefix, clientv3.WithPrefix(), clientv3.WithFilterDelete())
		deletes := open(prefix, clientv3.WithPrefix(), clientv3.WithFilterPut())
		one := open(prefix + "a")
		from := open(prefix+"b", clientv3.WithFromKey())
		between := open(prefix+"a", clientv3.WithRange(prefix+"b"))
		b := prefix + "b"
		try(writer.Put(within(t), prefix+"a", "1"))(t)
		try(writer.Txn(within(t)).Then(clientv3.OpPut(prefix+"a", "2"), clientv3.OpPut(b, "3")).Commit())(t)
		try(writer.Delete(within(t), prefix, clientv3.WithPrefix()))(t)
		a1, a2, b3 := "put "+prefix+"a=1", "put "+prefix+"a=2", "put "+b+"=3"
		deleteA, deleteB := "delete "+prefix+"a", "delete "+b
		wantEvents(t, "puts", events(t, puts, 3), a1, a2, b3)
		wantEvents(t, "deletes", events(t, deletes, 2), deleteA, deleteB)
		wantEvents(t, "one key", events(t, one, 3), a1, a2, deleteA)
		wantEvents(t, "a range", events(t, between, 3), a1, a2, deleteA)
		wantEvents(t, "from a key", eventsBelow(t, from, prefix, 2), b3, deleteB)
		var previous []string
		for len(previous) < 5 {
			response := <-all
			revisions := map[int64]bool{}
			for _, event := range response.Events {
				revisions[event.Kv.ModRevision] = true
				before := "nothing"
				if event.PrevKv != nil {
					before = string(event.PrevKv.Value)
				}
				previous = append(previous, before+" before "+describe(event))
			}
			if err := response.Err(); err != nil {
				t.Fatal(err)
			}
		}
		wantEvents(t, "previous", previous, "nothing before "+a1, "1 before "+a2, "nothing before "+b3, "2 before "+deleteA, "3 before "+deleteB)
	}
}

// eventsBelow are n events of keys below a prefix; others are dropped.
func eventsBelow(t *testing.T, watch clientv3.WatchChan, prefix string, n int) (got []string) {
	t.Helper()
	for len(got) < n {
		for _, event := range events(t, watch, 1) {
			if strings.Contains(event, prefix) {
				got = append(got, event)
			}
		}
	}
	return got
}

// One revision comes in one message, however many events it has.
func TestWatchNeverSplitsARevision(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	const prefix = "whole/"
	clean(t, prefix)
	watches := make([]clientv3.WatchChan, len(cl.Nodes))
	for i, n := range cl.Nodes {
		watches[i] = n.Client(t).Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-watches[i]
	}
	const rounds, size = 20, 100
	var first int64
	for round := range rounds {
		var puts []clientv3.Op
		for i := range size {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%03d", prefix, i), fmt.Sprint(round)))
		}
		response := try(c.Txn(within(t)).Then(puts...).Commit())(t)
		if round == 0 {
			first = response.Header.Revision
		}
	}
	// Catching up from history keeps the promise as well.
	watches = append(watches, c.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(first)))
	for i, watch := range watches {
		total := 0
		for total < rounds*size {
			response := <-watch
			must(t, response.Err())
			counts := map[int64]int{}
			for _, event := range response.Events {
				counts[event.Kv.ModRevision]++
			}
			for revision, count := range counts {
				if count != size {
					t.Fatalf("watch %d: %d of %d events of revision %d came together", i, count, size, revision)
				}
			}
			total += len(response.Events)
		}
	}
}

// With fragments a message stays near the limit of a request (with half a megabyte for what is around the
// events), and nothing is lost.
func TestWatchFragments(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	const prefix, revisions, perRevision = "fragment/", 3, 14
	clean(t, prefix)
	value := strings.Repeat("x", 100_000)
	var first int64
	for i := range revisions {
		var puts []clientv3.Op
		for j := range perRevision {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%d-%02d", prefix, i, j), value))
		}
		response := try(c.Txn(within(t)).Then(puts...).Commit())(t)
		if i == 0 {
			first = response.Header.Revision
		}
	}
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(within(t))
	must(t, err)
	must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), StartRevision: first, Fragment: true, PrevKv: true,
	}}}))
	got := 0
	for got < revisions*perRevision {
		response, err := stream.Recv()
		must(t, err)
		got += len(response.Events)
		if size := len(response.Events) * len(value); size > 2<<20 {
			t.Errorf("a message of %d bytes at least", size)
		}
		if response.Fragment && got == revisions*perRevision {
			t.Error("the last message says that there is more")
		}
	}
	// The client's own handling, which puts the fragments together again.
	watch := c.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFragment())
	equal(t, "events", len(events(t, watch, revisions*perRevision)), revisions*perRevision)
}

func TestWatchProgress(t *testing.T) {
	cl := calmCluster(t) // notifies once a second
	for _, n := range cl.Nodes {
		c := n.Client(t)
		revision := try(c.Put(within(t), "progress", "v"))(t).Header.Revision
		watch := c.Watch(within(t), "progress/silent", clientv3.WithProgressNotify())
		for response := range watch {
			must(t, response.Err())
			if response.IsProgressNotify() && response.Header.Revision >= revision {
				break
			}
		}
	}
}

// A requested progress notification says how far all watches of the stream are; none of
// them gets an event at or below that revision afterwards.
func TestWatchManualProgress(t *testing.T) {
	cl := calmCluster(t)
	for _, n := range cl.Nodes {
		c := n.Client(t)
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		watch := c.Watch(ctx, "manual", clientv3.WithCreatedNotify())
		<-watch
		put := try(c.Put(ctx, "manual", "v"))(t)
		seen := false
		// The request may be overtaken by the start of the watch: repeat it.
		cluster.Eventually(t, "progress at "+n.Name, func() error {
			must(t, c.RequestProgress(ctx))
			for {
				select {
				case response := <-watch:
					must(t, response.Err())
					seen = seen || len(response.Events) > 0
					if response.IsProgressNotify() && response.Header.Revision >= put.Header.Revision {
						if !seen {
							t.Errorf("%s: progress to %d before the event of %d", n.Name, response.Header.Revision, put.Header.Revision)
						}
						return nil
					}
				default:
					return fmt.Errorf("no notification")
				}
			}
		})
	}
}

func TestManyWatchesOnAStream(t *testing.T) {
	cl := calmCluster(t)
	const prefix, watches = "many-watches/", 200
	clean(t, prefix)
	c := cl.Nodes[0].Client(t)
	ctx := within(t)
	var channels []clientv3.WatchChan
	for i := range watches {
		channels = append(channels, c.Watch(ctx, fmt.Sprintf("%s%d", prefix, i), clientv3.WithCreatedNotify()))
	}
	everything := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for _, channel := range append(channels, everything) {
		<-channel
	}
	writer := cl.Nodes[1].Client(t)
	for i := range watches {
		try(writer.Put(ctx, fmt.Sprintf("%s%d", prefix, i), fmt.Sprint(i)))(t)
	}
	var want []string
	for i, channel := range channels {
		event := fmt.Sprintf("put %s%d=%d", prefix, i, i)
		want = append(want, event)
		wantEvents(t, fmt.Sprint("watch ", i), events(t, channel, 1), event)
	}
	wantEvents(t, "watch of all", events(t, everything, watches), want...)
}

func TestWatchCancel(t *testing.T) {
	cl := calmCluster(t)
	for _, n := range cl.Nodes {
		c := n.Client(t)
		ctx, cancel := context.WithCancel(within(t))
		// A watch begins with what its node has: a read sees to it that the put at the node before is not an event.
		try(c.Get(within(t), "cancel"))(t)
		watch := c.Watch(ctx, "cancel", clientv3.WithCreatedNotify())
		other := c.Watch(within(t), "cancel", clientv3.WithCreatedNotify())
		<-watch
		<-other
		cancel()
		for range watch {
			// It ends.
		}
		try(c.Put(within(t), "cancel", n.Name))(t)
		wantEvents(t, "the other watch of the stream", events(t, other, 1), "put cancel="+n.Name)
	}
	// On the wire: a cancellation is confirmed, and the ID can be used again.
	first := cl.Nodes[0].Client(t)
	try(first.Get(within(t), "cancel"))(t)
	stream, err := pb.NewWatchClient(first.ActiveConnection()).Watch(within(t))
	must(t, err)
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("cancel"), WatchId: 7}}}
	for range 2 {
		must(t, stream.Send(create))
		created := try(stream.Recv())(t)
		if !created.Created || created.WatchId != 7 {
			t.Errorf("created: %v", created)
		}
		must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 7}}}))
		canceled := try(stream.Recv())(t)
		if !canceled.Canceled || canceled.WatchId != 7 {
			t.Errorf("cancelled: %v", canceled)
		}
	}
	must(t, stream.Send(create))
	try(stream.Recv())(t)
	must(t, stream.Send(create))
	if twice := try(stream.Recv())(t); !twice.Canceled || twice.CancelReason == "" {
		t.Errorf("an ID in use: %v", twice)
	}
}
