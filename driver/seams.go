package driver

import (
	"context"
	"io"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// The channels of the driver between nodes.
const (
	ChannelConsensus byte = 1
	ChannelLiveness  byte = 2
	ChannelIdentity  byte = 5
	ChannelMarks     byte = 6
	ChannelMarked    byte = 7 // as ChannelConsensus, with the sender's mark
	// 3 and 4 are package gateway's, 8 is package issuer's, 9 is package server's.
)

// Transport carries frames between nodes. See package transport.
type Transport interface {
	Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool
	Flush()
	OpenStream(ctx context.Context, to kv.NodeID, name string) (Stream, error)
}

// Stream carries one snapshot. Close returns what the receiver said of it.
type Stream interface {
	io.Writer
	Close() error
}

// Machine is the state machine of one group; shard.Machine is the real one. The driver is its only
// writer; it holds the group's exclusive lock for everything that is not marked as shared.
type Machine interface {
	// Shard is the one whose rows the machine writes. Shared.
	Shard() kv.ShardID
	Lead(term consensus.Term, now time.Duration) error
	Follow()
	Evaluate(*kv.Request) shard.Outcome
	EvaluateInformed(*kv.Request) shard.Outcome
	// NextBeside and FinishBeside: requests that take too long for a round, see shard.Beside.
	NextBeside() *shard.Beside
	FinishBeside(*shard.Beside) shard.Outcome
	// StepBulk, AbandonBulk, Sealed, Bulk and ApplyBulk: effects that are too many for a round, see shard.Machine.
	StepBulk() (*shard.Beside, shard.Outcome)
	AbandonBulk(*shard.Beside) error
	Sealed() bool
	Bulk() (staged, pending int) // shared
	ApplyBulk(b storage.Batch, maxEffects int)
	// Renew answers a keep-alive that needs nothing of the log, if nobody else leads; false: Evaluate does.
	Renew(req *kv.LeaseKeepAliveRequest, now time.Duration) (*kv.Response, bool)
	// Begin, Unnumbered, Bounds, NeedsPresent, Number and BeginAnew: revisions that come from elsewhere, see shard.Machine.
	Begin(present kv.Present, exact bool) error
	Unnumbered() int
	Bounds() kv.Bounds
	NeedsPresent() bool
	Number(first, compacted kv.Revision) error
	BeginAnew() error // with the exclusive lock
	// Asks, AskedOf and Answered: what leaders of other shards are asked about leases, see shard.Machine.
	Asks() []shard.Ask
	AskedOf(lease kv.LeaseID) []kv.ShardID
	Answered(ask *shard.Ask, resp *kv.Response, err error, ended bool) (out shard.Outcome, decided bool)
	// Released, Woken, Contended and Withdraw: requests that are Blocked by transactions over several shards, see shard.Machine.
	Released() uint64
	Woken() []uint64
	Contended() bool
	Withdraw(*kv.Request)
	TakeProposal(now time.Duration) (data []byte, seq uint64)
	HasProposal() bool
	PendingBytes() int
	Tick(now time.Duration) error
	// WantsTicks tells whether something in the state depends on time.
	WantsTicks() bool

	Apply(consensus.Entry, storage.Batch) (shard.Applied, error)
	AppliedIndex() consensus.Index // shared
	AppliedTerm() consensus.Term   // shared
	Config() consensus.Config      // shared
	// Placements says which replicas live on which disks. Shared.
	Placements() []shard.Placement
	Times() timeline.Series
	Roster() kv.Roster      // on which nodes the group is to be; shared
	Closed() kv.Revision    // shared
	Highest() kv.Revision   // shared
	Limit() kv.Revision     // shared
	Compacted() kv.Revision // shared
	Alarms() []kv.Alarm     // shared
	Auth() *auth.State      // shared
	Members() *members.List // shared
	TellAlarms(types uint64)
	Metrics() shard.Metrics

	// Memory is what is held of what the node bounds for all groups. Shared.
	Memory() mvcc.Memory
	ShrinkCache()
	NeedsFlush() bool
	// DirtyRows is about how many rows a flush would write: 0 if there is none.
	DirtyRows() int
	Freeze() bool
	FlushChunk(b storage.Batch, maxRows int) (done bool, err error)
	FlushDone() consensus.Index
	MarkDurable(consensus.Index)
	CompactReady() bool
	CompactBegun() bool
	CompactStep(b storage.Batch, maxRows int) (more bool, err error)

	View() *mvcc.View
	// Read answers a request without effects from the view, or from the newest state if there is none. Shared.
	Read(view *mvcc.View, now time.Duration, req *kv.Request) (*kv.Response, error)
	// ReadAt answers a request about keys as of a revision. Shared.
	ReadAt(view *mvcc.View, req *kv.Request, at kv.Present) (*kv.Response, error)
	// Unsettled tells whether something that a request reads may be in flight at or below a revision, and Settles with which proposal all of that is
	// applied. Shared, and the driver's.
	Unsettled(req *kv.Request, at kv.Revision) bool
	Settles(at kv.Revision) (seq uint64)
	// Held tells whether a transaction over several shards may yet write what a request reads, at or below a revision. Undecided are those without an end, Finished
	// is up to where those of an anchor are finished. PreparedSince is for calling the shard clean, see shard.Machine. Shared.
	Held(req *kv.Request, at kv.Revision) bool
	Undecided() []kv.UnfinishedTransaction
	Finished(anchor kv.ShardID) kv.Finished
	PreparedSince(highest kv.Revision) bool
	// Replaced reads one version that is not the newest of its key; it needs no lock, but what UnderBulk returns (shared).
	UnderBulk() *mvcc.UnderBulk
	Replaced(mvcc.Locator, *mvcc.UnderBulk) (row kv.KeyValue, prev mvcc.Locator, found bool, err error)
	// Ship and StateSpans: what a snapshot of the engine has of the group, see shard.Machine.
	Ship(storage.Batch) consensus.SnapshotMeta
	StateSpans() []storage.Span
	Check() error
}
