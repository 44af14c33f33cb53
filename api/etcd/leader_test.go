package etcd

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestMoveLeader: with etcd's answers. Only the leader's node hands over, which is said before the target is looked at.
func TestMoveLeader(t *testing.T) {
	w := start(t)
	c := w.client()
	for _, test := range []struct {
		leader, to uint64
		want       error
	}{
		{2, 9, rpctypes.ErrGRPCNotLeader},
		{0, 2, rpctypes.ErrGRPCNotLeader},
		{1, 9, rpctypes.ErrGRPCBadLeaderTransferee},
		{1, 3, status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")},
		{1, 1, nil},
		{1, 2, nil},
	} {
		w.store.leader.Store(test.leader)
		moved, err := c.MoveLeader(w.ctx, test.to)
		if rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(test.want) {
			t.Errorf("node %d leads, to %d: %v, want %v", test.leader, test.to, err, test.want)
		}
		if err == nil && (moved.Header != nil || w.store.leader.Load() != test.to) {
			t.Errorf("to %d: node %d leads, answer %v", test.to, w.store.leader.Load(), moved)
		}
	}
}
