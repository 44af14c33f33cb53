package replica

import (
	"context"
	"io"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The channels of the driver between nodes.
const (
	ChannelConsensus byte = 1
	ChannelLiveness  byte = 2
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
	CloseWithResult() error
}

// Machine is the state machine of one group; shard.Machine is the real one. The driver is its
// only writer. Apply, and everything that changes what readers see, runs under the group's
// exclusive lock, View too; Read runs under the shared lock.
type Machine interface {
	Lead(term consensus.Term, now time.Duration)
	Follow()
	Evaluate(*kv.Request) shard.Outcome
	TakeProposal(now time.Duration) (data []byte, seq uint64)
	ProposalBytes() int
	Tick(now time.Duration) (pending bool)
	NextTick(now time.Duration) (wait time.Duration, needed bool)

	Apply(consensus.Entry, storage.Batch) (shard.Applied, error)
	AppliedIndex() consensus.Index
	AppliedTerm() consensus.Term
	Config() consensus.Config
	Revision() kv.Revision
	Compacted() kv.Revision

	NeedsFlush() bool
	Freeze() bool
	FlushChunk(b storage.Batch, maxRows int) (index consensus.Index, done bool)
	FlushDone()
	Durable(consensus.Index)
	CompactStep(b storage.Batch, maxRows int) (more bool, err error)

	View() *mvcc.View
	Read(*mvcc.View, *kv.Request) (*kv.Response, error)
	StateSpans() []storage.Span
	Check() error
}
