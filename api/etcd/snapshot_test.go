package etcd

import (
	"io"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestSnapshot reads a snapshot with etcd's client, which needs all pieces and the version.
func TestSnapshot(t *testing.T) {
	w := start(t)
	c := w.client()
	answer := must[*clientv3.SnapshotResponse](t)(c.SnapshotWithVersion(w.ctx))
	content := must[[]byte](t)(io.ReadAll(answer.Snapshot))
	if answer.Version != StorageVersion || len(content) != 3*snapshotPieceBytes+32 || content[0] != 2 || content[len(content)-40] != 0 {
		t.Errorf("got %d bytes of version %q", len(content), answer.Version)
	}
	w.store.refuseSnapshot.Store(true)
	_, err := c.SnapshotWithVersion(w.ctx)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "one is being made") {
		t.Errorf("a refused snapshot: %v", err)
	}
}
