package driver

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage"
)

// ReadSafety says what a leader's linearizable reads rest on.
type ReadSafety uint8

// The two modes.
const (
	// ReadLease serves them under a lease that a quorum granted, measured on the
	// leader's monotonic clock. It needs clocks that run at the same rate within the drift margin.
	ReadLease ReadSafety = iota
	// ReadQuorum asks a quorum for every batch of reads. It needs no clock.
	ReadQuorum
)

// Options of a Store.
type Options struct {
	Self kv.NodeID
	// Nodes are all nodes of the cluster, this one included, in the same order everywhere, as far as they are known when the node starts; see Driver.Follow.
	Nodes []kv.NodeID
	// Added: the cluster began without this node. It has a replica of a group when a leader of it gives it one.
	Added bool
	// Founders is how many of them, this one included, must have nothing at the same moment until they take the cluster for a new one:
	// at least as many as the largest quorum, for only a leader lets those in that come later. Default and least: more than half.
	Founders int

	Log       storage.Log
	Engine    storage.Engine
	Transport Transport
	// NewCore makes the consensus core of a group from what is durable.
	NewCore func(CoreOptions) (consensus.Core, error)
	// OutOfOrderLog: the protocol accepts entries out of order and on their own (Multi-Paxos), so that what the log holds above the
	// state counts whatever it holds, or lacks, at the state's end.
	OutOfOrderLog bool
	// OpenMachine opens the state machine of a group from the engine. logEnd is the last entry of its log; see shard.Options.LogEnd.
	OpenMachine func(group consensus.GroupID, logEnd consensus.Index) (Machine, error)
	// Groups are the groups this node has a replica of when it starts, each once; nil: group 1. Group n is shard n. See Driver.Add.
	Groups []consensus.GroupID
	// First are, by group, the replicas that it began with. Those of a group that is not here are on all nodes, with the IDs 1, 2, ... in the order of Nodes.
	First map[consensus.GroupID][]membership.Home
	// StagingDir is where snapshots are put together, in Files.
	StagingDir string
	// Files holds staged snapshots. Default: the file system. Export and Ingest of Engine work on the same.
	Files Files

	// HeartbeatInterval is the tick of consensus and the interval between heartbeats of nodes.
	HeartbeatInterval time.Duration
	// ElectionTimeout is how long a silent leader is waited for when nothing shows that it is dead.
	ElectionTimeout time.Duration
	ReadSafety      ReadSafety
	// Instance tells this start of the node apart from all others: a random number.
	Instance uint64
	// Disk tells what is stored in Log and Engine apart from everything that was stored on this node before:
	// a random number, made when both were empty and kept as long as their content is. 0: the node does
	// without the protection that rests on it (for tests of other things).
	Disk uint64
	// Lost tells that Log and Engine are empty because what was there is known to be lost: this node never takes its
	// old replicas up again, and gets new ones as soon as a leader gives it some.
	Lost bool

	// MaxRoundBytes bounds what one round proposes to one group.
	MaxRoundBytes int
	// MaxInflight is how many own rounds of a group may be proposed and not yet applied; while several groups have any, each has one.
	MaxInflight int
	// MaxQueued bounds the requests that are not answered, and MaxQueuedBytes their sizes; more are refused. What is let in should be on disk within the
	// time that its clients wait.
	MaxQueued      int
	MaxQueuedBytes int64
	// MaxBacklogBytes bounds the entries from other nodes, of all groups, that are not durable here; what comes beyond it has to be sent again.
	// It is more than a leader has on the way to one replica (the cores' MaxInflightBytes) and one round's entry, so that a group that is alone
	// does not come there.
	MaxBacklogBytes int64
	// RetainLogEntries and RetainLogBytes bound what the log keeps for followers that fell behind.
	RetainLogEntries uint64
	RetainLogBytes   int64
	// MaxLogBytes is how large the log of all groups may become, what it keeps to be recycled included, before groups that need its oldest part are
	// flushed and keep less for followers.
	MaxLogBytes int64
	// FlushLogEntries and FlushLogBytes are how much log may pile up before the state is made durable.
	FlushLogEntries uint64
	FlushLogBytes   int64
	// MaxDirtyBytes and CacheBytes bound what the machines of all groups together hold in memory: of keys that no flush took yet, and of what is
	// cached. Beyond the first the groups with the most are flushed; a flush may hold as much again. Beyond the second those with the most
	// forget a part.
	MaxDirtyBytes, CacheBytes int64
	// FlushChunkRows is how many latest rows a round writes of a flush in progress.
	FlushChunkRows int
	// KeepHashes is of how many compactions the hash is kept; 0: none is taken.
	KeepHashes int
	// HistoryHeld tells whether no rows are to be deleted that compactions make superfluous, because backups read them; Driver.HistoryReleased says when it
	// does not any more. It is asked in every round that has rows to delete. Default: never.
	HistoryHeld func() bool
	// ScrubInterval is how often everything that Log and Engine have on disk is read again; 0: never.
	ScrubInterval time.Duration
	// ScrubBytesPerSecond is how quickly, at least while the disk is quick.
	ScrubBytesPerSecond int64

	// Numbers gives the groups their revisions, if they are shards of one store: their machines are opened with shard.Options.Sequenced. nil: each has its own.
	Numbers Numbers
	// Sequencing hears what becomes of the groups if they are shards of one store; with Numbers only.
	Sequencing Sequencing

	// Spawn runs work that takes long beside the rounds. Default: a goroutine, which Close waits for.
	Spawn func(work func())
	// Wake is called, from any goroutine, when Round has something to do before NextRound. Default: it wakes the
	// goroutine of Start.
	Wake func()

	Rand     *rand.Rand
	Listener Listener
}

// CoreOptions is what NewCore gets.
type CoreOptions struct {
	Group     consensus.GroupID
	Replica   consensus.ReplicaID
	Log       consensus.LogReader
	HardState consensus.HardState
	Applied   consensus.Index
	Config    consensus.Config
	// ElectionTicks is the election timeout in ticks.
	ElectionTicks int
}

// WithDefaults returns a copy with unset fields filled in.
func (o Options) WithDefaults() Options {
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, 100*time.Millisecond)
	o.ElectionTimeout = cmp.Or(o.ElectionTimeout, 10*o.HeartbeatInterval)
	o.MaxRoundBytes = cmp.Or(o.MaxRoundBytes, 1<<20)
	o.MaxInflight = cmp.Or(o.MaxInflight, 2)
	o.MaxQueued = cmp.Or(o.MaxQueued, 100_000)
	o.MaxQueuedBytes = cmp.Or(o.MaxQueuedBytes, 64<<20)
	o.MaxBacklogBytes = cmp.Or(o.MaxBacklogBytes, 128<<20)
	o.RetainLogEntries = cmp.Or(o.RetainLogEntries, 10_000)
	o.RetainLogBytes = cmp.Or(o.RetainLogBytes, 32<<20)
	o.MaxLogBytes = cmp.Or(o.MaxLogBytes, 192<<20)
	o.FlushLogEntries = cmp.Or(o.FlushLogEntries, 10_000)
	o.FlushLogBytes = cmp.Or(o.FlushLogBytes, 32<<20)
	o.MaxDirtyBytes = cmp.Or(o.MaxDirtyBytes, 16<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, 32<<20)
	o.FlushChunkRows = cmp.Or(o.FlushChunkRows, 512)
	o.ScrubBytesPerSecond = cmp.Or(o.ScrubBytesPerSecond, 1<<20)
	if o.HistoryHeld == nil {
		o.HistoryHeld = func() bool { return false }
	}
	if o.Files == nil {
		o.Files = systemFiles{}
	}
	o.Founders = max(o.Founders, len(o.Nodes)/2+1)
	if o.Groups == nil {
		o.Groups = []consensus.GroupID{consensus.GroupID(kv.SystemShard)}
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Log == nil || o.Engine == nil || o.Transport == nil || o.NewCore == nil || o.OpenMachine == nil:
		return errors.New("driver: log, engine, transport, core and machine must be given")
	case o.Lost && o.Disk == 0:
		return errors.New("driver: a node that has lost its data needs a new disk ID")
	case o.Sequencing != nil && o.Numbers == nil:
		return errors.New("driver: who hears of the shards of one store must give them their revisions")
	case o.Rand == nil:
		return errors.New("driver: a source of randomness must be given")
	case o.ElectionTimeout < 2*o.HeartbeatInterval:
		return fmt.Errorf("driver: election timeout %v is less than two heartbeat intervals of %v", o.ElectionTimeout, o.HeartbeatInterval)
	}
	if slices.Contains(o.Nodes, o.Self) {
		return validateGroups(o.Groups)
	}
	return fmt.Errorf("driver: node %v is not among the nodes of the cluster %v", o.Self, o.Nodes)
}

// leadershipOptions are for the core of leadership of a group.
func leadershipOptions(group consensus.GroupID, o *Options) leadership.Options {
	return leadership.Options{Group: group, Self: o.Self, Nodes: o.Nodes, HeartbeatInterval: o.HeartbeatInterval, PromiseDuration: promiseDuration(*o),
		ElectionTimeout: o.ElectionTimeout, ReadQuorum: o.ReadSafety == ReadQuorum, Rand: o.Rand}
}

// membershipOptions are for the core of membership of the node.
func membershipOptions(o *Options) membership.Options {
	return membership.Options{Self: o.Self, Nodes: o.Nodes, Instance: o.Instance, Disk: o.Disk, Lost: o.Lost,
		HeartbeatInterval: o.HeartbeatInterval, ElectionTimeout: o.ElectionTimeout}
}

// Listener is told what happens. Every field may be nil. The functions are called from the
// driver's goroutine and must be quick.
type Listener struct {
	RoleChanged       func(group consensus.GroupID, change consensus.RoleChange, leader kv.NodeID)
	NodeLost          func(node kv.NodeID)
	SnapshotSent      func(group consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, bytes int64, err error)
	SnapshotInstalled func(group consensus.GroupID, meta consensus.SnapshotMeta)
	SlowSync          func(took time.Duration)
	MessageRefused    func(group consensus.GroupID, from kv.NodeID, err error)
	// Lost: the others know the replica, but nothing of it is here. The node will join as a new one.
	Lost func(group consensus.GroupID, replica consensus.ReplicaID)
	// Joined: this node knows which replica it is, and takes part from now on. Only after a start with nothing on disk.
	Joined func(group consensus.GroupID, replica consensus.ReplicaID)
	// Unwitnessed: nobody has confirmed that what is on this node's disk is what it was. The nodes that are missing might know better; none: it
	// is confirmed now.
	Unwitnessed   func(missing []kv.NodeID)
	ConfigChanged func(group consensus.GroupID, config consensus.Config)
	// NodesChanged: this node has to do with those nodes from now on, itself included. It is told for each change after the start.
	NodesChanged func(nodes []kv.NodeID)
	// ListChanged: this is the applied list of members from now on (Replica.Members). It is told for each change after the start.
	ListChanged func(list *members.List)
	// Removed: the list of members has this node no more, and the group does without it.
	Removed func(group consensus.GroupID)
	// Scrubbed tells of a complete pass; ScrubFailed of one that ended because something could not be read. Damage is told by Failed.
	Scrubbed    func(ScrubPass)
	ScrubFailed func(err error)
	// GroupFailed: the replica of the group can not go on; the node's others do.
	GroupFailed func(group consensus.GroupID, err error)
	// Failed is called once, when the node can not go on.
	Failed func(err error)
}
