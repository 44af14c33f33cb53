package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// gatewayTick is how often a node's gateway looks at the time, as in package server.
const gatewayTick = 20 * time.Millisecond

// open puts the parts of a process together, as package server does.
func (n *node) open() error {
	log, engine, err := n.disks.open()
	if err != nil {
		return err
	}
	n.log, n.engine, n.unsynced = log, engine, nil
	n.transport = &transport{node: n}
	n.store, err = driver.Open(n.replicaOptions(log, engine), n.now)
	if err != nil {
		return err
	}
	n.replica = n.store.Replica(1)
	n.gateway, err = gateway.New(n.gatewayOptions())
	return err
}

// dirtyKeyBytes is what a node may keep in memory, and cache, for each key that may be dirty.
const dirtyKeyBytes = 300

// maxLogSegments is how large the real log may become: four segments are written, prepared or kept.
const maxLogSegments = 6

func (n *node) replicaOptions(log *simLog, engine *simEngine) driver.Options {
	p := &n.w.plan
	var nodes []kv.NodeID
	var config consensus.Config
	for i := range p.Nodes {
		nodes = append(nodes, kv.NodeID(i+1))
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	safety := driver.ReadLease
	if p.ReadQuorum {
		safety = driver.ReadQuorum
	}
	seed := n.random.Uint64()
	machines := rand.New(rand.NewPCG(seed, 3)) // after a snapshot there is another machine, which must not draw the same IDs of leases
	o := driver.Options{
		Self: n.id, Nodes: nodes, Log: log, Engine: engine, Transport: n.transport, Files: n.disks.stagedFiles(),
		StagingDir: "staging", Instance: uint64(n.id)<<32 | n.life, Rand: rand.New(rand.NewPCG(seed, 1)), ReadSafety: safety,
		Disk: n.diskID, Lost: n.knowsLoss, Founders: max(p.Phase1Quorum, p.Phase2Quorum), HeartbeatInterval: p.Limits.Heartbeat, RetainLogEntries: p.Limits.RetainLogEntries, FlushLogBytes: p.Limits.FlushLogBytes,
		FlushChunkRows: p.Limits.FlushChunkRows, MaxInflight: p.Limits.MaxInflight,
		MaxLogBytes:   maxLogSegments * p.Limits.Bounds.LogSegmentBytes,
		MaxDirtyBytes: dirtyKeyBytes * int64(p.Limits.MaxDirtyKeys), CacheBytes: dirtyKeyBytes * int64(p.Limits.MaxDirtyKeys),
		NewCore: func(o driver.CoreOptions) (consensus.Core, error) {
			core, err := n.newCore(o, seed)
			n.core = shy{core, n}
			return n.core, err
		}, OutOfOrderLog: p.Protocol == Paxos,
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (driver.Machine, error) {
			m, err := driver.OpenMachine(engine, n.machineOptions(group, logEnd, machines.Uint64()), driver.Founding{Members: config})
			n.machine = m
			return m, err
		},
		ScrubInterval: scrubInterval, ScrubBytesPerSecond: scrubBytesPerSecond,
		Spawn: n.spawn, Wake: n.wake, Listener: n.listener(),
	}
	p.Limits.Bounds.driver(&o)
	return o
}

func (n *node) machineOptions(group consensus.GroupID, logEnd consensus.Index, seed uint64) shard.Options {
	limits := &n.w.plan.Limits
	o := shard.Options{
		Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(seed, 1)), MinLeaseTTLSeconds: 1, LogEnd: logEnd, RoundLooks: limits.RoundLooks, PartBytes: limits.PartBytes,
		Versions: limits.Bounds.versions(rand.New(rand.NewPCG(seed, 2))),
	}
	o.Versions.MaxDirtyKeys, o.Versions.BucketRows = limits.MaxDirtyKeys, 4
	limits.Bounds.machine(&o)
	return o
}

func (n *node) newCore(o driver.CoreOptions, seed uint64) (consensus.Core, error) {
	bytes, uncommitted := n.w.plan.Limits.MaxMessageBytes, n.w.plan.Limits.MaxUncommittedBytes
	if n.w.plan.Protocol == Paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, Rand: rand.New(rand.NewPCG(seed, 2)),
			HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted,
			Phase1Quorum: n.w.plan.Phase1Quorum, Phase2Quorum: n.w.plan.Phase2Quorum}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks,
		HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted}, o.Log)
}

func (n *node) listener() driver.Listener {
	w := n.w
	return driver.Listener{
		RoleChanged: func(group consensus.GroupID, change consensus.RoleChange, leader kv.NodeID) {
			w.happened(traceRole, n.number(), uint64(change.Role)<<32|uint64(leader), uint64(change.Term))
			if change.Role == consensus.RoleLeader {
				w.mark("leader elected")
				w.leads(n, change.Term)
				if w.contest != nil {
					w.contest.elected(n)
				}
			}
			if w.reading() {
				w.line("node %d | %s in term %d, the leader is node %d", n.id, change.Role, change.Term, leader)
			}
			if n.gateway != nil {
				n.gateway.LeaderChanged(kv.ShardID(group))
			}
		},
		NodeLost: func(kv.NodeID) { w.mark("node lost") },
		SnapshotSent: func(_ consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, _ int64, err error) {
			w.mark("snapshot sent")
			if w.reading() {
				w.line("node %d | sent node %d a snapshot at index %d: %v", n.id, to, meta.Index, err)
			}
		},
		SnapshotInstalled: func(_ consensus.GroupID, meta consensus.SnapshotMeta) {
			w.mark("snapshot installed")
			if w.reading() {
				w.line("node %d | installed a snapshot at index %d", n.id, meta.Index)
			}
		},
		Lost:           func(consensus.GroupID, consensus.ReplicaID) { w.mark("loss found out") },
		Joined:         n.joined,
		SlowSync:       func(time.Duration) { w.mark("slow sync") },
		MessageRefused: func(consensus.GroupID, kv.NodeID, error) { w.mark("message refused") },
		Scrubbed:       func(driver.ScrubPass) { w.mark("scrub pass") },
		ScrubFailed: func(err error) {
			if !n.excused && !n.hasNoPower() {
				w.fail(Crash, "node %d cannot read its disks again, and no fault explains it: %v", n.id, err)
			}
		},
		GroupFailed: func(_ consensus.GroupID, err error) { n.failed = err },
		Failed:      func(err error) { n.failed = err },
	}
}

func (n *node) gatewayOptions() gateway.Options {
	p := &n.w.plan
	seed := n.random.Uint64()
	jitter := rand.New(rand.NewPCG(seed, 4))
	n.asks = seed | 1
	o := gateway.Options{
		Self: n.id, Shards: map[kv.ShardID]gateway.Shard{kv.SystemShard: n.replica}, Replaced: n.replica.Replaced, Sender: n.transport,
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, shard.Limits{}) },
		GuestMemory:     n.guestMemory(rand.New(rand.NewPCG(seed, 5))),
		RequestTimeout:  3 * time.Second, Instance: n.asks, Spawn: n.spawn, Clock: n.now,
		Listener: gateway.Listener{
			LeaderLost: func(kv.NodeID, int) { n.w.mark("writes of unknown outcome") },
			BadMessage: func(from kv.NodeID, err error) {
				n.w.fail(Crash, "node %d got a message of node %v that it does not understand: %v", n.id, from, err)
			},
		},
		Watch: watch.Options{
			StreamBytes: p.Limits.WatchRingRecords * 200, RingBytes: p.Limits.WatchRingRecords * 200,
			ProgressInterval: 300 * time.Millisecond, Jitter: jitter.Int64N, Wake: n.wakeHub,
			Listener: watch.Listener{
				Lagging: func(int) { n.w.mark("watch detached") },
				Gap:     func(kv.Revision, kv.Revision) { n.w.mark("watch gap") },
			},
		},
	}
	p.Limits.Bounds.gateway(&o)
	return o
}

// receive takes a frame, as package server's peerHandler does.
func (n *node) receive(from kv.NodeID, channel byte, payload []byte) {
	if channel == gateway.ChannelRequest || channel == gateway.ChannelResponse {
		n.expectKind(from, channel, payload)
		n.gateway.HandleMessage(from, channel, payload)
		return
	}
	if n.understands(channel) {
		n.store.Receive(from, channel, payload)
	}
	n.store.ReceiveDone()
}

func (n *node) peerUp(node kv.NodeID, version uint16) {
	n.store.PeerUp(node, version)
	n.gateway.PeerUp(node, gateway.Dialect{Deadlines: version >= driver.FormatDeadlines, Shards: version >= driver.FormatShards})
}

func (n *node) peerDown(node kv.NodeID, refused bool) {
	n.store.PeerDown(node, refused)
	n.gateway.PeerDown(node)
}

// tick lets the gateway notice deadlines.
func (n *node) tick() {
	n.gateway.Tick(n.now())
	n.pollStreams()
	n.push(n.w.now+gatewayTick, n.tick)
}

// wakeHub plans what the goroutine of a watch hub does.
func (n *node) wakeHub() {
	n.push(n.w.now+n.roundLatency(), func() {
		for n.gateway.DispatchWatches() {
		}
		n.pollStreams()
	})
}
