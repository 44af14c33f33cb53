package native

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

// The paths of the calls that a backup is made by. All answer with a stream.
const (
	BeginBackup = "/quorate.v1.Backups/Begin"
	ExportShard = "/quorate.v1.Backups/Export"
	HoldHistory = "/quorate.v1.Backups/Hold"
)

// HoldPart is a message of the answer to HoldHistory: the node deletes nothing of the history from the first one on, as long as the call lasts, or until one
// says that it is Over. They come from time to time.
type HoldPart struct {
	LimitSeconds int64 // for how long the node holds it at most
	Over         bool  // it did for so long, and does not any more
}

// BackupBegin is the answer to BeginBackup: what a backup of the store as it is now would be of. A first message has all but the leases, those that follow have
// leases, or users and roles.
type BackupBegin struct {
	Cluster   kv.ClusterID
	Member    kv.NodeID
	Revision  kv.Revision
	Compacted kv.Revision // where the history begins
	Time      int64       // nanoseconds since 1970, by the clock of the node
	Partition string      // the flags that say which shards there are
	Shards    []BackupShard
	Leases    []BackupLease
	Users     []kv.UserRow
}

// BackupShard is a shard. Bytes is about what it takes on disk.
type BackupShard struct {
	ID    kv.ShardID
	Bytes int64
}

// BackupLease is a lease as it was granted.
type BackupLease struct {
	ID         kv.LeaseID
	TTLSeconds int64
}

// ExportRequest asks for the versions of a shard from a place in its history on, up to a revision.
type ExportRequest struct {
	Shard        kv.ShardID
	FromRevision kv.Revision
	FromSub      uint32
	Revision     kv.Revision
}

// ExportPart is a message of the answer to ExportShard. The first one has Compacted, where the history begins as far as it was read; the last one is Done.
type ExportPart struct {
	Compacted kv.Revision
	Versions  []byte // as in a block of a data file: see docs/backup-format.md
	Done      bool
}

// The fields of the messages.
const (
	beginCluster   protowire.Number = 1
	beginMember    protowire.Number = 2
	beginRevision  protowire.Number = 3
	beginCompacted protowire.Number = 4
	beginTime      protowire.Number = 5
	beginPartition protowire.Number = 6
	beginShards    protowire.Number = 7
	beginLeases    protowire.Number = 8
	beginUsers     protowire.Number = 9

	userRowClass protowire.Number = 1
	userRowName  protowire.Number = 2
	userRowRow   protowire.Number = 3

	backupShardID    protowire.Number = 1
	backupShardBytes protowire.Number = 2

	backupLeaseID  protowire.Number = 1
	backupLeaseTTL protowire.Number = 2

	exportShard        protowire.Number = 1
	exportFromRevision protowire.Number = 2
	exportFromSub      protowire.Number = 3
	exportRevision     protowire.Number = 4

	partCompacted protowire.Number = 1
	partVersions  protowire.Number = 2
	partDone      protowire.Number = 3

	holdLimitSeconds protowire.Number = 1
	holdOver         protowire.Number = 2
)

// Append encodes the message.
func (b *BackupBegin) Append(dst []byte) []byte {
	dst = appendNumber(dst, beginCluster, uint64(b.Cluster))
	dst = appendNumber(dst, beginMember, uint64(b.Member))
	dst = appendNumber(dst, beginRevision, uint64(b.Revision))
	dst = appendNumber(dst, beginCompacted, uint64(b.Compacted))
	dst = appendNumber(dst, beginTime, uint64(b.Time))
	dst = appendBytes(dst, beginPartition, []byte(b.Partition))
	for _, s := range b.Shards {
		dst = appendPair(dst, beginShards, backupShardID, uint64(s.ID), backupShardBytes, uint64(s.Bytes))
	}
	for _, l := range b.Leases {
		dst = appendPair(dst, beginLeases, backupLeaseID, uint64(l.ID), backupLeaseTTL, uint64(l.TTLSeconds))
	}
	for _, u := range b.Users {
		row := appendNumber(nil, userRowClass, uint64(u.Class))
		row = appendBytes(appendBytes(row, userRowName, []byte(u.Name)), userRowRow, u.Row)
		dst = protowire.AppendBytes(protowire.AppendTag(dst, beginUsers, protowire.BytesType), row)
	}
	return dst
}

// appendPair appends a message of two numbers.
func appendPair(dst []byte, field, first protowire.Number, a uint64, second protowire.Number, b uint64) []byte {
	pair := appendNumber(appendNumber(nil, first, a), second, b)
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), pair)
}

// DecodeBackupBegin reads what Append wrote. Fields that it does not know, of later versions, are passed over.
func DecodeBackupBegin(in []byte) (b BackupBegin, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case beginCluster:
			b.Cluster = kv.ClusterID(f.varint)
		case beginMember:
			b.Member = kv.NodeID(f.varint)
		case beginRevision:
			b.Revision = kv.Revision(f.varint)
		case beginCompacted:
			b.Compacted = kv.Revision(f.varint)
		case beginTime:
			b.Time = int64(f.varint)
		case beginPartition:
			b.Partition = string(f.bytes)
		case beginShards:
			id, bytes, err := decodePair(f.bytes, backupShardID, backupShardBytes)
			b.Shards = append(b.Shards, BackupShard{ID: kv.ShardID(id), Bytes: int64(bytes)})
			return err
		case beginLeases:
			id, ttl, err := decodePair(f.bytes, backupLeaseID, backupLeaseTTL)
			b.Leases = append(b.Leases, BackupLease{ID: kv.LeaseID(id), TTLSeconds: int64(ttl)})
			return err
		case beginUsers:
			u, err := decodeUserRow(f.bytes)
			b.Users = append(b.Users, u)
			return err
		}
		return nil
	})
	return b, err
}

func decodeUserRow(in []byte) (u kv.UserRow, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case userRowClass:
			u.Class = byte(f.varint)
		case userRowName:
			u.Name = string(f.bytes)
		case userRowRow:
			u.Row = f.bytes
		}
		return nil
	})
	return u, err
}

func decodePair(in []byte, first, second protowire.Number) (a, b uint64, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case first:
			a = f.varint
		case second:
			b = f.varint
		}
		return nil
	})
	return a, b, err
}

// Append encodes the request.
func (r *ExportRequest) Append(dst []byte) []byte {
	dst = appendNumber(dst, exportShard, uint64(r.Shard))
	dst = appendNumber(dst, exportFromRevision, uint64(r.FromRevision))
	dst = appendNumber(dst, exportFromSub, uint64(r.FromSub))
	return appendNumber(dst, exportRevision, uint64(r.Revision))
}

// DecodeExportRequest reads what Append wrote.
func DecodeExportRequest(in []byte) (r ExportRequest, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case exportShard:
			r.Shard = kv.ShardID(f.varint)
		case exportFromRevision:
			r.FromRevision = kv.Revision(f.varint)
		case exportFromSub:
			r.FromSub = uint32(f.varint)
		case exportRevision:
			r.Revision = kv.Revision(f.varint)
		}
		return nil
	})
	return r, err
}

// Append encodes the message.
func (p *ExportPart) Append(dst []byte) []byte {
	dst = appendNumber(dst, partCompacted, uint64(p.Compacted))
	dst = appendBytes(dst, partVersions, p.Versions)
	if p.Done {
		dst = appendNumber(dst, partDone, 1)
	}
	return dst
}

// DecodeExportPart reads what Append wrote.
func DecodeExportPart(in []byte) (p ExportPart, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case partCompacted:
			p.Compacted = kv.Revision(f.varint)
		case partVersions:
			p.Versions = f.bytes
		case partDone:
			p.Done = f.varint != 0
		}
		return nil
	})
	return p, err
}

// Append encodes the message.
func (h *HoldPart) Append(dst []byte) []byte {
	dst = appendNumber(dst, holdLimitSeconds, uint64(h.LimitSeconds))
	if h.Over {
		dst = appendNumber(dst, holdOver, 1)
	}
	return dst
}

// DecodeHoldPart reads what Append wrote.
func DecodeHoldPart(in []byte) (h HoldPart, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case holdLimitSeconds:
			h.LimitSeconds = int64(f.varint)
		case holdOver:
			h.Over = f.varint != 0
		}
		return nil
	})
	return h, err
}
