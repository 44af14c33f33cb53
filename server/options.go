package server

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/quoratedb/quorate/authn"
	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/tlsconf"
)

// Options is everything that a node needs to start.
//
// Node differs from node to node. Cluster must be the same on all nodes of a cluster. Where it is not:
//
//   - nodes that found a cluster with different Members or Token, and nodes with different Consensus, Quorums, Partition or CommitProtocol refuse to talk;
//   - a write keeps QuotaBytes, MaxTxnOps and MaxRequestBytes of the node that takes it and of the
//     present leader: the smaller ones count. A read that a node answers itself keeps its own.
//   - ReadSafety is the present leader's, and so is AutoCompaction;
//   - with different Leaders, nodes move the leaders of shards to and fro, slowly;
//   - HeartbeatInterval and ElectionTimeout are each node's own.
type Options struct {
	Node    NodeOptions
	Cluster ClusterOptions
	// Logger takes the log lines of the node's shells. Nil: nothing is logged.
	Logger *slog.Logger
}

// NodeOptions belong to one node.
type NodeOptions struct {
	// Name is the node's name in ClusterOptions.Members.
	Name string
	// DataDir is the directory that holds everything the node stores.
	DataDir string

	// Where the node listens, and under which addresses others reach it.
	ListenClientURLs    []URL
	AdvertiseClientURLs []URL
	ListenPeerURLs      []URL
	AdvertisePeerURLs   []URL // equal, as a set, to the URLs of Name in ClusterOptions.Members
	ListenMetricsURLs   []URL // HTTP with /metrics and /health; empty: not served
	ListenHTTPURLs      []URL // the same, where clients look for it; empty: not served
	EnablePprof         bool  // /debug/pprof/ beside them

	// ClientTLS is for the https:// and unixs:// URLs of clients, metrics and HTTP, PeerTLS for those of nodes. Their roles are filled in.
	ClientTLS, PeerTLS tlsconf.Options

	// InitialClusterState tells what to do with an empty data directory.
	InitialClusterState ClusterState

	// ForceNewCluster: the node makes itself all of a cluster, once, with what it has (Rescue).
	ForceNewCluster bool

	// RefuseDamaged: a node that finds its data damaged ends, and leaves everything as it is. Otherwise it sets the
	// data aside and gets it again from the other nodes.
	RefuseDamaged bool

	// ScrubInterval is how often everything on disk is read again, to find damage. 0: DefaultScrubInterval; negative: never.
	ScrubInterval time.Duration

	// MaxLearners is how many members may be without a vote, where this node adds one; SkipReconfigCheck that it does not look at how many members are up
	// before it changes them.
	MaxLearners       int
	SkipReconfigCheck bool

	// CorruptCheckInterval is how often the data of all nodes is compared, if this node leads. 0: never.
	CorruptCheckInterval time.Duration
	// InitialCorruptCheck: the node compares its data with that of the others before it serves clients, and ends if it differs.
	InitialCorruptCheck bool

	// Audit says what is recorded of what clients do.
	Audit AuditOptions

	// BackupHoldLimit is for how long backups may hold back the deletion of compacted history on this node. 0: DefaultBackupHoldLimit; negative: not at all.
	BackupHoldLimit time.Duration

	// SnapshotCount is how many log entries may be applied before the state
	// engine is flushed and the log behind it becomes reclaimable.
	SnapshotCount uint64

	// WatchProgressNotifyInterval is how long a watch that asked for progress
	// stays silent at most.
	WatchProgressNotifyInterval time.Duration

	// MaxConcurrentStreams bounds the calls in flight on one client connection.
	MaxConcurrentStreams uint32
	// MaxClientConnections bounds the connections of clients; fewer if the system does not allow the process so many open files.
	MaxClientConnections int
	// MaxClientMemoryBytes is what all clients together can make the node hold, MaxConnectionMemoryBytes what one connection can.
	MaxClientMemoryBytes, MaxConnectionMemoryBytes int64
	// AuthToken is which tokens clients get for a password, as etcd's flag says it: "simple", or "jwt," and options. It must be the same on all nodes.
	// AuthTokenTTL is of simple ones; BcryptCost is what hashing a password costs.
	AuthToken    string
	AuthTokenTTL time.Duration
	BcryptCost   int
	// KeepAlive is about connections of clients.
	KeepAlive KeepAliveOptions
}

// KeepAliveOptions says how idle client connections are probed. A negative
// value switches its rule off, as 0 does in etcd's flags.
type KeepAliveOptions struct {
	MinTime  time.Duration // a client that pings more often than this is disconnected
	Interval time.Duration // the node pings a silent client after this long
	Timeout  time.Duration // and drops it when the answer takes longer than this; negative: no pings either
}

// ClusterOptions must be the same on all nodes.
type ClusterOptions struct {
	// Members are the nodes the cluster starts with, this one included. A node with data does not look at them (Options.Recall).
	Members []Member
	// recalled is what the data directory remembers, or the other nodes have said, of the cluster; then Members is not looked at any more. nil: Members counts.
	recalled *foundation
	// given is what of the settings that a cluster keeps was said; what was not is taken over from the data directory, or from the other nodes. nil: WithDefaults was
	// not applied yet.
	given *settings

	// Token tells clusters apart whose members have the same addresses.
	Token string

	Consensus  Consensus
	Quorums    Quorums // of Multi-Paxos
	ReadSafety ReadSafety

	// Partition says which shards there are, and which keys each has. The cluster keeps what it was created with. What is 0 in it follows from the rest; if
	// all is, there is one shard.
	Partition partition.Scheme
	// CommitProtocol is that of transactions over several shards. The cluster keeps what it was created with. With one shard it does not matter.
	CommitProtocol CommitProtocol
	// Leaders says which nodes should lead shards, if there are several.
	Leaders LeaderPolicy

	HeartbeatInterval time.Duration
	ElectionTimeout   time.Duration

	// QuotaBytes is the size of the store above which writes are refused with
	// etcd's NOSPACE. 0: DefaultQuotaBytes; negative: no quota.
	QuotaBytes      int64
	MaxTxnOps       int // operations in one transaction
	MaxRequestBytes int // size of one request

	// AutoCompaction says how much history is kept. Zero: all. The present leader's counts.
	AutoCompaction autocompact.Policy
}

// ClusterState says whether an empty data directory may found a cluster.
type ClusterState string

// The two states, named as etcd's flag values.
const (
	ClusterNew      ClusterState = "new"
	ClusterExisting ClusterState = "existing"
)

// Consensus names the protocol of the replicas.
type Consensus string

// Protocols.
const (
	ConsensusRaft  Consensus = "raft"
	ConsensusPaxos Consensus = "paxos"
)

// ReadSafety says on what a leader bases a linearizable read.
type ReadSafety string

// Kinds of read safety.
const (
	// ReadLease: on promises of a quorum, measured on the monotonic clock with a
	// margin for drift. No message per read.
	ReadLease ReadSafety = "lease"
	// ReadQuorum: on an exchange with a quorum per batch of reads. Trusts no clock.
	ReadQuorum ReadSafety = "quorum"
)

// CommitProtocol names how the shards of a transaction agree on what becomes of it.
type CommitProtocol string

// Commit protocols.
const (
	// Commit2PC: one shard decides, the transaction's anchor. While that has no leader the keys of the transaction wait.
	Commit2PC CommitProtocol = "2pc"
	// Commit3PC: a majority of the transaction's shards decides. One round trip more, and no shard that others wait for.
	Commit3PC CommitProtocol = "3pc"
)

// LeaderPolicy says which nodes should lead shards.
type LeaderPolicy string

// Policies.
const (
	// LeadersSequencer: the node that leads the system shard, where revisions are numbered, leads the others, too. A write needs no message for its number.
	LeadersSequencer LeaderPolicy = "sequencer"
	// LeadersSpread: every node leads about as many as any other.
	LeadersSpread LeaderPolicy = "spread"
)

// Defaults; those of etcd where etcd has the option.
const (
	DefaultName                        = "default"
	DefaultToken                       = "etcd-cluster"
	DefaultClientPort                  = 2379
	DefaultPeerPort                    = 2380
	DefaultHeartbeatInterval           = 100 * time.Millisecond
	DefaultElectionTimeout             = time.Second
	DefaultSnapshotCount               = 10_000
	DefaultScrubInterval               = 24 * time.Hour
	DefaultBackupHoldLimit             = 2 * time.Hour
	DefaultQuotaBytes                  = 2 << 30
	DefaultMaxTxnOps                   = 128
	DefaultMaxRequestBytes             = 3 << 19 // 1.5 MiB
	DefaultWatchProgressNotifyInterval = 10 * time.Minute
	DefaultKeepAliveMinTime            = 5 * time.Second
	DefaultKeepAliveInterval           = 2 * time.Hour
	DefaultKeepAliveTimeout            = 20 * time.Second
	DefaultMaxConcurrentStreams        = math.MaxUint32
	DefaultMaxClientConnections        = 5_000
	DefaultMaxClientMemoryBytes        = 192 << 20
	DefaultMaxConnectionMemoryBytes    = 128 << 20
)

// Limits that Validate enforces.
const (
	// MaxElectionTimeout is etcd's limit.
	MaxElectionTimeout = 50 * time.Second
	// MinElectionHeartbeats is how many heartbeats an election timeout must span: etcd's rule.
	MinElectionHeartbeats = 5
	// MaxMaxRequestBytes keeps one request far below the frame limit between nodes.
	MaxMaxRequestBytes = 32 << 20
	// MaxPartitionBytes bounds the split keys, as text: nodes send them when they greet each other.
	MaxPartitionBytes = 16 << 10
	// MaxMaxTxnOps bounds the work that one transaction can cause at once.
	MaxMaxTxnOps = 100_000
)

// ErrBadOptions is wrapped by everything that Validate and the parsers of
// option values return.
var ErrBadOptions = errors.New("bad options")

// WithDefaults returns a copy in which everything that was left empty has its
// default. A node with nothing but defaults is a cluster of one.
func (o Options) WithDefaults() Options {
	o.Node = o.Node.withDefaults()
	o.Cluster = o.Cluster.withDefaults(o.Node)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (n NodeOptions) withDefaults() NodeOptions {
	n.Name = cmp.Or(n.Name, DefaultName)
	n.DataDir = cmp.Or(n.DataDir, n.Name+".quorate")
	fillURLs(&n.ListenClientURLs, DefaultClientPort)
	fillURLs(&n.AdvertiseClientURLs, DefaultClientPort)
	fillURLs(&n.ListenPeerURLs, DefaultPeerPort)
	fillURLs(&n.AdvertisePeerURLs, DefaultPeerPort)
	n.ListenMetricsURLs, n.ListenHTTPURLs = slices.Clone(n.ListenMetricsURLs), slices.Clone(n.ListenHTTPURLs)
	n.ClientTLS.Role, n.PeerTLS.Role = tlsconf.Clients, tlsconf.Peers
	n.ClientTLS, n.PeerTLS = n.ClientTLS.WithDefaults(), n.PeerTLS.WithDefaults()
	n.AuthToken = cmp.Or(n.AuthToken, "simple")
	n.AuthTokenTTL = cmp.Or(n.AuthTokenTTL, DefaultAuthTokenTTL)
	n.BcryptCost = cmp.Or(n.BcryptCost, authn.DefaultCost)
	n.InitialClusterState = cmp.Or(n.InitialClusterState, ClusterNew)
	n.MaxLearners = cmp.Or(n.MaxLearners, 1)
	n.SnapshotCount = cmp.Or(n.SnapshotCount, DefaultSnapshotCount)
	n.ScrubInterval = cmp.Or(n.ScrubInterval, DefaultScrubInterval)
	n.BackupHoldLimit = cmp.Or(n.BackupHoldLimit, DefaultBackupHoldLimit)
	n.WatchProgressNotifyInterval = cmp.Or(n.WatchProgressNotifyInterval, DefaultWatchProgressNotifyInterval)
	n.MaxConcurrentStreams = cmp.Or(n.MaxConcurrentStreams, DefaultMaxConcurrentStreams)
	n.MaxClientConnections = cmp.Or(n.MaxClientConnections, DefaultMaxClientConnections)
	n.MaxClientMemoryBytes = cmp.Or(n.MaxClientMemoryBytes, DefaultMaxClientMemoryBytes)
	n.MaxConnectionMemoryBytes = cmp.Or(n.MaxConnectionMemoryBytes, DefaultMaxConnectionMemoryBytes)
	n.KeepAlive.MinTime = cmp.Or(n.KeepAlive.MinTime, DefaultKeepAliveMinTime)
	n.KeepAlive.Interval = cmp.Or(n.KeepAlive.Interval, DefaultKeepAliveInterval)
	n.KeepAlive.Timeout = cmp.Or(n.KeepAlive.Timeout, DefaultKeepAliveTimeout)
	return n
}

func (c ClusterOptions) withDefaults(node NodeOptions) ClusterOptions {
	if c.given == nil {
		given := c.settings()
		c.given = &given
	}
	c.Members = cloneMembers(c.Members)
	if len(c.Members) == 0 {
		c.Members = []Member{{Name: node.Name, PeerURLs: slices.Clone(node.AdvertisePeerURLs)}}
	}
	c.Token = cmp.Or(c.Token, DefaultToken)
	c.Consensus = cmp.Or(c.Consensus, ConsensusRaft)
	c.ReadSafety = cmp.Or(c.ReadSafety, ReadLease)
	c.Partition = partitionWithDefaults(c.Partition)
	c.CommitProtocol = cmp.Or(c.CommitProtocol, Commit2PC)
	c.Leaders = cmp.Or(c.Leaders, LeadersSequencer)
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, DefaultHeartbeatInterval)
	c.ElectionTimeout = cmp.Or(c.ElectionTimeout, DefaultElectionTimeout)
	c.QuotaBytes = cmp.Or(c.QuotaBytes, DefaultQuotaBytes)
	c.MaxTxnOps = cmp.Or(c.MaxTxnOps, DefaultMaxTxnOps)
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, DefaultMaxRequestBytes)
	return c
}

// httpURLs are where /metrics and probes are served.
func (n NodeOptions) httpURLs() []URL { return slices.Concat(n.ListenMetricsURLs, n.ListenHTTPURLs) }

// clientSide are the URLs to listen on of all who are not nodes.
func (n NodeOptions) clientSide() []URL { return slices.Concat(n.ListenClientURLs, n.httpURLs()) }
