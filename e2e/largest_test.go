package e2e

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestLargestRequests: whatever is accepted can be replicated, and what is refused leaves the cluster as it was.
func TestLargestRequests(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("the limits are ours")
	}
	const limit = 32 << 20
	// On a busy machine requests of this size hold up heartbeats for seconds, and take long: this is not about elections, nor about the time that a request has,
	// which is longer with a longer election timeout.
	cl := cluster.Start(t, cluster.Options{Flags: []string{fmt.Sprintf("--max-request-bytes=%d", limit), "--heartbeat-interval=1000", "--election-timeout=20000",
		"--max-client-memory-bytes=1073741824", "--max-connection-memory-bytes=536870912"}})
	client := func(n *cluster.Node) *clientv3.Client {
		c := try(clientv3.New(clientv3.Config{Endpoints: []string{n.Endpoint}, MaxCallSendMsgSize: 2 * limit, MaxCallRecvMsgSize: 4 * limit}))(t)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	leader, followers := try(cl.Leader())(t), try(cl.Followers())(t)
	value := strings.Repeat("x", limit-20)
	for _, n := range []*cluster.Node{leader, followers[0]} {
		try(client(n).Put(within(t), "k", value))(t)
	}
	// Long keys make a delete large.
	c := client(followers[1])
	for i := range 130 {
		try(c.Put(within(t), fmt.Sprintf("long%03d%s", i, value[:1<<20]), ""))(t)
	}
	named := func(limit int) string {
		return fmt.Sprintf("etcdserver: request is too large: beyond the limit of effects of one request (%d bytes)", limit)
	}
	_, err := c.Delete(within(t), "long", clientv3.WithPrefix())
	const ofShare = 16 << 20 // of a transaction over several shards, in each of them
	overShards := cluster.ManyShards() && rpctypes.ErrorDesc(err) == named(ofShare)
	if !overShards && rpctypes.ErrorDesc(err) != named(128<<20) {
		t.Errorf("a delete with effects of 130 MiB: %v", err)
	}
	equal(t, "keys deleted with effects of 38 MiB, in one entry", try(c.Delete(within(t), "long007", clientv3.WithRange("long045")))(t).Deleted, 38)
	if overShards {
		equal(t, "keys deleted with effects of 40 MiB", try(c.Delete(within(t), "long045", clientv3.WithRange("long085")))(t).Deleted, 40)
		equal(t, "keys deleted with effects of 45 MiB", try(c.Delete(within(t), "long085", clientv3.WithRange("long130")))(t).Deleted, 45)
		equal(t, "keys deleted then", try(c.Delete(within(t), "long", clientv3.WithPrefix()))(t).Deleted, 7)
		return
	}
	equal(t, "keys deleted with effects of 85 MiB, in parts", try(c.Delete(within(t), "long045", clientv3.WithRange("long130")))(t).Deleted, 85)
	equal(t, "keys deleted then", try(c.Delete(within(t), "long", clientv3.WithPrefix()))(t).Deleted, 7)
}

// TestLongLists: lists that are longer than all client memory are answered, whole and right, many at a time on one connection.
func TestLongLists(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("etcd has no such limit")
	}
	cl := cluster.Start(t, cluster.Options{Flags: []string{"--max-client-memory-bytes=16777216", "--max-connection-memory-bytes=8388608"}})
	const keys, valueBytes, readers = 200, 100_000, 8
	writer := cl.Client(t)
	for i := range keys {
		try(writer.Put(within(t), fmt.Sprintf("long/%03d", i), strings.Repeat(string(rune('a'+i%26)), valueBytes)))(t)
	}
	for _, n := range cl.Nodes {
		kv := pb.NewKVClient(n.Client(t).ActiveConnection())
		var all sync.WaitGroup
		for reader := range readers {
			all.Go(func() {
				request := &pb.RangeRequest{Key: []byte("long/"), RangeEnd: []byte("long0")}
				if reader%3 == 1 {
					request.Limit = 120
				}
				response, err := readWhole(t, kv, request, reader%2 == 0)
				if err != nil {
					t.Errorf("%s, reader %d: %v", n.Name, reader, err)
					return
				}
				want := keys
				if request.Limit > 0 {
					want = int(request.Limit)
				}
				equal(t, "count", response.Count, keys)
				equal(t, "keys", len(response.Kvs), want)
				equal(t, "more", response.More, want < keys)
				for i, pair := range response.Kvs {
					if string(pair.Key) != fmt.Sprintf("long/%03d", i) || len(pair.Value) != valueBytes || pair.Value[valueBytes-1] != byte('a'+i%26) {
						t.Errorf("%s, reader %d: key %d is %q with %d bytes", n.Name, reader, i, pair.Key, len(pair.Value))
					}
				}
			})
		}
		all.Wait()
	}
}

// readWhole reads a range by one call, or as a stream.
func readWhole(t *testing.T, kv pb.KVClient, request *pb.RangeRequest, stream bool) (*pb.RangeResponse, error) {
	if !stream {
		return kv.Range(within(t), request, grpc.MaxCallRecvMsgSize(1<<30))
	}
	parts, err := kv.RangeStream(within(t), request)
	if err != nil {
		return nil, err
	}
	whole := &pb.RangeResponse{}
	for {
		part, err := parts.Recv()
		if errors.Is(err, io.EOF) {
			return whole, nil
		}
		if err != nil {
			return nil, err
		}
		whole.Kvs = append(whole.Kvs, part.RangeResponse.Kvs...)
		whole.Count, whole.More = part.RangeResponse.Count, part.RangeResponse.More
	}
}
