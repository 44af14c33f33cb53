package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var everyService = []grpc.ServiceDesc{
	etcdserverpb.KV_ServiceDesc, etcdserverpb.Watch_ServiceDesc, etcdserverpb.Lease_ServiceDesc,
	etcdserverpb.Cluster_ServiceDesc, etcdserverpb.Maintenance_ServiceDesc, etcdserverpb.Auth_ServiceDesc,
}

// etcdErrors says by etcd's own names what each error becomes; it is written apart from the table under test.
var etcdErrors = map[error]error{
	kv.ErrEmptyKey: rpctypes.ErrGRPCEmptyKey, kv.ErrKeyNotFound: rpctypes.ErrGRPCKeyNotFound,
	kv.ErrValueProvided: rpctypes.ErrGRPCValueProvided, kv.ErrLeaseProvided: rpctypes.ErrGRPCLeaseProvided,
	kv.ErrTooManyOps: rpctypes.ErrGRPCTooManyOps, kv.ErrDuplicateKey: rpctypes.ErrGRPCDuplicateKey,
	kv.ErrInvalidSortOption: rpctypes.ErrGRPCInvalidSortOption, kv.ErrCompacted: rpctypes.ErrGRPCCompacted,
	kv.ErrFutureRevision: rpctypes.ErrGRPCFutureRev, kv.ErrNoSpace: rpctypes.ErrGRPCNoSpace,
	kv.ErrLeaseNotFound: rpctypes.ErrGRPCLeaseNotFound, kv.ErrLeaseExists: rpctypes.ErrGRPCLeaseExist,
	kv.ErrLeaseTTLTooLarge: rpctypes.ErrGRPCLeaseTTLTooLarge, kv.ErrRequestTooLarge: rpctypes.ErrGRPCRequestTooLarge,
	kv.ErrTooManyRequests: rpctypes.ErrGRPCRequestTooManyRequests, kv.ErrNoLeader: rpctypes.ErrGRPCNoLeader,
	kv.ErrNotLeader: rpctypes.ErrGRPCNotLeader, kv.ErrLeaderChanged: rpctypes.ErrGRPCLeaderChanged,
	kv.ErrTimeout: rpctypes.ErrGRPCTimeout, kv.ErrOutcomeUnknown: rpctypes.ErrGRPCTimeoutDueToLeaderFail,
	kv.ErrStopped: rpctypes.ErrGRPCStopped, kv.ErrUnhealthy: rpctypes.ErrGRPCUnhealthy, kv.ErrCorrupt: rpctypes.ErrGRPCCorrupt,
	kv.ErrPermissionDenied: rpctypes.ErrGRPCPermissionDenied, kv.ErrMemberNotFound: rpctypes.ErrGRPCMemberNotFound,
	kv.ErrCanceled: rpctypes.ErrGRPCCanceled, kv.ErrBadTransferee: rpctypes.ErrGRPCBadLeaderTransferee,
	kv.ErrRootUserNotExist: rpctypes.ErrGRPCRootUserNotExist, kv.ErrRootRoleNotExist: rpctypes.ErrGRPCRootRoleNotExist,
	kv.ErrUserAlreadyExist: rpctypes.ErrGRPCUserAlreadyExist, kv.ErrUserEmpty: rpctypes.ErrGRPCUserEmpty,
	kv.ErrUserNotFound: rpctypes.ErrGRPCUserNotFound, kv.ErrRoleAlreadyExist: rpctypes.ErrGRPCRoleAlreadyExist,
	kv.ErrRoleNotFound: rpctypes.ErrGRPCRoleNotFound, kv.ErrRoleEmpty: rpctypes.ErrGRPCRoleEmpty,
	kv.ErrAuthFailed: rpctypes.ErrGRPCAuthFailed, kv.ErrPermissionNotGiven: rpctypes.ErrGRPCPermissionNotGiven,
	kv.ErrRoleNotGranted: rpctypes.ErrGRPCRoleNotGranted, kv.ErrPermissionNotGranted: rpctypes.ErrGRPCPermissionNotGranted,
	kv.ErrAuthNotEnabled: rpctypes.ErrGRPCAuthNotEnabled, kv.ErrInvalidAuthToken: rpctypes.ErrGRPCInvalidAuthToken,
	kv.ErrInvalidAuthMgmt: rpctypes.ErrGRPCInvalidAuthMgmt, kv.ErrAuthOldRevision: rpctypes.ErrGRPCAuthOldRevision,
	kv.ErrMemberExists: rpctypes.ErrGRPCMemberExist, kv.ErrPeerURLExists: rpctypes.ErrGRPCPeerURLExist,
	kv.ErrNotEnoughStarted: rpctypes.ErrGRPCMemberNotEnoughStarted, kv.ErrMemberNotLearner: rpctypes.ErrGRPCMemberNotLearner,
	kv.ErrLearnerNotReady: rpctypes.ErrGRPCLearnerNotReady, kv.ErrTooManyLearners: rpctypes.ErrGRPCTooManyLearners,
	kv.ErrMembersChanged:     rpctypes.ErrGRPCUnhealthy,
	kv.ErrFenced:             status.Error(codes.FailedPrecondition, "put: the cluster is fenced: it refuses writes until somebody runs quorate fence release"),
	kv.ErrTransferTimeout:    status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long"),
	kv.ErrInvalidRequest:     status.Error(codes.InvalidArgument, "put: invalid request"),
	kv.ErrUnknownCompareType: status.Error(codes.InvalidArgument, "put: unknown compare target or result"),
	kv.ErrManyShards:         status.Error(codes.Unimplemented, "put: requests that touch several shards are not served yet: send one for each key, or keep such keys in one shard by --hash-prefix or split keys"),
	kv.ErrLeaseShards:        status.Error(codes.Unimplemented, "put: a lease holds keys of one shard only in this version; use one lease for the keys of each shard"),
	kv.ErrLeaseWaits:         status.Error(codes.Unavailable, "put: another shard that has a part in the lease has not answered in time; is it without a leader?"),
	kv.ErrShardNotHere:       status.Error(codes.Unavailable, "put: the node has no replica of the shard"),
}

// TestEveryErrorReachesTheClient: with etcd's code and text, wrapped or not.
func TestEveryErrorReachesTheClient(t *testing.T) {
	w := start(t)
	client := etcdserverpb.NewKVClient(w.client().ActiveConnection())
	for code := kv.Code(1); kv.ErrorOf(code) != nil; code++ {
		sentinel := kv.ErrorOf(code)
		want, known := etcdErrors[sentinel]
		if !known {
			t.Fatalf("no expectation for %v", sentinel)
		}
		w.store.intercept = func(c *gateway.Call) bool {
			c.Done(nil, fmt.Errorf("put: %w", sentinel))
			return true
		}
		_, err := client.Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
		if status.Code(err) != status.Code(want) || rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(want) {
			t.Errorf("%v: client gets %v, want %v", sentinel, err, want)
		}
	}
	if len(mappings) != len(etcdErrors) {
		t.Errorf("%d mappings, %d expectations", len(mappings), len(etcdErrors))
	}
	for i, m := range mappings {
		if int(m.sentinel.Code) != i+1 || (m.grpc == nil) == (m.code == codes.OK) {
			t.Errorf("mapping %d of %v is out of place or says nothing", i, m.sentinel)
		}
	}
	// Limits that etcd does not have are named, also by a leader elsewhere.
	remote, _, _ := etcdwire.DecodeError(etcdwire.AppendError(nil, kv.BeyondLimit("effects (7 bytes)", kv.ErrRequestTooLarge), etcdwire.Hints{}))
	w.store.intercept = func(c *gateway.Call) bool { c.Done(nil, fmt.Errorf("evaluate: %w", remote)); return true }
	const named = "etcdserver: request is too large: beyond the limit of effects (7 bytes)"
	if _, err := client.Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.InvalidArgument || rpctypes.ErrorDesc(err) != named {
		t.Errorf("a limit that is named: %v", err)
	}
	// So are shards without a leader.
	w.store.intercept = func(c *gateway.Call) bool {
		c.Done(nil, kv.Leaderless(kv.ErrTimeout, []kv.ShardID{1, 3}))
		return true
	}
	const leaderless = "etcdserver: request timed out, without a leader: shard 1, which numbers revisions, shard 3"
	if _, err := client.Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.Unavailable || rpctypes.ErrorDesc(err) != leaderless {
		t.Errorf("shards without a leader: %v", err)
	}
	w.store.intercept = func(c *gateway.Call) bool { c.Done(nil, errors.New("odd")); return true }
	if _, err := client.Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.Unknown || rpctypes.ErrorDesc(err) != "odd" {
		t.Errorf("an error without a code: %v", err)
	}
}

// TestEveryMethodAnswers: no method of etcd's is missing; what is not served says why.
func TestEveryMethodAnswers(t *testing.T) {
	w := start(t)
	conn := w.raw()
	served := map[string]bool{}
	for method := range unaryKinds {
		served[method] = true
	}
	for _, m := range []string{"Status", "HashKV", "Hash", "Defragment", "MoveLeader"} {
		served["/etcdserverpb.Maintenance/"+m] = true
	}
	served[snapshotMethod] = true
	served["/etcdserverpb.Auth/AuthStatus"], served["/etcdserverpb.Auth/Authenticate"] = true, true
	check := func(method string, err error) {
		t.Helper()
		sentence := strings.HasPrefix(rpctypes.ErrorDesc(err), method+": ") && len(rpctypes.ErrorDesc(err)) > len(method)+20
		if unimplemented := status.Code(err) == codes.Unimplemented; unimplemented == served[method] || unimplemented && !sentence {
			t.Errorf("%s answers %v", method, err)
		}
		if strings.Contains(rpctypes.ErrorDesc(err), "does not know") != strings.Contains(method, "nonsense") && !served[method] {
			t.Errorf("%s answers %v", method, err)
		}
	}
	for _, service := range everyService {
		for _, m := range service.Methods {
			method := "/" + service.ServiceName + "/" + m.MethodName
			var in, out []byte
			check(method, conn.Invoke(w.ctx, method, &in, &out))
		}
	}
	for _, method := range []string{"/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock", "/v3electionpb.Election/Campaign", "/etcdserverpb.KV/nonsense", "/nonsense/x"} {
		var in, out []byte
		check(method, conn.Invoke(w.ctx, method, &in, &out))
	}
	stream := must[grpc.ClientStream](t)(conn.NewStream(w.ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.Maintenance/Snapshot"))
	var in, out []byte
	if err := stream.SendMsg(&in); err != nil {
		t.Fatal(err)
	}
	check("/etcdserverpb.Maintenance/Snapshot", stream.RecvMsg(&out))
}

// TestHostileMessages sends garbage to every method; the server survives and keeps serving.
func TestHostileMessages(t *testing.T) {
	w := start(t)
	conn := w.raw()
	rng := rand.New(rand.NewSource(7))
	var deep []byte
	for range 300 {
		deep = lengthPrefixed(2, lengthPrefixed(4, deep)) // a transaction as the operation of another
	}
	messages := [][]byte{{0xff}, {0}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, deep, []byte(strings.Repeat("\x0b", 100_000))}
	for range 20 {
		junk := make([]byte, rng.Intn(64))
		rng.Read(junk)
		messages = append(messages, junk)
	}
	for _, service := range everyService {
		for _, m := range service.Methods {
			method := "/" + service.ServiceName + "/" + m.MethodName
			for i, message := range messages {
				var out []byte
				err := conn.Invoke(w.ctx, method, &message, &out)
				if _, raw := unaryKinds[method]; raw && i < 3 && (status.Code(err) != codes.Internal || !strings.HasPrefix(rpctypes.ErrorDesc(err), "grpc: failed to unmarshal the received message: ")) {
					t.Fatalf("%s of %x: %v", method, message, err)
				}
			}
		}
		for _, m := range service.Streams {
			for _, message := range messages[:3] {
				stream := must[grpc.ClientStream](t)(conn.NewStream(w.ctx, &m, "/"+service.ServiceName+"/"+m.StreamName))
				var out []byte
				if err := errors.Join(stream.SendMsg(&message), stream.RecvMsg(&out)); err == nil {
					t.Fatalf("%s accepts %x", m.StreamName, message)
				}
			}
		}
	}
	var out []byte
	if err := conn.Invoke(w.ctx, "/etcdserverpb.KV/Txn", &deep, &out); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("deep nesting: %v", err)
	}
	must[*clientv3.PutResponse](t)(w.client().Put(w.ctx, "k", "still here"))
}

func lengthPrefixed(field byte, body []byte) []byte {
	head := []byte{field<<3 | 2}
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			return append(append(head, byte(n)), body...)
		}
		head = append(head, byte(n)|0x80)
	}
}

func TestRequestSizes(t *testing.T) {
	w := start(t, func(o *Options) { o.MaxRequestBytes = 1000 })
	conn := w.raw()
	put := func(valueBytes int) error {
		in := etcdwire.AppendPut(nil, &kv.PutRequest{Key: []byte("k"), Value: make([]byte, valueBytes)})
		var out []byte
		return conn.Invoke(w.ctx, "/etcdserverpb.KV/Put", &in, &out)
	}
	if err := put(990); err != nil {
		t.Fatal(err)
	}
	if err := put(1000); rpctypes.ErrorDesc(err) != "etcdserver: request is too large" || status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	if err := put(1000 + requestOverheadBytes); status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
}

func TestRequireLeader(t *testing.T) {
	w := start(t, func(o *Options) { o.LeaderCheckInterval = time.Millisecond })
	c := w.client()
	requiring := clientv3.WithRequireLeader(w.ctx)
	must[*clientv3.PutResponse](t)(c.Put(requiring, "k", "v"))
	api := etcdserverpb.NewWatchClient(c.ActiveConnection())
	stream := must[etcdserverpb.Watch_WatchClient](t)(api.Watch(requiring))
	lenient := must[etcdserverpb.Watch_WatchClient](t)(api.Watch(w.ctx))
	create := &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}}
	for _, s := range []etcdserverpb.Watch_WatchClient{stream, lenient} {
		if err := s.Send(create); err != nil {
			t.Fatal(err)
		}
		must[*etcdserverpb.WatchResponse](t)(s.Recv())
	}

	w.store.leader.Store(0)
	if _, err := stream.Recv(); rpctypes.ErrorDesc(err) != "etcdserver: no leader" || status.Code(err) != codes.Unavailable {
		t.Fatalf("an open stream that requires a leader: %v", err)
	}
	again := must[etcdserverpb.Watch_WatchClient](t)(api.Watch(requiring))
	if _, err := again.Recv(); rpctypes.ErrorDesc(err) != "etcdserver: no leader" {
		t.Fatalf("a new stream that requires a leader: %v", err)
	}
	for _, call := range []func() error{
		func() error {
			_, err := etcdserverpb.NewKVClient(c.ActiveConnection()).Put(requiring, &etcdserverpb.PutRequest{Key: []byte("k")})
			return err
		},
		func() error {
			_, err := etcdserverpb.NewMaintenanceClient(c.ActiveConnection()).Status(requiring, &etcdserverpb.StatusRequest{})
			return err
		},
	} {
		if err := call(); rpctypes.ErrorDesc(err) != "etcdserver: no leader" {
			t.Fatalf("a call that requires a leader: %v", err)
		}
	}
	w.store.leader.Store(1)
	must[*clientv3.PutResponse](t)(c.Put(requiring, "k", "w"))
	if r := must[*etcdserverpb.WatchResponse](t)(lenient.Recv()); len(r.Events) != 1 {
		t.Fatalf("a stream that requires no leader: %v", r)
	}
}

func TestCancellationAndDeadlineReachTheGateway(t *testing.T) {
	w := start(t)
	submitted := make(chan *gateway.Call, 1)
	w.store.intercept = func(c *gateway.Call) bool { submitted <- c; return true }
	client := etcdserverpb.NewKVClient(w.client().ActiveConnection())
	deadline := time.Now().Add(20 * time.Second)
	ctx, cancel := context.WithDeadline(w.ctx, deadline)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
		failed <- err
	}()
	call := <-submitted
	if off := call.Deadline.Sub(deadline).Abs(); off > 5*time.Second {
		t.Errorf("the deadline is off by %v", off)
	}
	cancel()
	if err := <-failed; status.Code(err) != codes.Canceled {
		t.Errorf("the client gets %v", err)
	}
	if canceled := <-w.store.canceled; canceled != call {
		t.Error("another call was canceled")
	}
	call.Done(nil, kv.ErrCanceled) // as the gateway does, after nobody waits any more
	w.store.intercept = nil
	if _, err := client.Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
}

// TestKeepAlivesArePipelined: many are in flight at once, and answers keep the order.
func TestKeepAlivesArePipelined(t *testing.T) {
	const inFlight = 8
	w := start(t, func(o *Options) { o.KeepAlivesInFlight = inFlight })
	submitted := make(chan *gateway.Call, 100)
	w.store.intercept = func(c *gateway.Call) bool { submitted <- c; return true }
	stream := must[etcdserverpb.Lease_LeaseKeepAliveClient](t)(etcdserverpb.NewLeaseClient(w.client().ActiveConnection()).LeaseKeepAlive(w.ctx))
	for id := range 40 {
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var calls []*gateway.Call
	for range inFlight {
		calls = append(calls, <-submitted)
	}
	answer := func(c *gateway.Call) {
		id := c.Req.LeaseKeepAlive.ID
		if id == 39 {
			c.Done(nil, kv.ErrLeaseNotFound)
			return
		}
		c.Done(&kv.Response{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: id, TTLSeconds: 100 + int64(id)}}, nil)
	}
	for i := range calls { // backwards
		answer(calls[len(calls)-1-i])
	}
	for id := range 40 {
		if id >= inFlight {
			answer(<-submitted)
		}
	}
	for id := range 40 {
		want := int64(100 + id)
		if id == 39 {
			want = 0
		}
		if r := must[*etcdserverpb.LeaseKeepAliveResponse](t)(stream.Recv()); r.ID != int64(id) || r.TTL != want {
			t.Fatalf("answer %d is %v", id, r)
		}
	}
	if _, err := stream.Recv(); err == nil || err.Error() != "EOF" {
		t.Fatalf("at the end: %v", err)
	}
}

// TestKeepAlivesKeepTheirOrder: those that are answered at once, by whoever receives them, do not overtake those that wait.
func TestKeepAlivesKeepTheirOrder(t *testing.T) {
	w := start(t)
	submitted := make(chan *gateway.Call, 100)
	waits := func(id kv.LeaseID) bool { return id%5 == 3 }
	w.store.intercept = func(c *gateway.Call) bool {
		if id := c.Req.LeaseKeepAlive.ID; waits(id) {
			submitted <- c
		} else {
			c.Done(&kv.Response{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: id, TTLSeconds: 100}}, nil)
		}
		return true
	}
	stream := must[etcdserverpb.Lease_LeaseKeepAliveClient](t)(etcdserverpb.NewLeaseClient(w.client().ActiveConnection()).LeaseKeepAlive(w.ctx))
	const count = 40
	for id := range count {
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range int64(count) {
		if waits(kv.LeaseID(id)) {
			c := <-submitted
			c.Done(&kv.Response{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: c.Req.LeaseKeepAlive.ID, TTLSeconds: 100}}, nil)
		}
		if r := must[*etcdserverpb.LeaseKeepAliveResponse](t)(stream.Recv()); r.ID != id || r.TTL != 100 {
			t.Fatalf("answer %d is %v", id, r)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || err.Error() != "EOF" {
		t.Fatalf("at the end: %v", err)
	}
}

func TestStopEndsStreamsAndWaitsForCalls(t *testing.T) {
	w := start(t)
	c := w.client()
	stream := must[etcdserverpb.Watch_WatchClient](t)(etcdserverpb.NewWatchClient(c.ActiveConnection()).Watch(w.ctx))
	create := &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}}
	if err := stream.Send(create); err != nil {
		t.Fatal(err)
	}
	must[*etcdserverpb.WatchResponse](t)(stream.Recv())
	submitted := make(chan *gateway.Call, 1)
	w.store.intercept = func(c *gateway.Call) bool { submitted <- c; return true }
	answered := make(chan error, 1)
	go func() {
		_, err := etcdserverpb.NewKVClient(c.ActiveConnection()).Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
		answered <- err
	}()
	call := <-submitted
	stopped := make(chan struct{})
	go func() {
		w.server.Stop(w.ctx)
		close(stopped)
	}()
	if _, err := stream.Recv(); rpctypes.ErrorDesc(err) != "etcdserver: server stopped" {
		t.Fatalf("the watch ends with %v", err)
	}
	call.Done(&kv.Response{Kind: kv.KindPut, Revision: 2, Put: &kv.PutResponse{}}, nil)
	if err := <-answered; err != nil {
		t.Fatalf("a call that ran when the server stopped: %v", err)
	}
	<-stopped
}

func TestStopIsBounded(t *testing.T) {
	w := start(t)
	submitted := make(chan *gateway.Call, 1)
	w.store.intercept = func(c *gateway.Call) bool { submitted <- c; return true }
	answered := make(chan error, 1)
	go func() {
		_, err := etcdserverpb.NewKVClient(w.client().ActiveConnection()).Put(w.ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
		answered <- err
	}()
	<-submitted // and never answered
	over, cancel := context.WithCancel(w.ctx)
	cancel()
	w.server.Stop(over)
	if err := <-answered; err == nil {
		t.Fatal("an answer to an unanswered call")
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	w := start(t)
	var clients sync.WaitGroup
	for i := range 8 {
		c := w.client()
		clients.Go(func() {
			for n := range 50 {
				key := fmt.Sprintf("c%d", i)
				if _, err := c.Put(w.ctx, key, fmt.Sprint(n)); err != nil {
					t.Error(err)
					return
				}
				r, err := c.Get(w.ctx, key)
				if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != fmt.Sprint(n) || r.Kvs[0].Version != int64(n+1) {
					t.Errorf("read %v, %v after write %d", r, err, n)
					return
				}
			}
		})
	}
	clients.Wait()
}

func TestOptionsAreChecked(t *testing.T) {
	store := must[*fake](t)(newFake())
	defer store.hub.Close()
	good := Options{Gateway: store, Node: store}
	for name, bad := range map[string]Options{
		"no gateway":     {Node: store},
		"negative size":  {Gateway: store, Node: store, MaxRequestBytes: -1},
		"negative ops":   {Gateway: store, Node: store, MaxTxnOps: -1},
		"negative pings": {Gateway: store, Node: store, PingTimeout: -1},
		"no keep-alives": {Gateway: store, Node: store, KeepAlivesInFlight: -1},
	} {
		if _, err := NewServer(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
}
