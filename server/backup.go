package server

import (
	"context"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/storage/mvcc"
)

const (
	// exportBatchBytes is about how much of a shard is read, and sent, at once.
	exportBatchBytes = 512 << 10
	// leasesPerMessage is how many leases are in a message.
	leasesPerMessage = 16 << 10
)

// BeginBackup tells what a backup of the store as it is now would be of. It is not frozen after that: whoever makes the backup reads each shard up to the
// revision, and is told if the history was compacted above it meanwhile.
func (n localNode) BeginBackup(ctx context.Context, principal string, send func(*native.BackupBegin) error) error {
	s := n.s
	present, err := s.gateway.OpenBackup(ctx, principal)
	if err != nil {
		return err
	}
	leases := present.Leases()
	begin := native.BackupBegin{Cluster: s.options.Cluster.ID(), Member: s.options.NodeID(), Revision: present.Revision(), Compacted: present.HistoryFrom(), Time: time.Now().UnixNano(),
		Partition: s.options.Cluster.Partition.Flags()}
	var users []kv.UserRow
	if state := present.Users(); state != nil {
		users = state.Rows()
	}
	present.Close()
	for _, shard := range n.Shards().Shards {
		begin.Shards = append(begin.Shards, native.BackupShard{ID: shard.ID, Bytes: shard.Bytes})
	}
	if err := send(&begin); err != nil {
		return err
	}
	for len(leases) > 0 {
		var part native.BackupBegin
		for _, l := range leases[:min(leasesPerMessage, len(leases))] {
			part.Leases = append(part.Leases, native.BackupLease{ID: l.ID, TTLSeconds: l.TTLSeconds})
		}
		leases = leases[len(part.Leases):]
		if err := send(&part); err != nil {
			return err
		}
	}
	for len(users) > 0 {
		var part native.BackupBegin
		for bytes := 0; len(users) > 0 && bytes < exportBatchBytes; users = users[1:] {
			part.Users = append(part.Users, users[0])
			bytes += len(users[0].Name) + len(users[0].Row)
		}
		if err := send(&part); err != nil {
			return err
		}
	}
	return nil
}

// ExportShard sends the versions of a shard. The state that they are read from is kept until all are sent.
func (n localNode) ExportShard(ctx context.Context, principal string, req native.ExportRequest, send func(*native.ExportPart) error) error {
	export, err := n.s.gateway.OpenExport(ctx, principal, req.Shard, req.Revision)
	if err != nil {
		return err
	}
	defer export.Close()
	if err := send(&native.ExportPart{Compacted: export.Compacted()}); err != nil {
		return err
	}
	at := mvcc.Locator{Rev: req.FromRevision, Sub: req.FromSub}
	var batch backup.Batch
	for done := false; !done; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		batch.Reset()
		at, done, err = export.Versions(at, exportBatchBytes, func(e *mvcc.Effect) error {
			batch.Add(exported(e))
			return nil
		})
		if err != nil {
			return err
		}
		if err := send(&native.ExportPart{Versions: batch.Bytes, Done: done}); err != nil {
			return err
		}
	}
	return nil
}
