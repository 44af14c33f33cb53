package e2e

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// One node of three was told smaller limits than the others. While it leads they count for what the others take, too; while another one leads,
// they count for what it takes itself.
func TestLimitsOfOneNode(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("with etcd the node that takes a request is the only one that judges it")
	}
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Flags: []string{"--max-request-bytes=16777216"}})
	wide, narrow := try(cl.Leader())(t), try(cl.Followers())(t)[0]
	for _, flag := range []string{"--max-txn-ops=2", "--max-request-bytes=5242880", "--quota-backend-bytes=3145728"} {
		narrow.SetFlag(flag)
	}
	must(t, narrow.Restart())
	must(t, narrow.WaitReady())
	var ops []clientv3.Op
	for i := range 3 {
		ops = append(ops, clientv3.OpPut(fmt.Sprint("limits/", i), "v"))
	}
	refusals := func(at *cluster.Node) {
		t.Helper()
		c := at.Client(t)
		_, err := c.Txn(within(t)).Then(ops...).Commit()
		refused(t, "a transaction at "+at.Name, err, rpctypes.ErrTooManyOps)
		_, err = c.Put(within(t), "limits/large", strings.Repeat("v", 5_500_000))
		refused(t, "a large put at "+at.Name, err, rpctypes.ErrRequestTooLarge)
	}
	refusals(narrow)
	try(wide.Client(t).Txn(within(t)).Then(ops...).Commit())(t)

	if cluster.ManyShards() {
		t.Skip("a leader is moved of the system shard; those of others follow later")
	}
	leader := try(cl.Leader())(t)
	id := try(narrow.Status(within(t)))(t).Header.MemberId
	try(leader.Client(t).MoveLeader(within(t), id))(t)
	refusals(leader)
	_, err := leader.Client(t).Put(within(t), "limits/room", strings.Repeat("v", 4<<20))
	refused(t, "a put for which the leader has no room", err, rpctypes.ErrNoSpace)
	equal(t, "keys", try(leader.Client(t).Get(within(t), "limits/", clientv3.WithPrefix()))(t).Count, 3)
}
