package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/txn"
)

// The transport's channels that belong to the gateway.
const (
	ChannelRequest  byte = 3
	ChannelResponse byte = 4
)

// Shard is what the gateway needs of a shard's replica on this node; *driver.Replica is one. Its methods are safe
// for concurrent use. Functions given to it are called once, from any goroutine or at once, and do not block.
type Shard interface {
	// Leader returns the node that leads as far as this one knows (0: unknown), and the term.
	Leader() (kv.NodeID, uint64)
	// IsLeader tells whether this replica leads and is ready to serve.
	IsLeader() bool
	// Propose has a request evaluated by the leader, if by (nil: nobody in particular) still wants that just before. kv.ErrNotLeader means that it was
	// not evaluated, kv.ErrLeaderChanged that it was; with either it has and will have no effect. applied is an index that, once applied anywhere,
	// contains what the answer tells. It tells whether the request is queued: if not, done was called at once. If it is, what done appends for other
	// nodes is sent without a Kick.
	Propose(req *kv.Request, by kv.Asker, done func(resp *kv.Response, applied uint64, err error)) (queued bool)
	// ReadIndex finds an index that, once applied anywhere, makes a read linearizable. Leader only.
	ReadIndex(done func(index uint64, err error))
	// LeaseValid tells whether this node leads for certain and has applied all that anybody can have seen. A read of
	// the applied state is linearizable if the answer was yes before it and is yes after it.
	LeaseValid() bool
	WaitApplied(index uint64, done func(error))
	// WaitRevision calls done when the applied state has come to the revision, or with an error when that will not happen here.
	WaitRevision(rev kv.Revision, done func(error))
	// SettleAt finds an index that, once applied anywhere, makes a read linearizable, and the state complete up to a revision that was issued before the
	// call: what the leader has in flight at or below it, or without a revision yet, is waited for. Leader only.
	SettleAt(rev kv.Revision, done func(index uint64, err error))
	// Unsettled tells whether something that the request reads may be in flight at or below a revision that was issued before the call, or without one. It
	// always may be if this replica does not lead.
	Unsettled(req *kv.Request, rev kv.Revision) bool
	// Held tells whether a transaction over several shards may yet write what the request reads, at or below a revision up to which the state is complete but for
	// such transactions (rule 18). WaitReleased calls done when none may any more, or with an error when that will not be known here; it may forget whoever by
	// does not wait for any more.
	Held(req *kv.Request, rev kv.Revision) bool
	WaitReleased(req *kv.Request, rev kv.Revision, by kv.Asker, done func(error))
	// Undecided are the transactions over several shards that the log has not seen the end of, and those of which this shard is the anchor and others may not have
	// heard the end. Finished says of the transactions of this shard as the anchor that all before one are finished.
	Undecided() []kv.UnfinishedTransaction
	Finished() kv.Finished
	// ReadAt answers a read-only request about keys from the applied state as of at.Revision, which is in the header, and up to which the state is complete.
	// Revisions above it are in the future for the request, those below at.Compacted are compacted. shard.ErrReadCompacted: at.Revision itself is.
	ReadAt(req *kv.Request, at kv.Present) (*kv.Response, error)
	// Read answers a read-only request from the applied state.
	Read(req *kv.Request) (*kv.Response, error)
	// Renew answers a keep-alive that needs nothing of the log; false: Propose does it. The answer is right if LeaseValid says yes
	// before the call and after it. applied is as with Propose. elsewhere: the answer is for another node.
	Renew(req *kv.LeaseKeepAliveRequest, elsewhere bool) (resp *kv.Response, applied uint64, renewed bool)
	// CompactionHash returns the hash that was taken when history was compacted at the revision, and where it was compacted before.
	CompactionHash(ctx context.Context, revision kv.Revision) (hash mvcc.HashSum, compacted kv.Revision, found bool, err error)
	// Readable is kv.ErrNoLeader while the applied state is nothing that may be shown, not even as an old one.
	Readable() error
	// Unread gives an error that a read of a View ended with the name that a client is to see: the disk's have none. Damage ends the node.
	Unread(err error) error
	// View freezes the applied state.
	View() *mvcc.View
	// Replaced reads one version that is not the newest of its key, without a lock.
	Replaced(mvcc.Locator) (row kv.KeyValue, prev mvcc.Locator, found bool, err error)
	Revision() kv.Revision
	Compacted() kv.Revision
	// Subscribe has fn called for everything applied from now on, in order.
	Subscribe(fn func(*shard.Applied)) kv.Revision
}

// Sender puts frames into the buffers of peers; the transport is one.
type Sender interface {
	// Append returns false, and sends nothing, when there is no connection or its buffer is full.
	Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool
	// Kick has what was appended sent soon, from another goroutine.
	Kick(to kv.NodeID)
}

// Space is room for data. Safe for concurrent use.
type Space interface {
	// Admit tells whether there is room for so many bytes. If there is, Answered is called when the request has ended.
	Admit(bytes int64) (room bool)
	Answered(bytes int64)
	// Refuse calls refuse, which ends a request that was not admitted with kv.ErrNoSpace, once, at once or later.
	Refuse(refuse func())
}

type endlessSpace struct{}

func (endlessSpace) Admit(int64) bool     { return true }
func (endlessSpace) Answered(int64)       {}
func (endlessSpace) Refuse(refuse func()) { refuse() }

// Limits bound what the gateway holds, for its own clients and, once more, for each node that forwards to it. Beyond them calls end with
// kv.ErrTooManyRequests.
type Limits struct {
	MaxCalls          int // calls in flight
	MaxForwardedBytes int // of requests that wait for the leader or for its answer
	MaxReaders        int // goroutines that read large ranges at the same time, and as many that read lists
	MaxFrameBytes     int // a frame of forwarded requests is closed when it has reached this
	// MaxAnswerBytes bounds the answer to a request of another node, which must fit into a frame of the transport.
	MaxAnswerBytes int
	// MaxTxnOps bounds what decoding a forwarded transaction allocates; 0: no limit. ValidateRequest has the other limits of a request.
	MaxTxnOps int
}

// Options of a Gateway.
type Options struct {
	Self kv.NodeID
	// Router says which shard a request is for. Default: the system shard has everything.
	Router route.Router
	// Shards are the replicas on this node.
	Shards map[kv.ShardID]Shard
	// Revisions says how far the store has come, if there are several shards with one count of revisions. Nil: there is one shard, whose log is the count.
	Revisions Revisions
	// Gather answers reads over several shards, with Revisions and a Router that is a route.Spread. Nil: they are refused with kv.ErrManyShards.
	Gather Gatherer
	// Table and Commit serve writes over several shards, with Revisions: how keys are partitioned, and by which protocol transactions are decided (default:
	// two-phase commit), which is the same on all nodes for ever. Nil: such writes are refused with kv.ErrManyShards.
	Table  *partition.Table
	Commit txn.Protocol
	// Watched is the shard whose changes watches get, one of Shards, if Watch.Shards is not set. Default: the system shard.
	Watched kv.ShardID
	Sender  Sender
	// Users is the applied state of users and roles, as new as what is read here after the call. Nil: everybody may do everything.
	Users func() *auth.State
	// Fenced tells whether this node has heard that writes are refused (kv.AlarmFence), in a store of several shards: at the latest with a revision that was
	// issued since then. Nil: a write is evaluated where that is known.
	Fenced func() bool
	// AuthVersion is the auth.State.Version that this node has heard of as applied somewhere, in a store of several shards. Nil: Users says all that is known.
	AuthVersion func() uint64
	// KnowsUsers tells whether Users is the state of a node that has been in the cluster with all data, and not of one that is still to get it: that may know of
	// no users where there are some, and have the keys of another shard already. Asked until it says yes. Nil: users and keys come together.
	KnowsUsers func() bool
	// ValidateRequest refuses malformed requests before anything else is done with them, forwarded ones too: shard.Validate.
	ValidateRequest func(*kv.Request) error
	Limits          Limits
	// Space judges whether there is room for what requests add: of this node's own clients, and of other nodes while this one leads. Nil: there
	// always is.
	Space Space
	// GuestMemory is what pays for the requests that a node forwards here, besides Limits. Nil: nobody counts.
	GuestMemory func(kv.NodeID) kv.Memory
	// RequestTimeout bounds every call that has no earlier deadline. etcd: 5 s + 2 election timeouts.
	RequestTimeout time.Duration
	// LeaderGrace is how long an answer from a leader that was replaced is awaited. A leader that hands over
	// properly still answers what it has proposed.
	LeaderGrace time.Duration
	// BarrierTimeout is after how long an unanswered read barrier is asked for again.
	BarrierTimeout time.Duration
	// Instance distinguishes this process from the node's earlier ones. 0: random.
	Instance uint64
	// Await, if it is set, lets time pass until what somebody waits for is there, or the context is done: for whoever cannot block. Default: nothing.
	Await func(ctx context.Context, there func() bool)
	// Spawn runs a read that takes long. Default: in a goroutine of its own.
	Spawn func(work func())
	// Clock is monotonic; the same as given to Tick.
	Clock    func() time.Duration
	Listener Listener
	// Watch configures the hub; Source, Sources, Clock and Encode are set by New if they are missing.
	Watch watch.Options
}

// Listener is told what an operator may want to know. Functions may be nil and must be quick.
type Listener struct {
	// LeaderLost: the connection to the leader broke, or it was replaced; so many writes have an unknown outcome.
	LeaderLost func(node kv.NodeID, unknownWrites int)
	// BadMessage: a peer sent something this version does not understand.
	BadMessage func(from kv.NodeID, err error)
}

// WithDefaults returns a copy with defaults for what is not set.
func (o Options) WithDefaults() Options {
	if o.ValidateRequest == nil {
		o.ValidateRequest = func(*kv.Request) error { return nil }
	}
	if o.GuestMemory == nil {
		o.GuestMemory = func(kv.NodeID) kv.Memory { return nil }
	}
	if o.Space == nil {
		o.Space = endlessSpace{}
	}
	o.Limits.MaxCalls = cmp.Or(o.Limits.MaxCalls, 16384)
	o.Limits.MaxForwardedBytes = cmp.Or(o.Limits.MaxForwardedBytes, 64<<20)
	o.Limits.MaxReaders = cmp.Or(o.Limits.MaxReaders, 2*runtime.GOMAXPROCS(0))
	o.Limits.MaxFrameBytes = cmp.Or(o.Limits.MaxFrameBytes, 256<<10)
	o.Limits.MaxAnswerBytes = cmp.Or(o.Limits.MaxAnswerBytes, 40<<20)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 7*time.Second)
	o.LeaderGrace = cmp.Or(o.LeaderGrace, 250*time.Millisecond)
	o.BarrierTimeout = cmp.Or(o.BarrierTimeout, time.Second)
	if o.Spawn == nil {
		o.Spawn = func(work func()) { go work() }
	}
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() time.Duration { return time.Since(start) }
	}
	if o.Instance == 0 {
		var random [8]byte
		rand.Read(random[:]) // never fails
		o.Instance = binary.LittleEndian.Uint64(random[:]) | 1
	}
	if o.Listener.LeaderLost == nil {
		o.Listener.LeaderLost = func(kv.NodeID, int) {}
	}
	if o.Listener.BadMessage == nil {
		o.Listener.BadMessage = func(kv.NodeID, error) {}
	}
	o.Commit = cmp.Or(o.Commit, txn.TwoPhase)
	if o.Router == nil {
		o.Router, _ = route.By(partition.Single()) // which is valid
	}
	o.Watched = cmp.Or(o.Watched, kv.SystemShard)
	if o.Watch.Source == nil && o.Shards[o.Watched] != nil {
		o.Watch.Source = source{o.Shards[o.Watched]}
	}
	if o.Watch.Shards != nil && o.Watch.Sources == nil {
		o.Watch.Sources = make(map[kv.ShardID]watch.Source, len(o.Shards))
		for id, replica := range o.Shards {
			o.Watch.Sources[id] = source{replica}
		}
	}
	if o.Watch.Clock == nil {
		o.Watch.Clock = o.Clock
	}
	if o.Watch.Encode == nil {
		o.Watch.Encode = etcdwire.AppendEvent
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Self == 0:
		return errors.New("gateway: Options.Self is missing")
	case o.Shards[o.Watched] == nil:
		return fmt.Errorf("gateway: Options.Shards lacks shard %d, whose changes watches get", o.Watched)
	case o.Sender == nil:
		return errors.New("gateway: Options.Sender is missing")
	case o.Limits.MaxCalls < 0 || o.Limits.MaxForwardedBytes < 0 || o.Limits.MaxReaders < 0 || o.Limits.MaxFrameBytes < 0 || o.Limits.MaxAnswerBytes < 0:
		return errors.New("gateway: a limit is negative")
	case o.RequestTimeout < 0 || o.LeaderGrace < 0 || o.BarrierTimeout < 0:
		return errors.New("gateway: a duration is negative")
	}
	return nil
}

// source reads history and previous versions for the watch hub.
type source struct{ shard Shard }

func (s source) Revision() kv.Revision  { return s.shard.Revision() }
func (s source) Compacted() kv.Revision { return s.shard.Compacted() }
func (s source) View() (watch.View, error) {
	return s.shard.View(), nil
}

func (s source) Replaced(at mvcc.Locator) (kv.KeyValue, bool, error) {
	row, _, found, err := s.shard.Replaced(at)
	return row, found, err
}
