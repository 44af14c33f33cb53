package etcd

import (
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const snapshotMethod = "/etcdserverpb.Maintenance/Snapshot"

// snapshotPieceBytes is how much of a snapshot is in one message: as with etcd, which clients need not know.
const snapshotPieceBytes = 32 << 10

// ErrSnapshotRefused is wrapped by Node.Snapshot if there is no snapshot now, or none of this store: the reason is for the client.
var ErrSnapshotRefused = errors.New("no snapshot")

// handleSnapshot sends a snapshot, and its hash as a last piece.
func (s *Service) handleSnapshot(_ any, transport grpc.ServerStream) error {
	return s.withStream(snapshotMethod, transport, func(one *stream) error {
		var in etcdserverpb.SnapshotRequest
		if err := transport.RecvMsg(&in); err != nil {
			return err
		}
		call := callOf(transport)
		call.LimitStalls = true // the file is kept for it
		err := s.options.Node.Snapshot(one.ctx, s.nameOf(call), snapshotPieceBytes, func(piece []byte, left int64) error {
			if err := one.ctx.Err(); err != nil {
				return err
			}
			return transport.SendMsg(&etcdserverpb.SnapshotResponse{RemainingBytes: uint64(left), Blob: piece, Version: StorageVersion})
		})
		if errors.Is(err, ErrSnapshotRefused) {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		return err
	})
}
