package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func TestMemberList(t *testing.T) {
	cl := calmCluster(t)
	for _, n := range cl.Nodes {
		c := n.Client(t)
		for _, options := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable()}} {
			// A member's client addresses become known to all when it has started.
			eventually(t, "member list of "+n.Name, func(ctx context.Context) error {
				response, err := c.MemberList(ctx, options...)
				if err != nil {
					return err
				}
				var got, want []string
				for i, member := range response.Members {
					got = append(got, fmt.Sprint(member.Name, member.PeerURLs, member.ClientURLs, member.IsLearner))
					want = append(want, fmt.Sprint(cl.Nodes[i].Name, []string{"http://" + cl.Nodes[i].PeerAddress}, []string{"http://" + cl.Nodes[i].Endpoint}, false))
				}
				slices.Sort(got)
				if len(got) != 3 || !slices.Equal(got, want) {
					return fmt.Errorf("%q, want %q", got, want)
				}
				return nil
			})
		}
		// The client finds all nodes by it.
		must(t, c.Sync(within(t)))
		equal(t, "endpoints", len(c.Endpoints()), 3)
	}
}

func TestStatus(t *testing.T) {
	cl := calmCluster(t)
	try(cl.Client(t).Put(within(t), "status", "v"))(t)
	leader := try(cl.Leader())(t)
	leaderID := try(leader.Status(within(t)))(t).Header.MemberId
	seen := map[uint64]bool{}
	for _, n := range cl.Nodes {
		s := try(n.Status(within(t)))(t)
		equal(t, "leader at "+n.Name, s.Leader, leaderID)
		if !strings.HasPrefix(s.Version, "3.") || s.RaftTerm == 0 || s.RaftIndex == 0 || s.RaftAppliedIndex == 0 || s.DbSize == 0 || s.DbSizeInUse == 0 || s.Header.Revision == 0 || s.IsLearner || len(s.Errors) != 0 {
			t.Errorf("status of %s: %v", n.Name, s)
		}
		seen[s.Header.MemberId] = true
	}
	equal(t, "members", len(seen), 3)
}

// The hash of the history up to a revision is the same everywhere, while writes go on, and tells histories apart.
func testHashKV(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	var revisions []int64
	for i := range 30 {
		response := try(c.Txn(within(t)).Then(clientv3.OpPut(fmt.Sprint("hash/", i%7), fmt.Sprint(i)), clientv3.OpDelete(fmt.Sprint("hash/other", i-1)), clientv3.OpPut(fmt.Sprint("hash/other", i), "")).Commit())(t)
		revisions = append(revisions, response.Header.Revision)
	}
	writer := startCounter(t, c, "hash-counter")
	progressed(t, c, "hash-counter")
	var lastHash uint32
	compare := func(when string) {
		t.Helper()
		for _, revision := range revisions[10:] {
			var first *clientv3.HashKVResponse
			for _, n := range cl.Nodes {
				var response *clientv3.HashKVResponse
				// A node may have to catch up with the revision first.
				eventually(t, "hash at "+n.Name, func(ctx context.Context) (err error) {
					response, err = n.Client(t).HashKV(ctx, n.Endpoint, revision)
					return err
				})
				if first == nil {
					first = response
				}
				if response.Hash != first.Hash || response.CompactRevision != first.CompactRevision || response.HashRevision != revision {
					t.Errorf("%s, revision %d at %s: %v, want %v", when, revision, n.Name, response, first)
				}
			}
			if first.Hash == lastHash {
				t.Errorf("%s: revision %d has the hash of the one before", when, revision)
			}
			lastHash = first.Hash
		}
	}
	compare("before the compaction")
	at := revisions[10]
	try(c.Compact(within(t), at, clientv3.WithCompactPhysical()))(t)
	for _, n := range cl.Nodes {
		eventually(t, "compaction at "+n.Name, func(ctx context.Context) error {
			_, err := n.Client(t).Get(ctx, "x", clientv3.WithRev(at-1), clientv3.WithSerializable())
			if err != rpctypes.ErrCompacted {
				return fmt.Errorf("%v", err)
			}
			return nil
		})
	}
	compare("after the compaction")
	writer.end(t, c)
	_, err := c.HashKV(within(t), cl.Nodes[0].Endpoint, 1<<60)
	refused(t, "hash of the future", err, rpctypes.ErrFutureRev)
	for _, n := range cl.Nodes {
		hash := try(pb.NewMaintenanceClient(n.Client(t).ActiveConnection()).Hash(within(t), &pb.HashRequest{}))(t)
		if hash.Hash == 0 {
			t.Errorf("hash of %s: %v", n.Name, hash)
		}
		try(n.Client(t).Defragment(within(t), n.Endpoint))(t)
	}
	compare("after a defragmentation")
}

// Above the quota writes are refused, with etcd's error, everything that helps goes on, and after a
// compaction the alarm can be disarmed.
func TestQuota(t *testing.T) {
	skipShort(t)
	t.Parallel()
	const quota = 8 << 20
	cl := cluster.Start(t, cluster.Options{Flags: []string{fmt.Sprint("--quota-backend-bytes=", quota), "--max-request-bytes=16777216"}})
	c := cl.Client(t)
	lease := try(c.Grant(within(t), 600))(t)
	// Random, so that it takes its size on disk: etcd does not compress, the product does.
	random := make([]byte, 256<<10)
	try(rand.Read(random))(t)
	value := string(random)
	var err error
	written := 0
	for ; err == nil && written < 100; written++ {
		_, err = c.Put(within(t), fmt.Sprintf("quota/%03d", written), value)
	}
	refused(t, "a put above the quota", err, rpctypes.ErrNoSpace)
	t.Log(written, "values of 256 KiB in 8 MiB")
	if written < 15 {
		t.Errorf("only %d values of 256 KiB fit into 8 MiB", written)
	}
	for _, n := range cl.Nodes {
		c := n.Client(t)
		eventually(t, "alarm at "+n.Name, func(ctx context.Context) error {
			response, err := c.AlarmList(ctx)
			if err == nil && (len(response.Alarms) == 0 || response.Alarms[0].Alarm != pb.AlarmType_NOSPACE) {
				err = fmt.Errorf("alarms: %v", response.Alarms)
			}
			return err
		})
		_, err = c.Put(within(t), "quota/small", "v")
		refused(t, "a small put", err, rpctypes.ErrNoSpace)
		_, err = c.Txn(within(t)).Then(clientv3.OpPut("quota/small", "v")).Commit()
		refused(t, "a put in a transaction", err, rpctypes.ErrNoSpace)
		_, err = c.Grant(within(t), 60)
		refused(t, "a lease", err, rpctypes.ErrNoSpace)
		equal(t, "a read", try(c.Get(within(t), "quota/000"))(t).Count, 1)
		equal(t, "a deletion", try(c.Delete(within(t), "quota/00"+n.Name[1:]))(t).Deleted, 1)
		try(c.KeepAliveOnce(within(t), lease.ID))(t)
		try(c.Txn(within(t)).Then(clientv3.OpGet("quota/000")).Commit())(t)
		eventually(t, "the alarm in the status of "+n.Name, func(ctx context.Context) error {
			s, err := n.Status(ctx)
			if err == nil && (len(s.Errors) == 0 || !strings.Contains(s.Errors[0], "NOSPACE")) {
				err = fmt.Errorf("errors: %q", s.Errors)
			}
			return err
		})
	}
	try(c.Revoke(within(t), lease.ID))(t)
	last := try(c.Delete(within(t), "quota/", clientv3.WithPrefix()))(t).Header.Revision
	try(c.Compact(within(t), last, clientv3.WithCompactPhysical()))(t)
	for _, n := range cl.Nodes {
		try(c.Defragment(within(t), n.Endpoint))(t)
	}
	for _, n := range cl.Nodes {
		if s := try(n.Status(within(t)))(t); s.DbSize > quota/2 {
			t.Errorf("%s reports %d bytes after it was defragmented", n.Name, s.DbSize)
		}
	}
	try(c.AlarmDisarm(within(t), &clientv3.AlarmMember{}))(t)
	for _, n := range cl.Nodes {
		try(n.Client(t).Put(within(t), "quota/again", value))(t)
	}
	equal(t, "alarms left", len(try(c.AlarmList(within(t)))(t).Alarms), 0)
	beyondQuota(t, cl, quota)
}

// beyondQuota: what would exceed the quota is refused by the node that is asked for it, before it is done; then the alarm is there.
func beyondQuota(t *testing.T, cl *cluster.Cluster, quota int) {
	var ops []clientv3.Op
	for i := range quota>>20 + 1 {
		ops = append(ops, clientv3.OpPut(fmt.Sprint("quota/beyond/", i), strings.Repeat("x", 1<<20)))
	}
	c := cl.Nodes[1].Client(t)
	_, err := c.Txn(within(t)).Then(ops...).Commit()
	refused(t, "a transaction larger than what is left", err, rpctypes.ErrNoSpace)
	equal(t, "keys of it", try(c.Get(within(t), "quota/beyond/", clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count, 0)
	alarms := try(c.AlarmList(within(t)))(t).Alarms
	if len(alarms) != 1 || alarms[0].Alarm != pb.AlarmType_NOSPACE || alarms[0].MemberID != try(cl.Nodes[1].Status(within(t)))(t).Header.MemberId {
		t.Errorf("alarms: %v, want NOSPACE of the node that was asked", alarms)
	}
	try(c.AlarmDisarm(within(t), &clientv3.AlarmMember{}))(t)
	try(c.Put(within(t), "quota/again", "v"))(t)
}

func TestHealth(t *testing.T) {
	cl := calmCluster(t)
	for _, n := range cl.Nodes {
		client := grpc_health_v1.NewHealthClient(n.Client(t).ActiveConnection())
		response := try(client.Check(within(t), &grpc_health_v1.HealthCheckRequest{}))(t)
		equal(t, n.Name, response.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	}
}

// What is not there says so in words.
func TestUnimplemented(t *testing.T) {
	cl := calmCluster(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has these")
	}
	c := cl.Client(t)
	ctx := within(t)
	for method, words := range map[string]string{
		"/etcdserverpb.Maintenance/Downgrade": "no etcd version to downgrade to",
		"/v3lockpb.Lock/Lock":                 "not available in this version",
		"/v3electionpb.Election/Campaign":     "not available in this version",
		"/etcdserverpb.KV/Frobnicate":         "does not know this method",
	} {
		err := c.ActiveConnection().Invoke(ctx, method, &pb.RangeRequest{}, &pb.RangeResponse{})
		if status.Code(err) != codes.Unimplemented || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// Codes, not only texts, are etcd's: other clients go by them.
func TestErrorCodes(t *testing.T) {
	c := calmCluster(t).Client(t)
	kv := pb.NewKVClient(c.ActiveConnection())
	_, empty := kv.Put(within(t), &pb.PutRequest{})
	_, future := kv.Range(within(t), &pb.RangeRequest{Key: []byte("k"), Revision: 1 << 60})
	_, sort := kv.Range(within(t), &pb.RangeRequest{Key: []byte("k"), SortOrder: 7})
	_, target := kv.Range(within(t), &pb.RangeRequest{Key: []byte("k"), SortTarget: 9})
	_, missing := kv.Put(within(t), &pb.PutRequest{Key: []byte("codes"), Lease: 0x7ffc})
	_, noKey := kv.Put(within(t), &pb.PutRequest{Key: []byte("codes/none"), IgnoreValue: true})
	_, duplicate := kv.Txn(within(t), &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}}}}})
	for _, test := range []struct {
		name string
		got  error
		want error
	}{
		{"empty key", empty, rpctypes.ErrGRPCEmptyKey},
		{"future", future, rpctypes.ErrGRPCFutureRev},
		{"sort order", sort, rpctypes.ErrGRPCInvalidSortOption},
		{"sort target", target, rpctypes.ErrGRPCInvalidSortOption},
		{"lease", missing, rpctypes.ErrGRPCLeaseNotFound},
		{"no key", noKey, rpctypes.ErrGRPCKeyNotFound},
		{"duplicate", duplicate, rpctypes.ErrGRPCDuplicateKey},
	} {
		if status.Code(test.got) != status.Code(test.want) || status.Convert(test.got).Message() != status.Convert(test.want).Message() {
			t.Errorf("%s: %v, want %v", test.name, test.got, test.want)
		}
	}
}

// A client that asks for a leader is refused at once where there is none, instead of waiting.
func testRequireLeader(t *testing.T, cl *cluster.Cluster) {
	n := cl.Nodes[1]
	c := n.Client(t)
	watch := c.Watch(clientv3.WithRequireLeader(t.Context()), "require-leader", clientv3.WithCreatedNotify())
	<-watch
	must(t, cl.Nodes[0].Kill())
	must(t, cl.Nodes[2].Kill())
	begin := time.Now()
	for response := range watch {
		if response.Canceled {
			refused(t, "the watch", response.Err(), rpctypes.ErrNoLeader)
			break
		}
	}
	t.Logf("the watch ended after %v", time.Since(begin))
	eventually(t, "refusal of a read", func(ctx context.Context) error {
		// The client would try again: ask below it.
		_, err := pb.NewKVClient(c.ActiveConnection()).Range(clientv3.WithRequireLeader(ctx), &pb.RangeRequest{Key: []byte("k")})
		if status.Convert(err).Message() != status.Convert(rpctypes.ErrGRPCNoLeader).Message() {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
}

// TestAlarmsOfNobody: what nobody could mean is refused, however often it is asked for, and slows nobody down afterwards.
func TestAlarmsOfNobody(t *testing.T) {
	cl := calmCluster(t)
	if cluster.IsEtcd() {
		t.Skip("etcd raises whatever it is asked for")
	}
	raise := func(n *cluster.Node, kind pb.AlarmType, member uint64) error {
		client := pb.NewMaintenanceClient(n.Client(t).ActiveConnection())
		_, err := client.Alarm(within(t), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: kind, MemberID: member})
		return err
	}
	for _, n := range cl.Nodes { // forwarded, too
		member := try(n.Status(within(t)))(t).Header.MemberId
		if err := raise(n, 77, member); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: an alarm of type 77: %v", n.Name, err)
		}
		for invented := range uint64(3) {
			if err := raise(n, pb.AlarmType_NOSPACE, member+1+invented); status.Code(err) != codes.NotFound {
				t.Errorf("%s: an alarm of a member that is not there: %v", n.Name, err)
			}
		}
	}
	equal(t, "alarms", len(try(cl.Client(t).AlarmList(within(t)))(t).Alarms), 0)
}
