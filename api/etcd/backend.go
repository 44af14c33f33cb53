package etcd

import (
	"context"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
)

// Gateway answers requests; *gateway.Gateway is one. Safe for concurrent use.
type Gateway interface {
	// Submit starts a call; its Done is called once, perhaps before Submit returns. The response does not change afterwards.
	Submit(*gateway.Call)
	// Cancel says that nobody waits for the call any more. Done is still called once.
	Cancel(*gateway.Call)
	// NewWatchStream returns the watches of one client stream, whoever it is proved to be.
	NewWatchStream(principal string, proof kv.Credential, memory watch.Memory) (*watch.Stream, error)
	// OpenRange begins to read a range in key order (mvcc.InKeyOrder), at one revision. What it returns must be closed.
	OpenRange(ctx context.Context, request *kv.Request) (gateway.Listing, error)
	// RangeStream hands a range of any size, at one revision, to emit in portions. The last one has the last keys, and More and
	// Count; of the others only the keys count. None is empty, unless the range is.
	RangeStream(ctx context.Context, request *kv.Request, emit func(r *kv.Response, last bool) error) error
	// Meets tells why a client must not do something that is about no certain keys.
	Meets(principal string, proof kv.Credential, need auth.Need) error
	// KnowsUsers tells whether this node may go by the users and roles that it has applied.
	KnowsUsers() bool
	// MayWatch tells why a client must not watch a span, as far as this node knows.
	MayWatch(principal string, proof kv.Credential, span kv.Span) error
	// CatchUp waits until this node has applied all that was committed in a shard at some moment after the call.
	CatchUp(ctx context.Context, shard kv.ShardID) error
	// HashKV is the hash of all keys and their history up to a revision (0: the newest) since the compacted one.
	HashKV(ctx context.Context, principal string, revision kv.Revision) (gateway.HashResult, error)
}

var _ Gateway = (*gateway.Gateway)(nil)

// Node is what this node knows of itself, without asking others. Safe for concurrent use.
type Node interface {
	// Leader is who leads as far as this node knows (0: nobody), and the term. It is asked for every response.
	Leader() (leader kv.NodeID, term uint64)
	// Revision is the store's revision in this node's applied state.
	Revision() kv.Revision
	Status() Status
	// Shards is what this node knows of all shards. It may take a while if there are many.
	Shards() native.ShardList
	// Transactions are those over several shards that are not decided in the shards which this node leads.
	Transactions() native.TransactionList
	// Defragment returns once there is nothing left to reclaim, or that happens by itself.
	Defragment(ctx context.Context) error
	// Snapshot makes a snapshot of all keys in etcd's format, and gives it to send in pieces of about so many bytes, and its hash behind them. left is how many
	// bytes come behind a piece, without the hash. A piece is valid only during the call. ErrSnapshotRefused says why there is none.
	Snapshot(ctx context.Context, principal string, pieceBytes int, send func(piece []byte, left int64) error) error
	// BeginBackup tells what a backup of the store as it is now would be of.
	BeginBackup(ctx context.Context, principal string, send func(*native.BackupBegin) error) error
	// ExportShard sends versions of a shard for a backup. kv.ErrCompacted: the history is compacted above the revision of the backup.
	ExportShard(ctx context.Context, principal string, req native.ExportRequest, send func(*native.ExportPart) error) error
	// HoldHistory keeps the history that is here until the context or the time for that ends, and sends a message from time to time.
	HoldHistory(ctx context.Context, send func(*native.HoldPart) error) error
	// Times sends what is known of the times of revisions.
	Times(ctx context.Context, req native.TimesRequest, send func(*native.TimesPart) error) error
	// MoveLeader hands the leadership, which is here, over to another node, and returns when that one leads. kv.ErrNotLeader, kv.ErrBadTransferee and
	// kv.ErrTooManyRequests mean that nothing was begun, kv.ErrTransferTimeout that the other one did not take over.
	MoveLeader(ctx context.Context, to kv.NodeID) error
}

// Status is what a node tells about itself.
type Status struct {
	Leader         kv.NodeID // 0: none known
	Term           uint64
	CommittedIndex uint64
	AppliedIndex   uint64
	Revision       kv.Revision
	SizeBytes      int64 // on disk
	SizeInUseBytes int64 // of that, live
	QuotaBytes     int64
	Learner        bool
	Shards         int // of the cluster
	ShardsLed      int // of those, by this node
	Alarms         []kv.Alarm
	Errors         []string // anything else that is wrong, for people
}
