package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestLargestRequests: whatever is accepted can be replicated, and what is refused leaves the cluster as it was.
func TestLargestRequests(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("the limits are ours")
	}
	const limit = 32 << 20
	// On a busy machine requests of this size hold up heartbeats for seconds, and this is not about elections.
	cl := cluster.Start(t, cluster.Options{Flags: []string{fmt.Sprintf("--max-request-bytes=%d", limit), "--heartbeat-interval=500", "--election-timeout=5000"}})
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
	for i := range 45 {
		try(c.Put(within(t), fmt.Sprintf("long%02d%s", i, value[:1<<20]), ""))(t)
	}
	if _, err := c.Delete(within(t), "long", clientv3.WithPrefix()); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Errorf("a delete with effects of 45 MiB: %v", err)
	}
	equal(t, "keys deleted with effects of 38 MiB", try(c.Delete(within(t), "long07", clientv3.WithRange("long45")))(t).Deleted, 38)
	equal(t, "keys deleted then", try(c.Delete(within(t), "long", clientv3.WithPrefix()))(t).Deleted, 7)
}
