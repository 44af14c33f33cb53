package keys

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// Lineage numbers the rows that one shard began to write. It is the number of that shard.
type Lineage uint32

// node is the lineage of the node's own rows.
const node Lineage = 0

// Kind of a row, the fifth byte of its key. The values are on disk: add, never change.
type Kind byte

// The kinds of rows; see the package comment.
const (
	kindIdentity   Kind = 'i'
	kindState      Kind = 's'
	kindCompacted  Kind = 'c'
	kindProgress   Kind = 'p'
	kindExtent     Kind = 'e'
	kindLease      Kind = 'l'
	kindNode       Kind = 'n'
	kindRecord     Kind = 't'
	kindFinished   Kind = 'f'
	kindAuth       Kind = 'u'
	kindTime       Kind = 'd'
	kindAttachment Kind = 'a'
	Latest         Kind = 'k'
	Value          Kind = 'v'
	Version        Kind = 'r'
)

const (
	headerSize  = 4 + 1
	idKeySize   = headerSize + 8
	versionSize = headerSize + 8 + 4
	// recordKeySize is that of a transaction's row.
	recordKeySize = headerSize + 3*8
	// valueSuffix makes the key of a version row that of the version's value, right behind it.
	valueSuffix = 'v'
)

// MaxShard is the greatest number of a shard whose rows have keys.
const MaxShard kv.ShardID = 1<<32 - 2

// Of is the lineage of what the shard writes.
func Of(shard kv.ShardID) Lineage {
	if shard == 0 || shard > MaxShard {
		panic(fmt.Sprintf("keys: shard %d is not between 1 and %d", shard, MaxShard))
	}
	return Lineage(shard)
}

func appendHeader(dst []byte, l Lineage, kind Kind) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(l)), byte(kind))
}

func appendID(dst []byte, l Lineage, kind Kind, id uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(dst, l, kind), id)
}

// AppendRow appends the key of the row about a user's key: Latest or Value.
func AppendRow(dst []byte, l Lineage, kind Kind, key []byte) []byte {
	return append(appendHeader(dst, l, kind), key...)
}

// SetKind makes the key of one row that AppendRow made that of the other.
func SetKind(row []byte, kind Kind) { row[headerSize-1] = byte(kind) }

// KindOf tells the kind of a row by its key.
func KindOf(row []byte) Kind { return Kind(row[headerSize-1]) }

// UserKey is the user's key in the key of a row by key.
func UserKey(row []byte) []byte { return row[headerSize:] }

// RowBounds are the bounds of the rows about user's keys from lower on, and below upper unless that is nil.
func RowBounds(l Lineage, kind Kind, lower, upper []byte) (from, to []byte) {
	from = AppendRow(make([]byte, 0, headerSize+len(lower)), l, kind, lower)
	if upper == nil {
		return from, appendHeader(nil, l, kind+1)
	}
	return from, AppendRow(make([]byte, 0, headerSize+len(upper)), l, kind, upper)
}

// AppendVersion appends the key of a version row: the change at a position of a revision.
func AppendVersion(dst []byte, l Lineage, rev kv.Revision, position uint32) []byte {
	return binary.BigEndian.AppendUint32(appendID(dst, l, Version, uint64(rev)), position)
}

// AppendVersionValue appends the key of the row with the value of a version.
func AppendVersionValue(dst []byte, l Lineage, rev kv.Revision, position uint32) []byte {
	return append(AppendVersion(dst, l, rev, position), valueSuffix)
}

// ParseVersion takes the key of a version row apart. value: it is that of the version's value.
func ParseVersion(row []byte) (rev kv.Revision, position uint32, value bool, err error) {
	value = len(row) == versionSize+1 && row[versionSize] == valueSuffix
	if len(row) != versionSize && !value || Kind(row[headerSize-1]) != Version {
		return 0, 0, false, fmt.Errorf("version row has a malformed key %x: %w", row, storage.ErrCorrupt)
	}
	return kv.Revision(binary.BigEndian.Uint64(row[headerSize:])), binary.BigEndian.Uint32(row[headerSize+8:]), value, nil
}

// State is the key of a shard's state.
func State(shard kv.ShardID) []byte { return appendHeader(nil, Of(shard), kindState) }

// Compacted is the key of the revision that a shard's history was compacted at.
func Compacted(shard kv.ShardID) []byte { return appendHeader(nil, Of(shard), kindCompacted) }

// Progress is the key of how far deleting compacted rows of a shard has come.
func Progress(shard kv.ShardID) []byte { return appendHeader(nil, Of(shard), kindProgress) }

// Extent is the key of the last entry that there were rows of when the state was last shipped.
func Extent(shard kv.ShardID) []byte { return appendHeader(nil, Of(shard), kindExtent) }

// AppendLease appends the key of a lease of the shard.
func AppendLease(dst []byte, shard kv.ShardID, id kv.LeaseID) []byte {
	return appendID(dst, Of(shard), kindLease, uint64(id))
}

// Leases are the bounds of the leases of a shard.
func Leases(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindLease) }

// ParseLease takes the key of a lease apart.
func ParseLease(row []byte) (kv.LeaseID, error) {
	id, err := parseID(row)
	return kv.LeaseID(id), err
}

// AppendNode appends the key of a node of the cluster.
func AppendNode(dst []byte, shard kv.ShardID, id kv.NodeID) []byte {
	return appendID(dst, Of(shard), kindNode, uint64(id))
}

// Nodes are the bounds of the nodes of the cluster.
func Nodes(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindNode) }

// AppendRecord appends the key of what a participant knows of a transaction over several shards.
func AppendRecord(dst []byte, shard kv.ShardID, id kv.TransactionID) []byte {
	dst = appendID(dst, Of(shard), kindRecord, uint64(id.Anchor))
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, id.Term), id.Number)
}

// Records are the bounds of what a participant knows of transactions.
func Records(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindRecord) }

// ParseRecord takes the key of such a row apart.
func ParseRecord(row []byte) (kv.TransactionID, error) {
	if len(row) != recordKeySize {
		return kv.TransactionID{}, fmt.Errorf("row of a transaction has a malformed key %x: %w", row, storage.ErrCorrupt)
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(row[headerSize+8*at:]) }
	return kv.TransactionID{Anchor: kv.ShardID(number(0)), Term: number(1), Number: number(2)}, nil
}

// AppendFinished appends the key of what is finished of an anchor's transactions.
func AppendFinished(dst []byte, shard, anchor kv.ShardID) []byte {
	return appendID(dst, Of(shard), kindFinished, uint64(anchor))
}

// Finished are the bounds of what a shard keeps of finished transactions.
func Finished(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindFinished) }

// ParseFinished takes such a key apart.
func ParseFinished(row []byte) (kv.ShardID, error) {
	id, err := parseID(row)
	return kv.ShardID(id), err
}

// AppendAttachment appends the key of the row that says that a lease holds a user's key.
func AppendAttachment(dst []byte, l Lineage, id kv.LeaseID, key []byte) []byte {
	return append(appendID(dst, l, kindAttachment, uint64(id)), key...)
}

// Attachments are the bounds of the keys that a lease holds.
func Attachments(l Lineage, id kv.LeaseID) (from, to []byte) {
	from = AppendAttachment(nil, l, id, nil)
	if uint64(id) == 1<<64-1 {
		return from, appendHeader(nil, l, kindAttachment+1)
	}
	return from, AppendAttachment(nil, l, id+1, nil)
}

// AttachedKey is the user's key in the key of an attachment.
func AttachedKey(row []byte) []byte { return row[idKeySize:] }

// Identity is the key of the row that says which replica of a group is on this disk. It is the node's own.
func Identity(group uint64) []byte { return appendID(nil, node, kindIdentity, group) }

// AppendAuth appends the key of a row about users and roles: a class of such rows, and a name.
func AppendAuth(dst []byte, shard kv.ShardID, class byte, name string) []byte {
	return append(append(appendHeader(dst, Of(shard), kindAuth), class), name...)
}

// Auth are the bounds of the rows about users and roles.
func Auth(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindAuth) }

// ParseAuth takes the key of such a row apart.
func ParseAuth(row []byte) (class byte, name string, err error) {
	if len(row) <= headerSize || Kind(row[headerSize-1]) != kindAuth {
		return 0, "", fmt.Errorf("row about users and roles has a malformed key %x: %w", row, storage.ErrCorrupt)
	}
	return row[headerSize], string(row[headerSize+1:]), nil
}

// AppendTime appends the key of the row that says at which time the store had a revision.
func AppendTime(dst []byte, shard kv.ShardID, revision kv.Revision) []byte {
	return appendID(dst, Of(shard), kindTime, uint64(revision))
}

// Times are the bounds of such rows.
func Times(shard kv.ShardID) (from, to []byte) { return all(Of(shard), kindTime) }

// ParseTime takes the key of such a row apart.
func ParseTime(row []byte) (kv.Revision, error) {
	id, err := parseID(row)
	return kv.Revision(id), err
}

func all(l Lineage, kind Kind) (from, to []byte) {
	return appendHeader(nil, l, kind), appendHeader(nil, l, kind+1)
}

func parseID(row []byte) (uint64, error) {
	if len(row) != idKeySize {
		return 0, fmt.Errorf("row of a number has a malformed key %x: %w", row, storage.ErrCorrupt)
	}
	return binary.BigEndian.Uint64(row[headerSize:]), nil
}
