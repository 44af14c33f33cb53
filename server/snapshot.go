package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// snapshotFile is the snapshot that is being made, in the directory of what is on its way: what a crash leaves there is removed at the next start.
const snapshotFile = "etcd-snapshot"

// clientSnapshots are the snapshots that clients ask this node for.
type clientSnapshots struct {
	busy                    atomic.Bool // one is being made, or sent
	sent, failed, sentBytes atomic.Int64
}

// snapshotMetrics say what became of them.
type snapshotMetrics struct {
	UnderWay, Sent, Failed, SentBytes int64
}

func (c *clientSnapshots) metrics() snapshotMetrics {
	m := snapshotMetrics{Sent: c.sent.Load(), Failed: c.failed.Load(), SentBytes: c.sentBytes.Load()}
	if c.busy.Load() {
		m.UnderWay = 1
	}
	return m
}

// Snapshot sends the store as a snapshot of etcd. It is written into a file first: its size and its shape are known only then. One is made at a time. Nothing
// of the store's state is held any more while it is sent.
func (n localNode) Snapshot(ctx context.Context, principal string, pieceBytes int, send func(piece []byte, left int64) error) (err error) {
	s := n.s
	defer func() {
		if err != nil {
			s.snapshots.failed.Add(1)
		}
	}()
	if s.snapshots.busy.Swap(true) {
		return fmt.Errorf("%w: this node makes one already; ask again when it is through, or another node", etcd.ErrSnapshotRefused)
	}
	defer s.snapshots.busy.Store(false)
	began := time.Now()
	backup, err := s.gateway.OpenBackup(ctx, principal)
	if err != nil {
		return err
	}
	w, err := writeSnapshot(ctx, filepath.Join(s.dir.Path, datadir.Staging, snapshotFile), backup)
	revision := backup.Revision()
	backup.Close()
	if err != nil {
		if errors.Is(err, etcdsnap.ErrTooLarge) {
			return fmt.Errorf("%w: %w", etcd.ErrSnapshotRefused, err)
		}
		return err
	}
	err = w.Send(pieceBytes, func(piece []byte, left int64) error {
		s.snapshots.sentBytes.Add(int64(len(piece)))
		return send(piece, left)
	})
	if closeErr := w.Close(); closeErr != nil {
		s.logger.Warn("the file of a snapshot could not be removed", "error", closeErr)
	}
	if err == nil {
		s.snapshots.sent.Add(1)
		s.logger.Info("sent a snapshot to a client", "revision", int64(revision), "took", time.Since(began))
	}
	return err
}

// writeSnapshot writes a backup into a file of etcd's.
func writeSnapshot(ctx context.Context, path string, backup *gateway.Backup) (w *etcdsnap.Writer, err error) {
	if w, err = etcdsnap.Create(path, etcdsnap.MaxBytes); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	for _, l := range backup.Leases() {
		if err := w.PutLease(l); err != nil {
			return nil, err
		}
	}
	if users := backup.Users(); users != nil {
		if err := putUsers(w, users.Whole()); err != nil {
			return nil, err
		}
	}
	written := 0
	err = backup.Versions(func(e *mvcc.Effect, position int64) error {
		if written++; written%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.Put(&etcdsnap.Version{
			KeyValue: kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease},
			Position: position, Deleted: e.Version == 0,
		})
	})
	if err != nil {
		return nil, err
	}
	return w, w.Finish(backup.Compacted())
}
