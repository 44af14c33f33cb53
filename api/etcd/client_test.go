package etcd

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/proto/native"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestClientKV(t *testing.T) {
	w := start(t)
	c := w.client()
	put := must[*clientv3.PutResponse](t)(c.Put(w.ctx, "a", "1"))
	want := &etcdserverpb.ResponseHeader{ClusterId: 1 << 63, MemberId: 1, Revision: 2, RaftTerm: 5}
	if !proto.Equal(put.Header, want) {
		t.Fatalf("header %v, want %v", put.Header, want)
	}
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "b", "2"))
	again := must[*clientv3.PutResponse](t)(c.Put(w.ctx, "a", strings.Repeat("x", 5000), clientv3.WithPrevKV()))
	if again.PrevKv == nil || string(again.PrevKv.Value) != "1" || again.PrevKv.ModRevision != 2 {
		t.Fatalf("previous %v", again.PrevKv)
	}
	get := must[*clientv3.GetResponse](t)(c.Get(w.ctx, "a", clientv3.WithPrefix(), clientv3.WithRev(2)))
	if len(get.Kvs) != 1 || string(get.Kvs[0].Value) != "1" || get.Header.Revision != 4 {
		t.Fatalf("at revision 2: %v", get)
	}
	get = must[*clientv3.GetResponse](t)(c.Get(w.ctx, "", clientv3.WithPrefix(), clientv3.WithLimit(1)))
	if get.Count != 2 || !get.More || len(get.Kvs) != 1 || get.Kvs[0].Version != 2 || len(get.Kvs[0].Value) != 5000 {
		t.Fatalf("limited: %v", get)
	}
	if _, err := c.Get(w.ctx, "a", clientv3.WithRev(99)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Fatalf("the future: %v", err)
	}
	txn := must[*clientv3.TxnResponse](t)(c.Txn(w.ctx).If(clientv3.Compare(clientv3.Value("b"), "=", "2"), clientv3.Compare(clientv3.Version("none"), "=", 0)).
		Then(clientv3.OpPut("c", "3"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("c"), clientv3.OpDelete("b", clientv3.WithPrevKV())}, nil)).Commit())
	inner := txn.Responses[1].GetResponseTxn()
	if !txn.Succeeded || string(inner.Responses[0].GetResponseRange().Kvs[0].Value) != "3" ||
		string(inner.Responses[1].GetResponseDeleteRange().PrevKvs[0].Key) != "b" || inner.Responses[1].GetResponseDeleteRange().Header.Revision != 5 {
		t.Fatalf("txn: %v", txn)
	}
	gone := must[*clientv3.DeleteResponse](t)(c.Delete(w.ctx, "a", clientv3.WithRange("z")))
	if gone.Deleted != 2 || gone.Header.Revision != 6 {
		t.Fatalf("delete: %v", gone)
	}
	must[*clientv3.CompactResponse](t)(c.Compact(w.ctx, 4))
	if _, err := c.Compact(w.ctx, 4); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("compacted twice: %v", err)
	}
}

func TestTooManyOps(t *testing.T) {
	w := start(t, func(o *Options) { o.MaxTxnOps = 2 })
	ops := []clientv3.Op{clientv3.OpPut("a", ""), clientv3.OpPut("b", ""), clientv3.OpPut("c", "")}
	c := w.client()
	must[*clientv3.TxnResponse](t)(c.Txn(w.ctx).Then(ops[:2]...).Commit())
	if _, err := c.Txn(w.ctx).Then(ops...).Commit(); !errors.Is(err, rpctypes.ErrTooManyOps) {
		t.Fatal(err)
	}
}

func TestRangeStream(t *testing.T) {
	w := start(t, func(o *Options) {
		o.Listener.StreamFailed = func(_ string, err error) { t.Errorf("the server complains of what a client asked for: %v", err) }
	})
	c := w.client()
	for i := range 10 {
		must[*clientv3.PutResponse](t)(c.Put(w.ctx, fmt.Sprintf("k%02d", i), "v"))
	}
	kvClient := etcdserverpb.NewKVClient(c.ActiveConnection())
	read := func(r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, int, error) {
		stream, err := kvClient.RangeStream(w.ctx, r)
		if err != nil {
			return nil, 0, err
		}
		merged, chunks := &etcdserverpb.RangeStreamResponse{}, 0
		for {
			chunk, err := stream.Recv()
			if err != nil {
				if err.Error() == "EOF" {
					err = nil
				}
				return merged.RangeResponse, chunks, err
			}
			chunks++
			if last := merged.GetRangeResponse(); last.GetHeader() != nil {
				t.Errorf("another chunk follows the one with the header: %v", chunk)
			}
			proto.Merge(merged, chunk)
		}
	}
	request := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	whole := must[*etcdserverpb.RangeResponse](t)(kvClient.Range(w.ctx, request))
	streamed, chunks, err := read(request)
	if err != nil || !proto.Equal(whole, streamed) || chunks != 4 {
		t.Fatalf("%d chunks, %v: %v, want %v", chunks, err, streamed, whole)
	}
	nothing := &etcdserverpb.RangeRequest{Key: []byte("x"), RangeEnd: []byte("y")}
	if empty, chunks, err := read(nothing); err != nil || chunks != 1 || empty.GetHeader().GetRevision() != whole.Header.Revision {
		t.Fatalf("an empty answer: %d chunks, %v, %v", chunks, empty, err)
	}
	for text, bad := range map[string]*etcdserverpb.RangeRequest{
		"etcdserver: key is not provided":                 {},
		"etcdserver: invalid sort option":                 {Key: []byte("k"), SortOrder: 9},
		"RangeStream does not support custom sort orders": {Key: []byte("k"), SortOrder: etcdserverpb.RangeRequest_DESCEND},
		"RangeStream does not support revision filters":   {Key: []byte("k"), MaxModRevision: 3},
	} {
		if _, _, err := read(bad); rpctypes.ErrorDesc(err) != text {
			t.Errorf("%v: got %v, want %s", bad, err, text)
		}
	}
}

// TestFailedStream: what is the server's own fault is told to whoever watches it.
func TestFailedStream(t *testing.T) {
	for err, own := range map[error]bool{
		kv.ErrCorrupt: true, kv.ErrTimeout: true, errors.New("no such file"): true,
		kv.ErrEmptyKey: false, kv.ErrFutureRevision: false, kv.ErrCompacted: false, etcdwire.ErrMalformed: false,
	} {
		if got := !clientsFault(err, toGRPC(err)); got != own {
			t.Errorf("%v is the server's fault: %v", err, got)
		}
	}
}

func TestClientWatch(t *testing.T) {
	w := start(t)
	c := w.client()
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k1", "before"))
	all := c.Watch(w.ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(2))
	puts := c.Watch(w.ctx, "k", clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	if created := <-puts; !created.Created || created.Header.Revision != 2 || created.Header.ClusterId != 1<<63 {
		t.Fatalf("created: %+v", created)
	}
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k1", "after"))
	must[*clientv3.TxnResponse](t)(c.Txn(w.ctx).Then(clientv3.OpPut("k2", "x"), clientv3.OpDelete("k1")).Commit())

	var got []string
	for len(got) < 4 {
		response, ok := <-all
		if !ok || response.Err() != nil {
			t.Fatalf("watch ended: %v", response.Err())
		}
		for _, e := range response.Events {
			line := fmt.Sprintf("%d %s %s=%s", e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Value)
			if e.PrevKv != nil {
				line += fmt.Sprintf(" was %s", e.PrevKv.Value)
			}
			got = append(got, line)
		}
	}
	want := []string{"2 PUT k1=before", "3 PUT k1=after was before", "4 PUT k2=x", "4 DELETE k1= was after"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for seen := 0; seen < 2; {
		for _, e := range (<-puts).Events {
			if seen++; e.Type != mvccpb.Event_PUT {
				t.Fatalf("filtered watch got %v", e)
			}
		}
	}
	// Progress needs the same stream, that is the same context.
	if err := c.RequestProgress(w.ctx); err != nil {
		t.Fatal(err)
	}
	if p := <-puts; !p.IsProgressNotify() || p.Header.Revision != 4 {
		t.Fatalf("progress: %+v", p)
	}
	must[*clientv3.CompactResponse](t)(c.Compact(w.ctx, 3))
	old := <-c.Watch(w.ctx, "k", clientv3.WithRev(2))
	if old.CompactRevision != 3 || !errors.Is(old.Err(), rpctypes.ErrCompacted) || !old.Canceled {
		t.Fatalf("a watch below the compacted revision: %+v, %v", old, old.Err())
	}
}

// TestWatchMessages looks at single messages, which the client library hides.
func TestWatchMessages(t *testing.T) {
	w := start(t, func(o *Options) { o.MaxRequestBytes = 1000 })
	c := w.client()
	stream := must[etcdserverpb.Watch_WatchClient](t)(etcdserverpb.NewWatchClient(c.ActiveConnection()).Watch(w.ctx))
	ask := func(r *etcdserverpb.WatchRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	create := func(r *etcdserverpb.WatchCreateRequest) {
		t.Helper()
		ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: r}})
	}
	recv := func() *etcdserverpb.WatchResponse {
		t.Helper()
		return must[*etcdserverpb.WatchResponse](t)(stream.Recv())
	}
	refused := func(reason string) {
		t.Helper()
		if r := recv(); r.WatchId != -1 || !r.Created || !r.Canceled || r.CancelReason != reason {
			t.Fatalf("got %v, want a refusal: %s", r, reason)
		}
	}
	ask(&etcdserverpb.WatchRequest{}) // ignored
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1})
	refused("etcdserver: mvcc: required revision has been compacted")
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("j")})
	refused("mvcc: watcher range is empty")
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 7, Filters: []etcdserverpb.WatchCreateRequest_FilterType{9, etcdserverpb.WatchCreateRequest_NODELETE}})
	if r := recv(); r.WatchId != 7 || !r.Created || r.Canceled || r.Header.Revision != 1 {
		t.Fatalf("created: %v", r)
	}
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 7})
	refused("mvcc: duplicate watch ID provided on the WatchStream")

	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k", "v"))
	if r := recv(); r.WatchId != 7 || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "v" || r.Header.Revision != 2 {
		t.Fatalf("event: %v", r)
	}
	ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}})
	if r := recv(); r.WatchId != -1 || len(r.Events) != 0 || r.Header.Revision != 2 || r.Created || r.Canceled {
		t.Fatalf("progress of all: %v", r)
	}
	ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: 99}}})
	ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: 7}}})
	if r := recv(); r.WatchId != 7 || !r.Canceled || r.Created || r.CancelReason != "" {
		t.Fatalf("canceled: %v", r)
	}

	// One revision, larger than what one message may have (1000 bytes and 512 KiB more).
	var puts [][2]string
	for i := range 9 {
		puts = append(puts, [2]string{fmt.Sprint("f", i), strings.Repeat("x", 100_000)})
	}
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("f"), RangeEnd: []byte("g"), Fragment: true, WatchId: 8})
	create(&etcdserverpb.WatchCreateRequest{Key: []byte("f"), RangeEnd: []byte("g"), WatchId: 9})
	recv()
	recv()
	w.store.serveTxn(puts)
	parts, events := 0, 0
	for whole := false; !whole || events < 9; {
		r := recv()
		switch r.WatchId {
		case 9:
			if whole = true; len(r.Events) != 9 || r.Fragment {
				t.Fatalf("a watch without fragments got %d events, fragment %v", len(r.Events), r.Fragment)
			}
		case 8:
			parts++
			events += len(r.Events)
			if proto.Size(r) > 1000+requestOverheadBytes || r.Fragment != (events < 9) {
				t.Fatalf("fragment %d of %d bytes, %d events so far, more to come: %v", parts, proto.Size(r), events, r.Fragment)
			}
		}
	}
	if parts != 2 {
		t.Fatalf("%d fragments, want 2", parts)
	}
	if err := stream.CloseSend(); err != nil { // the client has no more to ask, and still gets events
		t.Fatal(err)
	}
	w.store.serveTxn(puts[:1])
	if r := recv(); len(r.Events) != 1 {
		t.Fatalf("after the client's end of sending: %v", r)
	}
}

func TestClientLeases(t *testing.T) {
	w := start(t)
	c := w.client()
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(w.ctx, 60))
	if _, err := etcdserverpb.NewLeaseClient(c.ActiveConnection()).LeaseGrant(w.ctx, &etcdserverpb.LeaseGrantRequest{ID: int64(lease.ID), TTL: 5}); rpctypes.ErrorDesc(err) != "etcdserver: lease already exists" {
		t.Fatal(err)
	}
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k", "v", clientv3.WithLease(lease.ID)))
	ttl := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(w.ctx, lease.ID, clientv3.WithAttachedKeys()))
	if ttl.TTL != 60 || ttl.GrantedTTL != 60 || len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "k" {
		t.Fatalf("time to live: %v", ttl)
	}
	if r := must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(w.ctx, lease.ID)); r.TTL != 60 || r.ID != lease.ID {
		t.Fatalf("keep-alive: %v", r)
	}
	if r := <-must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(w.ctx, lease.ID)); r.TTL != 60 {
		t.Fatalf("keep-alive: %v", r)
	}
	if list := must[*clientv3.LeaseLeasesResponse](t)(c.Leases(w.ctx)); len(list.Leases) != 1 || list.Leases[0].ID != lease.ID {
		t.Fatalf("leases: %v", list)
	}
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(w.ctx, lease.ID))
	if _, err := c.KeepAliveOnce(w.ctx, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("keep-alive of no lease: %v", err)
	}
	if ttl := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(w.ctx, lease.ID)); ttl.TTL != -1 {
		t.Fatalf("time to live of no lease: %v", ttl)
	}
	if get := must[*clientv3.GetResponse](t)(c.Get(w.ctx, "k")); get.Count != 0 {
		t.Fatal("the lease's key is still there")
	}
}

func TestClientRecipes(t *testing.T) {
	w := start(t)
	c := w.client()
	one := must[*concurrency.Session](t)(concurrency.NewSession(c))
	two := must[*concurrency.Session](t)(concurrency.NewSession(c))
	mutex, other := concurrency.NewMutex(one, "/lock"), concurrency.NewMutex(two, "/lock")
	if err := mutex.Lock(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := other.TryLock(w.ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("locked twice: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- other.Lock(w.ctx) }()
	if err := mutex.Unlock(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	election := concurrency.NewElection(one, "/elect")
	if err := election.Campaign(w.ctx, "me"); err != nil {
		t.Fatal(err)
	}
	if leader := must[*clientv3.GetResponse](t)(election.Leader(w.ctx)); string(leader.Kvs[0].Value) != "me" {
		t.Fatalf("leader %v", leader)
	}
	_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
		stm.Put("n", stm.Get("n")+"x")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMaintenance(t *testing.T) {
	w := start(t)
	c := w.client()
	var header metadata.MD
	raw := etcdserverpb.NewMaintenanceClient(c.ActiveConnection())
	must[*etcdserverpb.StatusResponse](t)(raw.Status(w.ctx, &etcdserverpb.StatusRequest{}, grpc.Header(&header)))
	if header.Get(MetadataProtocol)[0] != "raft" || header.Get(MetadataVersion)[0] != "test" {
		t.Fatalf("metadata %v", header)
	}
	w.store.leader.Store(0)
	status := must[*clientv3.StatusResponse](t)(c.Status(w.ctx, w.address))
	if status.Version != EtcdVersion || status.DbSize != 4096 || status.RaftIndex != 12 || status.RaftAppliedIndex != 11 || status.DbSizeQuota != 1<<31 ||
		fmt.Sprint(status.Errors) != "[etcdserver: no leader memberID:1 alarm:NOSPACE the disk is slow]" {
		t.Fatalf("status %v", status)
	}
	if hash := must[*clientv3.HashKVResponse](t)(c.HashKV(w.ctx, w.address, 1)); hash.Hash != 77 || hash.HashRevision != 1 || hash.CompactRevision != -1 {
		t.Fatalf("hash %v", hash)
	}
	if _, err := c.HashKV(w.ctx, w.address, 50); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Fatalf("hash of the future: %v", err)
	}
	if hash := must[*etcdserverpb.HashResponse](t)(raw.Hash(w.ctx, &etcdserverpb.HashRequest{})); hash.Hash != 77 {
		t.Fatalf("hash %v", hash)
	}
	if defragmented := must[*clientv3.DefragmentResponse](t)(c.Defragment(w.ctx, w.address)); defragmented.Header != nil {
		t.Fatalf("etcd's answer has no header: %v", defragmented)
	}
	if alarms := must[*clientv3.AlarmResponse](t)(c.AlarmList(w.ctx)); len(alarms.Alarms) != 1 || alarms.Alarms[0].Alarm != etcdserverpb.AlarmType_NOSPACE {
		t.Fatalf("alarms %v", alarms)
	}
	if members := must[*clientv3.MemberListResponse](t)(c.MemberList(w.ctx)); len(members.Members) != 1 || members.Members[0].Name != "one" {
		t.Fatalf("members %v", members)
	}
	if auth := must[*clientv3.AuthStatusResponse](t)(c.AuthStatus(w.ctx)); auth.Enabled || auth.AuthRevision != 1 {
		t.Fatalf("authentication: %v", auth)
	}
}

// TestShards: Quorate's own calls, and what Status says of shards.
func TestShards(t *testing.T) {
	w := start(t)
	connection := w.client().ActiveConnection()
	answer := &emptypb.Empty{}
	if err := connection.Invoke(w.ctx, native.ListShards, &emptypb.Empty{}, answer); err != nil {
		t.Fatal(err)
	}
	want := w.store.Shards()
	if list, err := native.DecodeShardList(answer.ProtoReflect().GetUnknown()); err != nil || !reflect.DeepEqual(list, want) {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := connection.Invoke(w.ctx, native.ListTransactions, &emptypb.Empty{}, answer); err != nil {
		t.Fatal(err)
	}
	undecided := w.store.Transactions()
	if list, err := native.DecodeTransactionList(answer.ProtoReflect().GetUnknown()); err != nil || !reflect.DeepEqual(list, undecided) {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := connection.Invoke(w.ctx, native.ListShards+"s", &emptypb.Empty{}, answer); status.Code(err) != codes.Unimplemented {
		t.Fatalf("another call: %v", err)
	}
	for shards, shown := range map[int64]string{1: "[] []", 16: "[16] [5]"} {
		w.store.shards.Store(shards)
		var header metadata.MD
		must[*etcdserverpb.StatusResponse](t)(etcdserverpb.NewMaintenanceClient(connection).Status(w.ctx, &etcdserverpb.StatusRequest{}, grpc.Header(&header)))
		if got := fmt.Sprint(header.Get(MetadataShards), header.Get(MetadataShardsLed)); got != shown {
			t.Errorf("%d shards: %s, want %s", shards, got, shown)
		}
	}
}

func TestClientWithAUserStillConnects(t *testing.T) {
	w := start(t)
	c := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: []string{w.address}, Username: "u", Password: "p", Context: w.ctx}))
	defer c.Close()
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k", "v"))
}

func TestHealth(t *testing.T) {
	w := start(t)
	health := grpc_health_v1.NewHealthClient(w.client().ActiveConnection())
	for _, serving := range []bool{false, true} {
		w.server.SetServing(serving)
		r := must[*grpc_health_v1.HealthCheckResponse](t)(health.Check(w.ctx, &grpc_health_v1.HealthCheckRequest{}))
		if (r.Status == grpc_health_v1.HealthCheckResponse_SERVING) != serving {
			t.Fatalf("%v, want serving %v", r.Status, serving)
		}
	}
}

// Streams that stay do not keep other calls from being served: beyond the stream workers, calls have goroutines of their own.
func TestMoreStreamsThanWorkers(t *testing.T) {
	w := start(t)
	c := w.client()
	watches := etcdserverpb.NewWatchClient(c.ActiveConnection())
	for range 600 + 50 {
		stream := must[etcdserverpb.Watch_WatchClient](t)(watches.Watch(w.ctx))
		create := &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}
		if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: create}); err != nil {
			t.Fatal(err)
		}
		if r := must[*etcdserverpb.WatchResponse](t)(stream.Recv()); !r.Created || r.Canceled {
			t.Fatalf("a watch was refused: %v", r)
		}
	}
	must[*clientv3.PutResponse](t)(c.Put(w.ctx, "k", "v"))
	must[*clientv3.GetResponse](t)(c.Get(w.ctx, "k"))
}
